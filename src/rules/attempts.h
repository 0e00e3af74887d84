/* attempts.h: one transaction over all its attempts, as a pure machine: events in, actions out. It
 * knows no connection, no Lua and no clock: its driver gives time and randomness and carries out
 * the actions. The driver is txn/txn.c or a simulator.
 *
 *   START -> WAITING -> FRESH -> OPEN <-> FAILED       WAITING: for a connection
 *             ^  |  ____^ |       |         |          FRESH: BEGIN has not been sent
 *             |  v /      |   COMMITTING    |          OPEN: in a transaction
 *             | RESOLVING |    |  |  |      |          FAILED: only ROLLBACK helps
 *             |  |  |     v    v  |  v      v          CANCELING: an unwanted statement still runs
 *            BACKOFF <-- ROLLING_BACK <-- CANCELING    RESOLVING: was the work done?
 *                              |  |                      (a lost COMMIT, a key)
 *                              ENDED                   ENDED: the caller has its answer and the
 *                                                        connection is given back
 *
 * With a shared flush (rules/durable.h) two states stand in front of ENDED, without a connection:
 *
 *   COMMITTING --> UNFLUSHED --> ENDED                       UNFLUSHED: committed, and a crash can
 *                      \--> BACKOFF (in doubt)                 undo it
 *   COMMITTING, FAILED, ROLLING_BACK,
 *     RESOLVING --> HELD --> ENDED                           HELD: the answer tells of others' work
 *                     \--> BACKOFF                             that a crash can undo
 *
 * Rules that it keeps:
 * - BEGIN travels in the segment of the first statements: with a Sync of its own, a failing BEGIN
 * would leave the statements behind it to commit one by one.
 * - COMMIT counts only with the tag COMMIT: a failed transaction answers COMMIT with ROLLBACK and
 * no error.
 * - 40001 and 40P01 restart from the top, from any depth; a savepoint cannot help (the snapshot
 * stays). The first retry is immediate, and none draws on the budget for retries.
 * - A prepared statement that is out of date (MP_ERRF_STALE) costs no attempt: the attempt starts
 * again at once.
 * - A connection that is lost before COMMIT was sent is a rollback. After that the transaction is
 * in doubt. If it left a witness (options.witness), a new connection resolves the doubt before
 * anything else is done; without a witness, or if the deadline passes first, the outcome is
 * unknown.
 * - Nobody hears of work that a crash can undo. If the flush that would have covered it is lost,
 * the transaction's own work is in doubt as after a lost COMMIT; an answer that only tells of
 * others' work is not given: the attempt is repeated.
 * - If the deadline passes while COMMIT is under way or in doubt, MP_TX_GRACE_MS are left for the
 * server or the witness to tell the outcome. No new work begins in that time.
 * - After a failed statement the transaction can only roll back, even if the script catches the
 * error, unless it rolls back to a savepoint that was set before the statement. */
#ifndef MP_TX_H
#define MP_TX_H

#include <stdbool.h>
#include <stdint.h>

#include "rules/isolation.h"
#include "util/err.h"

/* Defaults of a transaction: 3 retries, the first after at most 100 ms. */
#define MP_TX_ATTEMPTS 4
#define MP_TX_BACKOFF_MS 100
#define MP_TX_BACKOFF_CAP_MS 2000
#define MP_TX_GRACE_MS 1000
#define MP_TX_STALE_MOST \
  100 /* stale restarts before it counts as an ordinary failure: the tables keep changing */
#define MP_TX_HISTORY 8 /* failed attempts whose reason is kept */

struct mp_tx_options {
  enum mp_isolation isolation;
  bool read_only;
  bool deferrable;       /* with SERIALIZABLE and read_only: waits for a safe snapshot */
  unsigned max_attempts; /* 1: never retry */
  uint64_t backoff_ms;   /* upper limit of the wait before the second attempt; doubles each time */
  uint64_t backoff_cap_ms;
  uint64_t deadline_ms; /* on the driver's clock, over all attempts */
  bool witness;         /* the driver can find out the outcome of a lost COMMIT */
  bool keyed;           /* each attempt first asks whether the work was done before (RESOLVING) */
};

#define MP_TX_STATE_MAP(X)                                                                         \
  X(START, MP_TO(MP_TX_WAITING))                                                                   \
  X(WAITING,                                                                                       \
    MP_TO(MP_TX_FRESH) | MP_TO(MP_TX_RESOLVING) | MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_ENDED))       \
  X(FRESH,                                                                                         \
    MP_TO(MP_TX_OPEN) | MP_TO(MP_TX_COMMITTING) | MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_ENDED))       \
  X(OPEN, MP_TO(MP_TX_FAILED) | MP_TO(MP_TX_COMMITTING) | MP_TO(MP_TX_ROLLING_BACK) |              \
              MP_TO(MP_TX_CANCELING) | MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_ENDED))                  \
  X(FAILED, MP_TO(MP_TX_OPEN) | MP_TO(MP_TX_ROLLING_BACK) | MP_TO(MP_TX_CANCELING) |               \
                MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_HELD) | MP_TO(MP_TX_ENDED))                     \
  X(CANCELING, MP_TO(MP_TX_ROLLING_BACK) | MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_ENDED))              \
  X(COMMITTING, MP_TO(MP_TX_ROLLING_BACK) | MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_UNFLUSHED) |        \
                    MP_TO(MP_TX_HELD) | MP_TO(MP_TX_ENDED))                                        \
  X(ROLLING_BACK, MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_HELD) | MP_TO(MP_TX_ENDED))                   \
  X(BACKOFF, MP_TO(MP_TX_WAITING) | MP_TO(MP_TX_ENDED))                                            \
  X(RESOLVING, MP_TO(MP_TX_FRESH) | MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_HELD) | MP_TO(MP_TX_ENDED)) \
  X(UNFLUSHED, MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_ENDED))                                          \
  X(HELD, MP_TO(MP_TX_BACKOFF) | MP_TO(MP_TX_ENDED))                                               \
  X(ENDED, 0u)

enum mp_tx_state {
#define X(name, to) MP_TX_##name,
  MP_TX_STATE_MAP(X)
#undef X
};

enum mp_tx_outcome { MP_TX_PENDING, MP_TX_COMMITTED, MP_TX_ROLLED_BACK, MP_TX_UNKNOWN };

/* What the driver does, in this order; several at once are possible. */
enum {
  MP_TX_DO_KILL = 1u << 0, /* the attempt's script must never be resumed */
  MP_TX_DO_CANCEL =
      1u << 1,             /* cancel the statement under way; its segment's end is still reported */
  MP_TX_DO_SEND = 1u << 2, /* send what is queued as a segment, framed as tx->frame says */
  MP_TX_DO_ROLLBACK = 1u << 3, /* send ROLLBACK as a segment */
  MP_TX_DO_RELEASE = 1u << 4,  /* give the connection back */
  MP_TX_DO_DISCARD = 1u << 5,  /* give the connection back, never to be used again */
  MP_TX_DO_ACQUIRE = 1u << 6,  /* ask for a connection */
  MP_TX_DO_WAIT = 1u << 7,     /* tell mp_tx_waited after tx->delay_ms */
  MP_TX_DO_RUN = 1u << 8,      /* start the script from the top, as attempt tx->attempt */
  MP_TX_DO_RESUME =
      1u << 9, /* the flush that the script waits for has ended: its result or its error is there */
  MP_TX_DO_ANSWER = 1u << 10, /* tell the caller tx->outcome and, unless committed, tx->err; once */
  MP_TX_DO_RESOLVE = 1u << 11, /* find out whether the work is committed; then mp_tx_resolved */
  MP_TX_DO_GRACE = 1u << 12,   /* tell mp_tx_grace_over after MP_TX_GRACE_MS unless it has ended */
  MP_TX_DO_HOLD = 1u << 13,    /* what it held is free; tell mp_tx_flushed or mp_tx_flush_lost */
};

/* What the COMMIT that was sent does for the work that it commits, and that it has seen. */
enum mp_tx_flush {
  MP_TX_FLUSHES,        /* it flushes both */
  MP_TX_FLUSHES_LATER,  /* it leaves that to the shared flush */
  MP_TX_CHANGES_NOTHING /* there is nothing to flush, and so it flushes nothing */
};

/* Why an attempt failed, and the wait before the next one. */
struct mp_tx_retry {
  char sqlstate[6]; /* "" : no answer of the server */
  enum mp_code code;
  uint32_t delay_ms; /* 0: no attempt followed, or it followed at once */
};

/* Whether both budgets allow one more retry (rules/budget.h): that of this tenant's calls of the
 * operation, and that of the host. */
enum mp_tx_retries { MP_TX_MAY_RETRY, MP_TX_OWN_RETRIES_SPENT, MP_TX_HOST_RETRIES_SPENT };

struct mp_tx {
  struct mp_tx_options options;
  enum mp_tx_state state;
  enum mp_tx_outcome outcome;
  unsigned attempt;  /* from 1 */
  uint64_t began_ms; /* when it began */
  struct mp_err err; /* the failure that decides */
  bool retry;        /* ROLLING_BACK: another attempt follows */
  bool answered;
  bool in_doubt; /* a COMMIT was lost and may or may not have been carried out */
  bool resolved; /* it was in doubt, and the doubt is resolved */
  bool overdue;  /* the deadline passed while COMMIT was under way or in doubt: `late` */
  struct mp_err late;
  bool in_flight;                 /* a segment has not been answered */
  unsigned savepoints, failed_at; /* depth now; depth at which the transaction FAILED */
  uint64_t delay_ms;
  struct {
    bool begin, commit;
  } frame;
  enum mp_tx_flush flush; /* the driver's to say, with each COMMIT */
  unsigned retries_serialization, retries_deadlock, retries_connection;
  enum mp_tx_retries refused; /* why no further attempt followed; MAY_RETRY: none was refused */
  unsigned stale;             /* attempts that ended because a prepared statement was out of date */
  unsigned waits;             /* back-offs since the attempt began: those of a resolution */
  /* of the last failed attempts; number i at i % MP_TX_HISTORY */
  struct mp_tx_retry history[MP_TX_HISTORY];
  unsigned failed_attempts;
};

/* What the driver brings with an event: its clock, 32 random bits, and whether a retry is allowed.
 */
struct mp_tx_now {
  uint64_t ms;
  uint32_t random;
  enum mp_tx_retries retries;
  bool unflushed; /* a crash could undo work that others can see (mp_durable_pending) */
};

/* The server refused the work because of another transaction (40001, 40P01). The two may succeed
 * one after the other, so a retry is no repetition of what fails anyway: it does not count against
 * the budget for retries. */
bool mp_tx_conflict(const struct mp_err *err);
/* DO_WAIT: whether the retry that follows counts against the budget. */
bool mp_tx_charged(const struct mp_tx *tx);

/* Each event returns MP_TX_DO_* bits. */
unsigned mp_tx_start(struct mp_tx *tx, const struct mp_tx_options *options);
unsigned mp_tx_granted(struct mp_tx *tx, struct mp_tx_now now);
unsigned mp_tx_not_granted(struct mp_tx *tx, const struct mp_err *err, struct mp_tx_now now);
unsigned mp_tx_waited(struct mp_tx *tx);
/* The script waits for a flush of the queued statements. Not to be called when mp_tx_doomed. */
unsigned mp_tx_flush(struct mp_tx *tx);
/* A segment was answered: `failed` is its first failure, or NULL. If it carried COMMIT and nothing
 * failed, `committed` tells whether the tag was COMMIT. */
unsigned mp_tx_segment(struct mp_tx *tx, const struct mp_err *failed, bool committed,
                       struct mp_tx_now now);
/* Call it after mp_tx_segment: the failed statement was sent at this depth of savepoints (0: BEGIN,
 * or what travels with it). Rolling back to a deeper savepoint does not help. */
void mp_tx_failed_at(struct mp_tx *tx, unsigned depth);
/* RESOLVING ended. Either the work is committed (by the lost COMMIT, or earlier under the same
 * key), or it is not, and a lost COMMIT can never take effect any more; or `refused`: the key was
 * used for other work. */
enum mp_tx_verdict { MP_TX_DONE, MP_TX_NOT_DONE, MP_TX_REFUSED };
unsigned mp_tx_resolved(struct mp_tx *tx, enum mp_tx_verdict verdict, const struct mp_err *refused,
                        struct mp_tx_now now);
/* UNFLUSHED, HELD: the flush that covers what it did and saw was answered. */
unsigned mp_tx_flushed(struct mp_tx *tx);
/* The same states: no flush will tell; `err` is marked as a lost connection. */
unsigned mp_tx_flush_lost(struct mp_tx *tx, const struct mp_err *err, struct mp_tx_now now);
/* The host fails the transaction, for example because a promised row is missing. */
unsigned mp_tx_fail(struct mp_tx *tx, const struct mp_err *err);
/* The script returned (err NULL) or raised. `queued`: statements are still queued; `unchecked`: one
 * of them promises a row, which must be checked before COMMIT. */
unsigned mp_tx_finished(struct mp_tx *tx, const struct mp_err *err, bool queued, bool unchecked);
unsigned mp_tx_rolled_back(struct mp_tx *tx, bool clean, struct mp_tx_now now);
/* The connection is gone. `commit_sent`: a COMMIT of work that changed something may have reached
 * the server. */
unsigned mp_tx_lost(struct mp_tx *tx, const struct mp_err *err, bool commit_sent,
                    struct mp_tx_now now);
/* The deadline passed or the caller went away; `err` says which. May be called repeatedly. */
unsigned mp_tx_abort(struct mp_tx *tx, const struct mp_err *err);
unsigned mp_tx_grace_over(struct mp_tx *tx);
/* Until when the driver should wait for a connection, on its own clock; `now_ms`: the time now. */
uint64_t mp_tx_until_ms(const struct mp_tx *tx, uint64_t now_ms);

/* The attempt must start again although it did not fail: the transaction serves several calls, and
 * the caller of one of them is gone (`why`). It costs no call an attempt. Allowed in FRESH, OPEN
 * and FAILED. */
unsigned mp_tx_restart(struct mp_tx *tx, const struct mp_err *why);

/* The connection cannot be used: nothing was sent on it yet, or BEGIN came into the failed
 * transaction of a predecessor, so the server skipped the whole segment. The attempt starts again;
 * that costs no attempt. */
unsigned mp_tx_not_run(struct mp_tx *tx, const struct mp_err *why);

void mp_tx_savepoint(struct mp_tx *tx);          /* one level deeper */
void mp_tx_savepoint_released(struct mp_tx *tx); /* one level up, its work kept */
/* One level up, its work undone: a transaction that FAILED inside is open again. */
void mp_tx_savepoint_undone(struct mp_tx *tx);
/* All levels up, the outermost savepoint's work undone. */
void mp_tx_rewound(struct mp_tx *tx);

/* Only ROLLBACK (or ROLLBACK TO a savepoint) can follow. */
static inline bool mp_tx_doomed(const struct mp_tx *tx) { return tx->state == MP_TX_FAILED; }

/* "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY": static storage. */
const char *mp_tx_begin_sql(const struct mp_tx_options *options);

#endif
