/* pool.h: who may use which connection, and who waits.
 *
 * The pool carries out what its policy (policy.h, a pure machine) decides: it opens, closes and
 * pings connections, and hands them to waiters: each user's in the order in which they came,
 * and the users take turns (fair.h), so that one who asks for many does not keep others waiting.
 * Owner: the runtime.
 * Thread: the loop's. */
#ifndef MP_POOL_H
#define MP_POOL_H

#include <stdint.h>

#include "loop/loop.h"
#include "pg/conn.h"
#include "util/err.h"
#include "util/list.h"

struct mp_pool;

struct mp_series;

/* Where the pool counts seconds (util/metrics.h); NULL: nowhere. */
struct mp_pool_meters {
  struct mp_series *wait, *use, *connect; /* waiting for a connection; holding one; opening one */
};

struct mp_pool_options {
  struct mp_conn_options conn; /* strings are copied */
  unsigned min, max;           /* connections */
  unsigned queue_limit;        /* waiters; one more is refused with MP_EBUSY */
  /* connections above `min` are closed after being idle that long; 0: never */
  uint64_t idle_timeout_ms;
  uint64_t max_lifetime_ms;    /* with up to 10 % jitter, closed when idle; 0: never */
  uint64_t health_interval_ms; /* between health checks of an idle connection */
  uint64_t leak_ms;            /* a checkout held longer is reported with its place; 0: never */
  uint64_t backoff_max_ms;     /* the longest pause between failed connects; 0: as policy.h says */
  bool impatient; /* a failed connect fails all waiters, also after the first success */
  bool quiet;     /* outages are not logged: another pool of the same database logs them */
  struct mp_pool_meters meters;
};

/* One checkout: a value in the caller's memory, from acquire to release. */
struct mp_lease {
  struct mp_list node;
  struct mp_pool *pool;
  struct mp_conn *conn; /* NULL while it waits */
  uint64_t user;        /* who takes turns with others: a hash; 0: the host and scripts */
  uint64_t deadline_ms; /* loop time until which it waits */
  uint64_t since_ms;    /* when it began to wait, then when it got the connection */
  uint64_t since_ns;    /* the same, on the finer clock */
  unsigned slot;        /* the pool's */
  bool leak_told;
  bool urgent;    /* it waits in front of others */
  char where[96]; /* the code that acquired it: "create_deal scripts/create_deal.lua:12"; set by the
                     caller */
  void *data;
  /* Exactly one of the two is called for each successful acquire, unless it is abandoned before. */
  void (*on_grant)(struct mp_lease *lease);
  void (*on_fail)(struct mp_lease *lease, const struct mp_err *err);
};

int mp_pool_open(struct mp_pool **out, struct mp_loop *loop, const struct mp_pool_options *options,
                 struct mp_err *err) MP_MUST_CHECK;

/* Waits for a connection; never calls back before it returns. Errors at once: MP_EBUSY (queue
 * full), MP_ECLOSED (draining). on_fail: MP_ETIMEOUT naming who holds the connections, MP_ENODB
 * with the reason when the database cannot be reached and never could. While an outage lasts
 * waiters wait. */
int mp_pool_acquire(struct mp_pool *pool, struct mp_lease *lease, struct mp_err *err) MP_MUST_CHECK;
/* Gives up waiting: no callback follows. */
void mp_pool_abandon(struct mp_lease *lease);
/* Gives the connection back. One that is not mp_conn_reusable (or lost) is closed and replaced;
 * with `discard` it is closed in any case. While a cancel is in flight it stays parked. */
void mp_pool_release(struct mp_lease *lease, bool discard);

/* Whether the database has the witness table, by which a lost COMMIT is resolved. A transaction
 * that commits asks and keeps the answer here. */
struct mp_pool_witness {
  enum { MP_WITNESS_UNKNOWN, MP_WITNESS_THERE, MP_WITNESS_MISSING } table;
  uint64_t asked_ms; /* loop time; 0: never */
};
struct mp_pool_witness *mp_pool_witness(struct mp_pool *pool);

/* The options that it was opened with; they may hold a secret. */
const char *mp_pool_url(const struct mp_pool *pool);

/* Hands the connection over to another lease, which did not wait; it counts as granted. */
void mp_pool_pass_on(struct mp_lease *from, struct mp_lease *to);

/* Takes no new acquires (MP_ECLOSED), fails the waiters at `deadline_ms`, closes connections as
 * they come back, and those still out at the deadline. on_drained: all are closed. */
void mp_pool_close(struct mp_pool *pool, uint64_t deadline_ms, void (*on_closed)(void *data),
                   void *data);
/* Connections opened up to `opened_ms` lead to a server that must not be used any more: each is
 * closed at once, or when it is released. */
void mp_pool_retire(struct mp_pool *pool, uint64_t opened_ms);
/* The server of `conn` left a question without an answer. Idle connections are closed, and servers
 * that were not silent are tried first; once a new connection leads to another server, which takes
 * writes, those in use are left (mp_pool_leave). */
void mp_pool_suspect(struct mp_pool *pool, const struct mp_conn *conn);
/* The same as mp_pool_retire, and no answer will come from `server` (mp_conn_server): connections
 * to it are broken even while in use, and those that were being opened are opened again. */
void mp_pool_leave(struct mp_pool *pool, uint64_t opened_ms, const char *server);
/* The server has answered on another connection: connects now, without waiting for the back-off. */
void mp_pool_reachable(struct mp_pool *pool);
/* The connection that has been in use longest, or NULL. Borrowed. */
const struct mp_conn *mp_pool_oldest(const struct mp_pool *pool);
/* `on_busy` is called each second while a connection has been in use for longer than two. */
void mp_pool_watch(struct mp_pool *pool, void (*on_busy)(void *data), void *data);
void mp_pool_resize(struct mp_pool *pool, unsigned min, unsigned max);

/* The options of its connections, to open one outside of the pool; borrowed. */
const struct mp_conn_options *mp_pool_conn_options(const struct mp_pool *pool);

struct mp_pool_stats {
  unsigned total, idle, active, waiting, connecting, parked, max, min;
  uint64_t acquires, timeouts, refused, connects, connect_failures, lost, leaks;
  uint64_t started_ms;  /* loop time */
  bool healthy;         /* the last connect or health check succeeded */
  uint64_t full_ms;     /* how long all connections have been in use; 0: they are not */
  uint64_t waited_ms;   /* how long the oldest waiter has waited */
  char last_error[160]; /* of the last failed connect, no secrets */
  char last_sqlstate[6];
};
void mp_pool_stats(const struct mp_pool *pool, struct mp_pool_stats *out);
/* Writes who holds connections, the oldest first: "create_deal scripts/create_deal.lua:12 for 3.1
 * s, a statement running; ..." */
void mp_pool_holders(struct mp_pool *pool, char *out, size_t size);

#endif
