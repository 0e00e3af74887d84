/* link.h: the connection of one transaction: asked for, held, handed over to the next transaction
 * of a lane (its successor), given back. It knows no transaction: its owner decides what to send.
 *
 *   NONE --> WAITING --> HELD <--> LENT --> NONE      WAITING: for the pool
 *    |  \--> REFUSED      |  \     /                  REFUSED: by the pool; told on the next turn
 *    |          \-> NONE  |   v   v                   HELD: its own
 *    |                    |  RETURNING --> NONE       LENT: its own; the successor sends on it too
 *    |                    |      ^                    RETURNING: goes back once all is answered
 *    \--> BORROWED -------/      |                    BORROWED: still the predecessor's
 *          |   \--> UNWANTED ----/                    UNWANTED: borrowed, and of no use any more
 *          v            |
 *         LOST <--------/                             LOST: broke while borrowed; all sent fails
 *
 * From WAITING, BORROWED, UNWANTED and LOST it may also become NONE: nothing was sent, or all that
 * was sent has failed.
 *
 * The hand-over: while the predecessor's COMMIT is on its way, the successor sends its BEGIN and
 * first statements behind it. The server works in the order in which things were sent, so the
 * successor's answers come behind COMMIT's, and show how the predecessor ended:
 *
 *   COMMIT succeeded, or failed and so ended its transaction: BEGIN succeeds, all is as always
 *   a statement in front of COMMIT failed: BEGIN fails with 25P02 and the server skips all behind
 *     it; nothing was done, and the successor starts again
 *   the connection was lost: as always, the attempt is retried, or its witness is looked up
 *
 * A successor that has sent nothing when its predecessor fails starts again on another connection.
 *
 * Owner: the transaction that it is embedded in. No event comes before the function that causes it
 * has returned, but for those of a hand-over, which reach the other transaction at once. */
#ifndef MP_LINK_H
#define MP_LINK_H

#include "pool/pool.h"
#include "util/sm.h"

#define MP_LINK_MAP(X)                                                                         \
  X(NONE, MP_TO(MP_LINK_WAITING) | MP_TO(MP_LINK_REFUSED) | MP_TO(MP_LINK_BORROWED))           \
  X(WAITING, MP_TO(MP_LINK_HELD) | MP_TO(MP_LINK_NONE))                                        \
  X(REFUSED, MP_TO(MP_LINK_NONE))                                                              \
  X(HELD, MP_TO(MP_LINK_LENT) | MP_TO(MP_LINK_RETURNING))                                      \
  X(LENT, MP_TO(MP_LINK_HELD) | MP_TO(MP_LINK_RETURNING) | MP_TO(MP_LINK_NONE))                \
  X(BORROWED,                                                                                  \
    MP_TO(MP_LINK_HELD) | MP_TO(MP_LINK_UNWANTED) | MP_TO(MP_LINK_LOST) | MP_TO(MP_LINK_NONE)) \
  X(UNWANTED, MP_TO(MP_LINK_RETURNING) | MP_TO(MP_LINK_LOST) | MP_TO(MP_LINK_NONE))            \
  X(LOST, MP_TO(MP_LINK_NONE))                                                                 \
  X(RETURNING, MP_TO(MP_LINK_NONE))

enum mp_link_state {
#define X(name, to) MP_LINK_##name,
  MP_LINK_MAP(X)
#undef X
};

/* What the pool does with the connection when it comes back. The value only rises. */
enum mp_link_fate {
  MP_FATE_REUSE,
  MP_FATE_CLOSE_AFTER, /* a statement left session state behind: no other transaction may get it */
  MP_FATE_CLOSE_NOW    /* it is broken, or its state is not known */
};

/* The lock between hosts, a session lock around the transaction of a lane. It serves speed, never
 * correctness: a transaction is right without it.
 *
 *   NONE --> HELD <--> RELEASING --> NONE          HELD: from the moment in which it is asked for
 *      \--> INHERITED --> HELD                     INHERITED: the predecessor holds it */
#define MP_LANE_LOCK_MAP(X)                                         \
  X(NONE, MP_TO(MP_LANE_LOCK_HELD) | MP_TO(MP_LANE_LOCK_INHERITED)) \
  X(HELD, MP_TO(MP_LANE_LOCK_RELEASING) | MP_TO(MP_LANE_LOCK_NONE)) \
  X(INHERITED, MP_TO(MP_LANE_LOCK_HELD) | MP_TO(MP_LANE_LOCK_NONE)) \
  X(RELEASING, MP_TO(MP_LANE_LOCK_HELD) | MP_TO(MP_LANE_LOCK_NONE))

enum mp_lane_lock_state {
#define X(name, to) MP_LANE_LOCK_##name,
  MP_LANE_LOCK_MAP(X)
#undef X
};

struct mp_lane_lock {
  enum mp_lane_lock_state state;
  struct mp_req lock, unlock;
  struct mp_sync lock_sync, unlock_sync;
  char key[24];
  const char *values[1];
};

/* What the server must answer within a time; else the connection is given up. */
enum mp_link_awaits {
  MP_AWAITS_CANCEL,
  MP_AWAITS_ROLLBACK,
  MP_AWAITS_COMMIT,
  MP_AWAITS_UNLOCK,
  MP_AWAITS_QUESTION
};

struct mp_link;
struct mp_link_events {
  void (*on_granted)(struct mp_link *link);
  void (*on_refused)(struct mp_link *link, const struct mp_err *err);
  /* BORROWED is over: the connection is this link's own now. */
  void (*on_inherited)(struct mp_link *link);
  /* Borrowed, and nothing was sent: the link is NONE again; its owner must ask the pool. */
  void (*on_evicted)(struct mp_link *link);
  /* The answer that mp_link_expect named did not come in time; `err` says which. */
  void (*on_overdue)(struct mp_link *link, const struct mp_err *err);
  void (*on_unlocked)(struct mp_link *link);
};

struct mp_link {
  const struct mp_link_events *events;
  struct mp_loop *loop;
  struct mp_pool *pool;
  uint64_t user; /* of the pool, who takes turns with others */
  enum mp_link_state state;
  enum mp_link_fate fate;
  struct mp_lease lease;
  unsigned unanswered; /* segments */
  struct mp_timer give_up;
  enum mp_link_awaits awaits; /* while give_up runs */
  uint64_t awaits_ms;
  struct mp_timer refusal; /* REFUSED: tells `refused` on the next turn */
  struct mp_err refused;
  struct mp_lane_lock lock;
  struct mp_link *front, *behind; /* BORROWED: whose; LENT: to whom */
  unsigned chain;                 /* transactions that have had the connection one after another */
  bool cancel_wanted;             /* BORROWED: cancel as soon as HELD */
  bool front_failed;              /* the predecessor failed: the server may have skipped all */
};

void mp_link_init(struct mp_link *link, struct mp_loop *loop, struct mp_pool *pool,
                  int64_t lock_key, uint64_t user, const struct mp_link_events *events);
void mp_link_fini(struct mp_link *link); /* mp_link_quiet */

/* Asks the pool. `where`: shown in reports. on_granted or on_refused follows. */
void mp_link_acquire(struct mp_link *link, uint64_t until_ms, bool urgent, const char *where);
void mp_link_stop_waiting(struct mp_link *link); /* if it waits: no event follows */

/* NULL: nothing can be sent. */
static inline struct mp_conn *mp_link_conn(const struct mp_link *link) { return link->lease.conn; }
unsigned mp_link_backend(const struct mp_link *link); /* its pid; 0: there is none */
/* Ends a segment. mp_link_answered: first thing in its on_done. */
void mp_link_sync(struct mp_link *link, struct mp_sync *sync);
void mp_link_answered(struct mp_link *link);
/* Cancels the statement under way, but only while the connection is surely this link's own. */
int mp_link_cancel(struct mp_link *link, struct mp_err *err) MP_MUST_CHECK;
/* The connection was lost. Unless the server itself ended it, its backend may go on and hold locks:
 * ends that backend. */
void mp_link_reap(struct mp_link *link, const struct mp_err *lost);
void mp_link_expect(struct mp_link *link, enum mp_link_awaits what, uint64_t ms);
static inline void mp_link_expect_nothing(struct mp_link *link) { mp_timer_stop(&link->give_up); }
static inline bool mp_link_expects(const struct mp_link *link) {
  return mp_timer_running(&link->give_up);
}

void mp_link_spoil(struct mp_link *link,
                   enum mp_link_fate fate); /* raises its fate to at least `fate` */
/* It is not needed any more; mp_link_settle gives it back. Harmless in each state. */
void mp_link_release(struct mp_link *link);
/* Gives the connection up: what is under way fails on the next turn. */
void mp_link_break(struct mp_link *link, const struct mp_err *why);
/* Gives the connection back if it was released and nothing is under way on it. With
 * MP_FATE_CLOSE_NOW it does not wait for answers. */
void mp_link_settle(struct mp_link *link);
bool mp_link_quiet(const struct mp_link *link); /* no connection of its own, no answer due */

/* ---- the lock between hosts ---- */

/* Takes the lock in a segment in front of BEGIN, so that the snapshot is taken under the lock. */
void mp_link_lock(struct mp_link *link); /* does nothing if the lock is not NONE */
void mp_link_unlock(struct mp_link *link);

/* ---- the hand-over ---- */

/* May another send behind the COMMIT that was sent? */
bool mp_link_may_lend(const struct mp_link *link);
void mp_link_borrow(struct mp_link *link, struct mp_link *front, const char *where);
void mp_link_unborrow(struct mp_link *link); /* the borrower has sent nothing, or all has failed */
/* A successor that has sent nothing yet starts again on another connection. */
void mp_link_evict(struct mp_link *link);
/* COMMIT was answered: the connection goes to the successor, which must exist. */
void mp_link_hand_over(struct mp_link *link);
/* The connection is lost, and with it all that the successor has sent. */
void mp_link_leave_behind(struct mp_link *link);

#endif
