/* policy.h: the pool's decisions, as a pure machine.
 * Events go in (a caller wants a connection, one was given back, one broke, time passed), decisions
 * come out (open, close, ping, grant). No I/O and no clock: every event brings the time, and
 * randomness where it is needed, so that a simulation can run it with a virtual clock. Memory is
 * allocated at creation and by a resize that grows the pool, at no other time.
 *
 *                          +--> PARKED --+
 *                          |              v
 *   EMPTY --> CONNECTING   BUSY <------> IDLE <--> PINGING
 *     ^            |                      ^
 *     |            +----------------------+       PARKED: a cancel is in flight
 *     +--- CLOSING <--- any but EMPTY             PINGING: a health check is
 *
 * A closing connection counts against `max` until it is closed.
 * What is opened follows from the state alone (who waits, what is idle, what is being opened),
 * judged again after every event. No counter of wanted connections exists, so none can be wrong.
 * Owner: pool.c. */
#ifndef MP_POLICY_H
#define MP_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"
#include "util/sm.h"

/* clang-format off */
#define MP_SLOT_STATE_MAP(X)                                                                  \
  X(EMPTY, MP_TO(MP_SLOT_CONNECTING))                                                         \
  X(CONNECTING, MP_TO(MP_SLOT_IDLE) | MP_TO(MP_SLOT_CLOSING))                                 \
  X(IDLE, MP_TO(MP_SLOT_BUSY) | MP_TO(MP_SLOT_PINGING) | MP_TO(MP_SLOT_CLOSING))              \
  X(BUSY, MP_TO(MP_SLOT_IDLE) | MP_TO(MP_SLOT_PARKED) | MP_TO(MP_SLOT_CLOSING))               \
  X(PARKED, MP_TO(MP_SLOT_IDLE) | MP_TO(MP_SLOT_CLOSING))                                     \
  X(PINGING, MP_TO(MP_SLOT_IDLE) | MP_TO(MP_SLOT_CLOSING))                                    \
  X(CLOSING, MP_TO(MP_SLOT_EMPTY))
/* clang-format on */

enum mp_slot_state {
#define X(name, to) MP_SLOT_##name,
  MP_SLOT_STATE_MAP(X)
#undef X
      MP_SLOT_STATE_COUNT
};

enum {
  MP_POLICY_PING_MS = 5000,  /* limit of a health check */
  MP_POLICY_PARK_MS = 10000, /* limit for the end of a cancel */
  /* Ceiling of the random pause after a failed connect: it begins with the first value and doubles
     up to the last. */
  MP_POLICY_BACKOFF_MIN_MS = 50,
  MP_POLICY_BACKOFF_MAX_MS = 5000,
  MP_POLICY_CONNECTS = 2,       /* connects under way at once */
  MP_POLICY_CONNECTS_BURST = 4, /* while the server answers and that many callers wait */
  MP_POLICY_PINGS = 2,          /* health checks under way at once */
};

#define MP_POLICY_NEVER UINT64_MAX

struct mp_policy_options {
  unsigned min, max, queue_limit;
  uint64_t idle_timeout_ms, max_lifetime_ms, health_interval_ms, leak_ms; /* 0: never */
  uint64_t backoff_max_ms; /* 0: MP_POLICY_BACKOFF_MAX_MS */
  bool impatient;          /* a failed connect fails all waiters, in every outage */
};

enum mp_action_kind {
  MP_ACTION_OPEN,    /* then report connected or connect_failed */
  MP_ACTION_CLOSE,   /* then report closed */
  MP_ACTION_PING,    /* then report pinged */
  MP_ACTION_LEAK,    /* the slot's checkout is held too long; once per checkout */
  MP_ACTION_DRAINED, /* everything is closed and every waiter told; no action follows */
};

struct mp_action {
  enum mp_action_kind kind;
  unsigned slot;
  const char *reason; /* of a close; static text */
};

/* The outcome for one waiter. */
struct mp_delivery {
  void *tag;
  enum mp_code code; /* MP_OK: it has `slot` now; MP_ETIMEOUT, MP_ENODB, MP_EBUSY, MP_ECLOSED */
  unsigned slot;
};

enum mp_release { MP_RELEASE_REUSE, MP_RELEASE_DISCARD, MP_RELEASE_PARK };

struct mp_policy_counts {
  unsigned slots[MP_SLOT_STATE_COUNT]; /* by state */
  unsigned total;                      /* not EMPTY */
  unsigned waiting, min, max;
  uint64_t acquires, timeouts, refused, connects, connect_failures, lost, leaks;
  uint64_t faults; /* forbidden moves, which are faults of the host; each closed one connection */
  bool healthy;    /* the last connect or health check succeeded */
  uint64_t full_since_ms; /* all `max` connections are in use since, or MP_POLICY_NEVER */
};

struct mp_policy;

int mp_policy_new(struct mp_policy **out, const struct mp_policy_options *options, uint64_t now,
                  struct mp_err *err) MP_MUST_CHECK;
void mp_policy_unref(struct mp_policy *policy);

/* ---- events ---- */

/* `ticket` names the waiter until its delivery. Waiters of one `user` are served in the order in
 * which they came, and users take turns (fair.h). `urgent`: it waits in front of all that are not,
 * also where the queue is full, and takes no turn. Errors: MP_EBUSY (queue full), MP_ECLOSED. If
 * the queue is full and its last waiter's user has had more of it, that waiter is refused instead:
 * its delivery is MP_EBUSY. */
int mp_policy_acquire(struct mp_policy *policy, uint64_t now, void *tag, uint64_t user,
                      uint64_t deadline_ms, bool urgent, unsigned *ticket,
                      struct mp_err *err) MP_MUST_CHECK;
/* The waiter is gone. A connection that was granted to it but not delivered goes to the next
 * waiter. */
void mp_policy_abandon(struct mp_policy *policy, uint64_t now, unsigned ticket);
void mp_policy_release(struct mp_policy *policy, uint64_t now, unsigned slot, enum mp_release how);
void mp_policy_connected(struct mp_policy *policy, uint64_t now, unsigned slot, uint64_t random);
void mp_policy_connect_failed(struct mp_policy *policy, uint64_t now, unsigned slot,
                              uint64_t random);
/* The connection broke. It is closed at once, or, while a holder has it, when the holder releases
 * it; until then it counts as busy. */
void mp_policy_lost(struct mp_policy *policy, uint64_t now, unsigned slot);
void mp_policy_closed(struct mp_policy *policy, uint64_t now, unsigned slot);
/* The cancel that kept it parked has ended. */
void mp_policy_unparked(struct mp_policy *policy, uint64_t now, unsigned slot, bool reusable);
void mp_policy_pinged(struct mp_policy *policy, uint64_t now, unsigned slot, bool ok);
/* Connections opened up to `opened_ms` lead to a server that must not be used any more: each is
 * closed as soon as it is free. `opening`: those that were being opened then are opened again. */
void mp_policy_retire(struct mp_policy *policy, uint64_t now, uint64_t opened_ms, bool opening);
/* The server has answered on another connection: connects need not wait for their back-off any
 * more. */
void mp_policy_reachable(struct mp_policy *policy, uint64_t now);
/* Does all that is due. Call it at mp_policy_wake_ms at the latest; a call too early does nothing.
 */
void mp_policy_tick(struct mp_policy *policy, uint64_t now);
/* Takes no new acquires; at `deadline_ms` waiters fail and connections still in use are closed. A
 * second call may bring the deadline forward. */
void mp_policy_drain(struct mp_policy *policy, uint64_t now, uint64_t deadline_ms);
int mp_policy_resize(struct mp_policy *policy, uint64_t now, unsigned min, unsigned max,
                     struct mp_err *err) MP_MUST_CHECK;

/* ---- decisions ---- */

/* The next action; false: none. */
bool mp_policy_next(struct mp_policy *policy, struct mp_action *out);
/* The next waiter to tell; false: none. Until this call a grant is only planned: if the slot breaks
 * or the waiter's time is up before, the plan changes without a word to the waiter. */
bool mp_policy_deliver(struct mp_policy *policy, uint64_t now, struct mp_delivery *out);
bool mp_policy_has_delivery(const struct mp_policy *policy);
/* When the next tick is due, or MP_POLICY_NEVER; may be too early, never too late. */
uint64_t mp_policy_wake_ms(const struct mp_policy *policy);

/* The tag of the waiter who came first, or NULL. Walks through all. */
void *mp_policy_oldest(const struct mp_policy *policy);
enum mp_slot_state mp_policy_state(const struct mp_policy *policy, unsigned slot);
void mp_policy_counts(const struct mp_policy *policy, struct mp_policy_counts *out);

#endif
