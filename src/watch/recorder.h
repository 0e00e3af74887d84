/* recorder.h: what calls of operations did, step by step: those under way, the last ones, and (in
 * rings of their own, so that traffic does not wash them away) those that failed, were retried or
 * were slow, and those that a list has shown.
 *
 * A flight is one call: begun and ended by ops/call.c, noted in by the transaction that carries it
 * (txn/notes.c). Always on, and bounded: so many flights, so many notes in each. No value of a
 * parameter is kept. Owner: the runtime. A NULL flight is fine everywhere: nobody records. */
#ifndef MP_RECORDER_H
#define MP_RECORDER_H

#include <lua.h>
#include <stdbool.h>

#include "loop/loop.h"
#include "sql/stmt.h"
#include "util/err.h"
#include "util/label.h"

#define MP_FLIGHTS 200      /* in each ring */
#define MP_FLIGHT_NOTES 100 /* in a flight; what comes then is only counted */

/*  kind        in Lua        what `n` and the text are */
#define MP_NOTE_MAP(X)                                                                       \
  X(QUEUED, "queued")       /* in its lane: -, the call that holds it */                     \
  X(LANE, "lane")           /* it has its turn */                                            \
  X(WAITS, "waits")         /* for a connection */                                           \
  X(CONNECTED, "connected") /* has one: the backend's pid */                                 \
  X(ATTEMPT, "attempt")     /* the script starts: the how-manieth */                         \
  X(SENT, "sent")           /* a round trip begins: its number; "begin", "commit" or both */ \
  X(STATEMENT, "statement") /* travels in it: -, its place */                                \
  X(BLOCKED, "blocked")     /* by a lock in the database: the backend that has it, who */    \
  X(ANSWERED, "answered")   /* the round trip is over: its number */                         \
  X(FAILED, "failed")       /* with this: -, SQLSTATE and message */                         \
  X(ROLLBACK, "rollback")   /* is sent */                                                    \
  X(BACKOFF, "backoff")     /* before the next attempt: ms, why */                           \
  X(RESOLVE, "resolve")     /* COMMIT's answer was lost: is it there? */

enum mp_note_kind {
#define X(name, text) MP_NOTE_##name,
  MP_NOTE_MAP(X)
#undef X
};

struct mp_recorder;
struct mp_flight;

/* Calls that took longer than `slow_ms` are kept longer; 0: none for that. */
int mp_recorder_new(struct mp_recorder **out, struct mp_loop *loop, uint64_t slow_ms,
                    struct mp_err *err) MP_MUST_CHECK;
void mp_recorder_unref(struct mp_recorder *recorder);

/* NULL: no memory; the call goes on without. `label`: what its log lines are about, its id and
 * operation among it; a reference is taken. The strings are copied; `lane` and `caller` may be
 * NULL. */
struct mp_flight *mp_flight_begin(struct mp_recorder *recorder, struct mp_label *label,
                                  const char *caller, const char *lane);
void mp_flight_note(struct mp_flight *flight, enum mp_note_kind kind, unsigned n, const char *text);
void mp_flight_statement(struct mp_flight *flight, const struct mp_stmt *stmt);

struct mp_flight_end {
  const char *outcome;      /* "committed", "failed" … static text */
  const struct mp_err *err; /* NULL: none */
  unsigned attempts, round_trips, group;
};
/* The recorder's from here on: the pointer is good for nothing more, but for who took a
 * reference. */
void mp_flight_end(struct mp_flight *flight, const struct mp_flight_end *end);
/* For who may still be at work for a call that has its answer: what he notes then is not kept. NULL
 * for NULL. */
struct mp_flight *mp_flight_ref(struct mp_flight *flight);
void mp_flight_unref(struct mp_flight *flight);
struct mp_label *mp_flight_label(const struct mp_flight *flight); /* borrowed; NULL for NULL */

/* Pushes an array of up to `limit` { id=, operation=, caller=, began=, duration=, outcome=,
 * attempts=, error= …}, newest first, those under way in front. `notable`: only what failed, was
 * retried or slow. They can be asked for with mp_recorder_push_one for some time, whatever ends
 * meanwhile. [-0, +1] */
void mp_recorder_push(lua_State *L, struct mp_recorder *recorder, size_t limit, bool notable);
/* Pushes one with its notes { at=, kind=, n=, text=, query= }, times in ms since it began; nil:
 * gone. [-0, +1] */
void mp_recorder_push_one(lua_State *L, struct mp_recorder *recorder, const char *id);

/* Pushes an array of the backends that calls have been waiting for for `ms`. [-0, +1] */
void mp_recorder_push_waiting(lua_State *L, struct mp_recorder *recorder, uint64_t ms);
/* What `backend` does for its calls waits for a lock of the backend `holder`: noted and logged,
 * once in a round trip. `other` says who that is if it is none of ours. */
void mp_recorder_blocked(struct mp_recorder *recorder, unsigned backend, unsigned holder,
                         const char *other);
/* Who holds what another waits for: "OPERATION at FILE:LINE, call ID"; "another call" for NULL. */
void mp_flight_say(const struct mp_flight *flight, char *out, size_t size);

/* Calls that have ended since the start. */
uint64_t mp_recorder_ended(const struct mp_recorder *recorder);
/* Pushes an array of up to `limit` that ended as number `*from` or later, counted from 0, oldest
 * first: with notes, and `began_us`, `span_id`, `parent_id`, `unsampled`. `*from` becomes the
 * number behind the last. Gives how many were gone by now. [-0, +1] */
uint64_t mp_recorder_push_ended(lua_State *L, struct mp_recorder *recorder, uint64_t *from,
                                size_t limit);

/* txn/notes.c: notes in the flights of all calls that share the transaction and still wait for
 * their answer. */
struct mp_txn;
void mp_txn_note(struct mp_txn *txn, enum mp_note_kind kind, unsigned n, const char *text);
void mp_txn_note_error(struct mp_txn *txn, enum mp_note_kind kind, unsigned n,
                       const struct mp_err *err);

#endif
