/* policy.h: the pool's decisions, as a pure machine.
 *
 * Events go in (somebody wants a connection, one came back, one broke, time passed), decisions come
 * out (open, close, ping, grant). No I/O and no clock: every event brings the time, and randomness
 * where it is needed, so that a simulation can run it with a virtual clock. No memory is taken
 * after creation but by a resize that grows it.
 *
 *                          +--> PARKED --+
 *                          |              v
 *   EMPTY --> CONNECTING   BUSY <------> IDLE <--> PINGING
 *     ^            |                      ^
 *     |            +----------------------+       PARKED: a cancel is in flight
 *     +--- CLOSING <--- any but EMPTY             PINGING: a health check is
 *
 * A closing connection counts against `max` until it is closed.
 * What is opened follows from the state alone (who waits, what is idle, what is on its way), looked
 * at again after every event; no request for a connection is ever counted, so none can be lost.
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
  MP_POLICY_PING_MS = 5000,  /* a health check may take so long */
  MP_POLICY_PARK_MS = 10000, /* and the end of a cancel so long */
  /* The ceiling of the random pause after a failed connect: the first, doubled up to the last. */
  MP_POLICY_BACKOFF_MIN_MS = 50,
  MP_POLICY_BACKOFF_MAX_MS = 5000,
  MP_POLICY_CONNECTS = 2,       /* connects under way at once */
  MP_POLICY_CONNECTS_BURST = 4, /* while the server answers and so many wait */
  MP_POLICY_PINGS = 2,          /* health checks under way at once */
};

#define MP_POLICY_NEVER UINT64_MAX

struct mp_policy_options {
  unsigned min, max, queue_limit;
  uint64_t idle_timeout_ms, max_lifetime_ms, health_interval_ms, leak_ms; /* 0: never */
  uint64_t backoff_max_ms; /* 0: MP_POLICY_BACKOFF_MAX_MS */
  bool impatient;          /* a connect that fails fails who waits, in each outage */
};

enum mp_action_kind {
  MP_ACTION_OPEN,    /* then report connected or connect_failed */
  MP_ACTION_CLOSE,   /* then report closed */
  MP_ACTION_PING,    /* then report pinged */
  MP_ACTION_LEAK,    /* the slot's checkout is held too long; once per checkout */
  MP_ACTION_DRAINED, /* everything is closed and everybody told; nothing comes any more */
};

struct mp_action {
  enum mp_action_kind kind;
  unsigned slot;
  const char *reason; /* of a close; static text */
};

/* What became of one waiter. */
struct mp_delivery {
  void *tag;
  enum mp_code code; /* MP_OK: it has `slot` now; MP_ETIMEOUT, MP_ENODB, MP_ECLOSED */
  unsigned slot;
};

enum mp_release { MP_RELEASE_REUSE, MP_RELEASE_DISCARD, MP_RELEASE_PARK };

struct mp_policy_counts {
  unsigned slots[MP_SLOT_STATE_COUNT]; /* by state */
  unsigned total;                      /* not EMPTY */
  unsigned waiting, min, max;
  uint64_t acquires, timeouts, refused, connects, connect_failures, lost, leaks;
  uint64_t faults;        /* forbidden moves: our own mistakes; each closed one connection */
  bool healthy;           /* the last connect or health check succeeded */
  uint64_t full_since_ms; /* all `max` connections are in use since, or MP_POLICY_NEVER */
};

struct mp_policy;

int mp_policy_new(struct mp_policy **out, const struct mp_policy_options *options, uint64_t now,
                  struct mp_err *err) MP_MUST_CHECK;
void mp_policy_unref(struct mp_policy *policy);

/* ---- events ---- */

/* `ticket` names the waiter until its delivery. Errors: MP_EBUSY (queue full), MP_ECLOSED. */
int mp_policy_acquire(struct mp_policy *policy, uint64_t now, void *tag, uint64_t deadline_ms,
                      unsigned *ticket, struct mp_err *err) MP_MUST_CHECK;
/* The waiter is gone; what it was granted but not yet delivered goes to the next one. */
void mp_policy_abandon(struct mp_policy *policy, uint64_t now, unsigned ticket);
void mp_policy_release(struct mp_policy *policy, uint64_t now, unsigned slot, enum mp_release how);
void mp_policy_connected(struct mp_policy *policy, uint64_t now, unsigned slot, uint64_t random);
void mp_policy_connect_failed(struct mp_policy *policy, uint64_t now, unsigned slot,
                              uint64_t random);
/* It broke. One that is out counts as busy until its holder lets go of it; then, as any other at
 * once, it is closed. */
void mp_policy_lost(struct mp_policy *policy, uint64_t now, unsigned slot);
void mp_policy_closed(struct mp_policy *policy, uint64_t now, unsigned slot);
/* The cancel that kept it parked has ended. */
void mp_policy_unparked(struct mp_policy *policy, uint64_t now, unsigned slot, bool reusable);
void mp_policy_pinged(struct mp_policy *policy, uint64_t now, unsigned slot, bool ok);
/* Whatever was opened up to `opened_ms` leads where nobody wants to go any more: it is closed when
 * nobody uses it. */
void mp_policy_retire(struct mp_policy *policy, uint64_t now, uint64_t opened_ms);
/* The server has answered somebody else: connects need not wait for their back-off any more. */
void mp_policy_reachable(struct mp_policy *policy, uint64_t now);
/* Does all that is due; to be called at mp_policy_wake_ms at the latest, harmless at any time. */
void mp_policy_tick(struct mp_policy *policy, uint64_t now);
/* No new acquires; at `deadline_ms` waiters fail and what is still out is closed. A second call may
 * bring the deadline forward. */
void mp_policy_drain(struct mp_policy *policy, uint64_t now, uint64_t deadline_ms);
int mp_policy_resize(struct mp_policy *policy, uint64_t now, unsigned min, unsigned max,
                     struct mp_err *err) MP_MUST_CHECK;

/* ---- decisions ---- */

/* The next thing to do; false: nothing. */
bool mp_policy_next(struct mp_policy *policy, struct mp_action *out);
/* The next waiter to tell; false: nobody. Until this call a grant is only planned: if the slot
 * breaks or the waiter's time is up before, the plan changes and nobody is told of it. */
bool mp_policy_deliver(struct mp_policy *policy, uint64_t now, struct mp_delivery *out);
bool mp_policy_has_delivery(const struct mp_policy *policy);
/* When the next tick is due, or MP_POLICY_NEVER; may be too early, never too late. */
uint64_t mp_policy_wake_ms(const struct mp_policy *policy);

/* The tag of who has waited longest, or NULL. */
void *mp_policy_oldest(const struct mp_policy *policy);
enum mp_slot_state mp_policy_state(const struct mp_policy *policy, unsigned slot);
void mp_policy_counts(const struct mp_policy *policy, struct mp_policy_counts *out);

#endif
