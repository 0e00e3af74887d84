/* recorder.h: what calls of operations did, step by step: calls under way and the last ones; and in
 * rings of their own, so that traffic does not push them out, calls that failed, were retried or
 * were slow, and calls that a list has shown.
 *
 * A flight is one call: begun and ended by ops/call.c, noted in by the transaction that carries it
 * (txn/notes.c). Always on and bounded: a fixed number of flights, and of notes in each. Parameter
 * values are never kept. Owner: the runtime. Every function accepts a NULL flight and records
 * nothing then. */
#ifndef MP_RECORDER_H
#define MP_RECORDER_H

#include <lua.h>
#include <stdbool.h>

#include "loop/loop.h"
#include "sql/stmt.h"
#include "util/err.h"
#include "util/label.h"

#define MP_FLIGHTS 200      /* in each ring */
#define MP_FLIGHT_NOTES 100 /* in a flight; further notes are only counted */

/*  kind        in Lua        what `n` and the text are */
#define MP_NOTE_MAP(X)                                                                       \
  X(QUEUED, "queued")       /* in its lane: its place, the call that holds it */             \
  X(LANE, "lane")           /* it has its turn */                                            \
  X(WAITS, "waits")         /* for a connection */                                           \
  X(CONNECTED, "connected") /* has one: the backend's pid */                                 \
  X(ATTEMPT, "attempt")     /* the script starts: attempt number n, from 1 */                \
  X(SENT, "sent")           /* a round trip begins: its number; "begin", "commit" or both */ \
  X(STATEMENT, "statement") /* travels in it: its rows if it is merged, its place */         \
  X(BLOCKED, "blocked")     /* by a lock in the database: the backend that has it, who */    \
  X(ANSWERED, "answered")   /* the round trip is over: its number */                         \
  X(FAILED, "failed")       /* with this: -, SQLSTATE and message */                         \
  X(ROLLBACK, "rollback")   /* is sent */                                                    \
  X(BACKOFF, "backoff")     /* before the next attempt: ms, why */                           \
  X(RESOLVE, "resolve")     /* COMMIT's answer was lost: its outcome is asked for */         \
  X(FLUSH, "flush")         /* it is over, and waits for the shared flush */

enum mp_note_kind {
#define X(name, text) MP_NOTE_##name,
  MP_NOTE_MAP(X)
#undef X
};

struct mp_recorder;
struct mp_flight;

/* Calls that took longer than `slow_ms` are kept in a ring of their own; 0: no such ring. */
int mp_recorder_new(struct mp_recorder **out, struct mp_loop *loop, uint64_t slow_ms,
                    struct mp_err *err) MP_MUST_CHECK;
void mp_recorder_unref(struct mp_recorder *recorder);

/* NULL: no memory; the call goes on without. `label`: what its log lines are about, its id and
 * operation among it; a reference is taken. The strings are copied; `lane` and `caller` may be
 * NULL. */
struct mp_flight *mp_flight_begin(struct mp_recorder *recorder, struct mp_label *label,
                                  const char *caller, const char *lane);
void mp_flight_note(struct mp_flight *flight, enum mp_note_kind kind, unsigned n, const char *text);
/* `inserts`: so many go as this one; 1: it goes by itself. */
void mp_flight_statement(struct mp_flight *flight, const struct mp_stmt *stmt, unsigned inserts);

struct mp_flight_end {
  const char *outcome;      /* "committed", "failed" … static text */
  const struct mp_err *err; /* NULL: none */
  unsigned attempts, round_trips, group;
};
/* Ends the flight and hands it to the recorder: the caller must not use the pointer again unless it
 * holds a reference. */
void mp_flight_end(struct mp_flight *flight, const struct mp_flight_end *end);
/* Takes a reference, for a part that may still work for a call that is answered; notes made then
 * are not kept. NULL for NULL. */
struct mp_flight *mp_flight_ref(struct mp_flight *flight);
void mp_flight_unref(struct mp_flight *flight);
struct mp_label *mp_flight_label(const struct mp_flight *flight); /* borrowed; NULL for NULL */

/* Pushes an array of up to `limit` { id=, operation=, caller=, began=, duration=, outcome=,
 * attempts=, error= …}, newest first, those under way in front. `notable`: only what failed, was
 * retried or slow. mp_recorder_push_one gives their notes for some time, however many calls end in
 * between. [-0, +1] */
void mp_recorder_push(lua_State *L, struct mp_recorder *recorder, size_t limit, bool notable);
/* Pushes one with its notes { at=, kind=, n=, text=, query= }, times in ms since it began; nil:
 * gone. [-0, +1] */
void mp_recorder_push_one(lua_State *L, struct mp_recorder *recorder, const char *id);

/* Pushes an array of the backends that calls have been waiting for for `ms`. [-0, +1] */
void mp_recorder_push_waiting(lua_State *L, struct mp_recorder *recorder, uint64_t ms);
/* Describes the call that uses the backend, as mp_flight_say; false: none of this recorder. */
bool mp_recorder_user(const struct mp_recorder *recorder, unsigned backend, char *out, size_t size);
/* The statement of `backend` waits for a lock of the backend `holder`, which `who` describes: notes
 * and logs it, once per round trip. */
void mp_recorder_blocked(struct mp_recorder *recorder, unsigned backend, unsigned holder,
                         const char *who);
/* Describes a call that blocks another: "OPERATION at FILE:LINE, call ID"; "another call" for NULL.
 */
void mp_flight_say(const struct mp_flight *flight, char *out, size_t size);

/* Calls that have ended since the start. */
uint64_t mp_recorder_ended(const struct mp_recorder *recorder);
/* Pushes an array of up to `limit` that ended as number `*from` or later, counted from 0, oldest
 * first: with notes, and `began_us`, `span_id`, `parent_id`, `unsampled`. Sets `*from` to the
 * number after the last one. Returns how many were already gone. [-0, +1] */
uint64_t mp_recorder_push_ended(lua_State *L, struct mp_recorder *recorder, uint64_t *from,
                                size_t limit);

#endif
