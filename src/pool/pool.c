/* pool.c: carries out what the policy decides, on real connections and by the loop's clock, and
 * tells waiters of it from the loop. */
#include "pool/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/pool_internal.h"
#include "util/log.h"
#include "util/metrics.h"
#include "util/pre.h"

enum { BUSY_MS = 2000, WATCH_MS = 1000 }; /* see mp_pool_watch */

enum { PARK_POLL_MS = 10 }; /* a parked connection is asked so often whether its cancel has ended */

static uint64_t draw(struct mp_pool *pool) {
  uint64_t random;
  mp_loop_random(pool->loop, &random, sizeof random);
  return random;
}

/* Observes the time since `since_ns`; returns the time now. */
static uint64_t observe(struct mp_pool *pool, struct mp_series *series, uint64_t since_ns) {
  uint64_t now_ns = mp_loop_clock_ns(pool->loop);
  if (series) mp_series_observe(series, (double)(now_ns - since_ns) / 1e9);
  return now_ns;
}

/* ---- carrying out the policy's decisions ---- */

static void pump(struct mp_pool *pool);

static void remember_error(struct mp_pool *pool, const struct mp_err *err) {
  snprintf(pool->last_error, sizeof pool->last_error, "%.*s", (int)sizeof pool->last_error - 1,
           err->msg);
  pool->last_error[strcspn(pool->last_error, "\n")] = '\0';
  memcpy(pool->last_sqlstate, err->sqlstate, sizeof pool->last_sqlstate);
  /* Logged as a warning once per outage; further attempts are logged at debug level. */
  mp_log(pool->outage_told || pool->quiet ? MP_LOG_DEBUG : MP_LOG_WARN, "pool",
         "cannot connect to the database: %s", pool->last_error);
  pool->outage_told = true;
}

/* A standby that answers proves nothing: the primary may be slow. */
static void settle_silence(struct mp_pool *pool, const struct mp_conn *conn) {
  const char *server = mp_conn_server(conn);
  bool same = !strcmp(server, pool->silent);
  if (!pool->silent_ms || (!same && mp_conn_read_only(conn))) return;
  uint64_t silent_ms = pool->silent_ms;
  pool->silent_ms = 0;
  if (same) return; /* then only a connection to it was lost */
  mp_log(MP_LOG_WARN, "pool", "the database server at %s does not answer; another at %s does",
         pool->silent, server);
  mp_pool_leave(pool, silent_ms, pool->silent);
}

static void on_open(struct mp_conn *conn, void *data, const struct mp_err *err) {
  struct pool_slot *slot = data;
  struct mp_pool *pool = slot->pool;
  if (err) {
    remember_error(pool, err);
    mp_policy_connect_failed(pool->policy, mp_pool_now_ms(pool), slot->index, draw(pool));
  } else {
    if (pool->outage_told)
      mp_log(pool->quiet ? MP_LOG_DEBUG : MP_LOG_INFO, "pool", "the database can be reached again");
    pool->outage_told = false;
    observe(pool, pool->meters.connect, slot->opening_ns);
    mp_policy_connected(pool->policy, mp_pool_now_ms(pool), slot->index, draw(pool));
    settle_silence(pool, conn);
  }
  pump(pool);
}

static void on_lost(struct mp_conn *conn, void *data, const struct mp_err *err) {
  struct pool_slot *slot = data;
  struct mp_pool *pool = slot->pool;
  (void)conn;
  const char *holder = slot->lease && slot->lease->where[0] ? slot->lease->where : NULL;
  mp_log(pool->quiet ? MP_LOG_DEBUG : MP_LOG_WARN, "pool", "lost a database connection%s%s: %s",
         holder ? " in use by " : "", holder ? holder : "",
         err ? err->msg : "closed by the server");
  mp_policy_lost(pool->policy, mp_pool_now_ms(pool), slot->index);
  pump(pool);
}

/* The lease ends. Its holder may still have it if the pool was closed by force; its connection is
 * gone then. */
static void detach(struct pool_slot *slot) {
  struct mp_lease *lease = slot->lease;
  slot->lease = NULL;
  if (!lease) return;
  mp_list_remove(&lease->node);
  lease->conn = NULL;
  lease->pool = NULL;
}

static void on_closed(void *data) {
  struct pool_slot *slot = data;
  struct mp_pool *pool = slot->pool;
  slot->conn = NULL;
  detach(slot);
  mp_policy_closed(pool->policy, mp_pool_now_ms(pool), slot->index);
  pump(pool);
}

static void open_conn(struct pool_slot *slot) {
  static const struct mp_conn_events events = {
      .on_open = on_open, .on_lost = on_lost, .on_closed = on_closed};
  struct mp_pool *pool = slot->pool;
  struct mp_err err;
  slot->opening_ns = mp_loop_clock_ns(pool->loop);
  if (!mp_conn_open(&slot->conn, pool->loop, &pool->conn_options, &events, slot, &err)) return;
  slot->conn = NULL;
  remember_error(pool, &err);
  mp_policy_connect_failed(pool->policy, mp_pool_now_ms(pool), slot->index, draw(pool));
  mp_policy_closed(pool->policy, mp_pool_now_ms(pool), slot->index);
}

static void on_ping_done(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct pool_slot *slot = MP_CONTAINER_OF(req, struct pool_slot, ping);
  (void)result;
  if (err) slot->ping_failed = true;
}

static void on_ping_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  struct pool_slot *slot = MP_CONTAINER_OF(sync, struct pool_slot, ping_sync);
  struct mp_pool *pool = slot->pool;
  mp_policy_pinged(pool->policy, mp_pool_now_ms(pool), slot->index, !err && !slot->ping_failed);
  pump(pool);
}

static void ping(struct pool_slot *slot) {
  slot->ping_failed = false;
  slot->ping = (struct mp_req){.sql = "select 1", .flags = MP_REQ_ONCE, .on_done = on_ping_done};
  slot->ping_sync = (struct mp_sync){.on_done = on_ping_sync};
  mp_conn_send(slot->conn, &slot->ping);
  mp_conn_sync(slot->conn, &slot->ping_sync);
}

/* ---- the pump ---- */

static void act(struct mp_pool *pool, const struct mp_action *action) {
  struct pool_slot *slot = action->kind == MP_ACTION_DRAINED ? NULL : pool->slots[action->slot];
  switch (action->kind) {
    case MP_ACTION_OPEN: open_conn(slot); break;
    case MP_ACTION_CLOSE:
      if (slot->conn) mp_conn_close(slot->conn, action->reason);
      break;
    case MP_ACTION_PING: ping(slot); break;
    case MP_ACTION_LEAK: mp_pool_tell_leak(slot); break;
    case MP_ACTION_DRAINED: pool->drained = true; break;
  }
}

static void pump(struct mp_pool *pool) {
  struct mp_action action;
  while (mp_policy_next(pool->policy, &action)) act(pool, &action);

  struct mp_policy_counts counts;
  mp_policy_counts(pool->policy, &counts);
  if (counts.slots[MP_SLOT_PARKED] && !mp_timer_running(&pool->park))
    mp_timer_start(&pool->park, PARK_POLL_MS);
  /* Waiters are told from the loop, never from within an acquire or release. */
  if ((pool->drained || mp_policy_has_delivery(pool->policy)) && !mp_timer_running(&pool->deliver))
    mp_timer_start(&pool->deliver, 0);
  uint64_t wake_ms = mp_policy_wake_ms(pool->policy);
  if (wake_ms == MP_POLICY_NEVER)
    mp_timer_stop(&pool->wake);
  else if (!mp_timer_running(&pool->wake) || pool->wake.due_ms != wake_ms)
    mp_timer_start_at(&pool->wake, wake_ms);
}

static void pool_free(struct mp_pool *pool) {
  mp_timer_stop(&pool->deliver);
  mp_timer_stop(&pool->wake);
  mp_timer_stop(&pool->park);
  mp_timer_stop(&pool->busy);
  for (unsigned i = 0; i < pool->slot_count; i++) free(pool->slots[i]);
  free(pool->slots);
  mp_policy_unref(pool->policy);
  free(pool->url);
  free(pool->purpose);
  free(pool->settings);
  free(pool);
}

static const struct mp_lease *oldest(const struct mp_pool *pool) {
  if (mp_list_empty(&pool->holders)) return NULL;
  return MP_LIST_ENTRY(pool->holders.next, struct mp_lease, node);
}

const struct mp_conn *mp_pool_oldest(const struct mp_pool *pool) {
  return oldest(pool) ? oldest(pool)->conn : NULL;
}

static void on_busy(struct mp_timer *timer) {
  struct mp_pool *pool = MP_CONTAINER_OF(timer, struct mp_pool, busy);
  const struct mp_lease *lease = oldest(pool);
  if (!lease) return;
  mp_timer_start(&pool->busy, WATCH_MS);
  if (mp_pool_now_ms(pool) - lease->since_ms >= BUSY_MS) pool->on_busy(pool->on_busy_data);
}

static void hold(struct mp_pool *pool, struct mp_lease *lease) {
  mp_list_push_back(&pool->holders, &lease->node);
  if (pool->on_busy && !mp_timer_running(&pool->busy)) mp_timer_start(&pool->busy, WATCH_MS);
}

void mp_pool_watch(struct mp_pool *pool, void (*fn)(void *data), void *data) {
  pool->on_busy = fn;
  pool->on_busy_data = data;
}

static void deliver_one(struct mp_pool *pool, const struct mp_delivery *delivery) {
  struct mp_lease *lease = delivery->tag;
  if (delivery->code == MP_OK) {
    struct pool_slot *slot = pool->slots[delivery->slot];
    slot->lease = lease;
    lease->slot = delivery->slot;
    lease->conn = slot->conn;
    lease->since_ms = mp_pool_now_ms(pool);
    lease->since_ns = observe(pool, pool->meters.wait, lease->since_ns);
    hold(pool, lease);
    lease->on_grant(lease);
    return;
  }
  struct mp_err err = {.code = MP_OK};
  if (delivery->code == MP_ETIMEOUT)
    mp_pool_timeout_error(pool, lease, &err);
  else if (delivery->code == MP_ENODB)
    mp_err_set(&err, MP_ENODB, "the database cannot be reached: %s", pool->last_error);
  else if (delivery->code == MP_EBUSY)
    mp_err_set(&err, MP_EBUSY,
               "too many calls of the same tenant or operation wait for a database connection: the "
               "queue is full (MOONPOOL_QUEUE_LIMIT), and others have had less of it; try again "
               "later");
  else
    mp_err_set(&err, delivery->code,
               "the connection pool was closed while this call waited for a connection");
  if (delivery->code == MP_ENODB) memcpy(err.sqlstate, pool->last_sqlstate, sizeof err.sqlstate);
  lease->pool = NULL;
  lease->on_fail(lease, &err);
}

static void on_deliver(struct mp_timer *timer) {
  struct mp_pool *pool = MP_CONTAINER_OF(timer, struct mp_pool, deliver);
  struct mp_delivery delivery;
  while (mp_policy_deliver(pool->policy, mp_pool_now_ms(pool), &delivery))
    deliver_one(pool, &delivery);
  pump(pool);
  if (!pool->drained || mp_policy_has_delivery(pool->policy)) return;
  void (*closed)(void *data) = pool->on_closed;
  void *data = pool->on_closed_data;
  pool_free(pool);
  if (closed) closed(data);
}

static void on_wake(struct mp_timer *timer) {
  struct mp_pool *pool = MP_CONTAINER_OF(timer, struct mp_pool, wake);
  mp_policy_tick(pool->policy, mp_pool_now_ms(pool));
  pump(pool);
}

/* ---- release ---- */

/* Not reusable now, but perhaps when its cancel has ended and all answers have come. An open
 * transaction would not end by itself. */
static bool may_become_reusable(const struct mp_conn *conn) {
  PGTransactionStatusType status = mp_conn_tx_status(conn);
  return status == PQTRANS_IDLE || status == PQTRANS_ACTIVE;
}

static void on_park(struct mp_timer *timer) {
  struct mp_pool *pool = MP_CONTAINER_OF(timer, struct mp_pool, park);
  for (unsigned i = 0; i < pool->slot_count; i++) {
    struct pool_slot *slot = pool->slots[i];
    if (mp_policy_state(pool->policy, i) != MP_SLOT_PARKED) continue;
    if (mp_conn_reusable(slot->conn))
      mp_policy_unparked(pool->policy, mp_pool_now_ms(pool), i, true);
    else if (!may_become_reusable(slot->conn))
      mp_policy_unparked(pool->policy, mp_pool_now_ms(pool), i, false);
  }
  pump(pool);
}

void mp_pool_release(struct mp_lease *lease, bool discard) {
  struct mp_pool *pool = lease->pool;
  if (!pool || !lease->conn) return; /* the pool was closed by force in the meantime */
  struct pool_slot *slot = pool->slots[lease->slot];
  enum mp_release how = MP_RELEASE_DISCARD;
  if (!discard && mp_conn_reusable(lease->conn))
    how = MP_RELEASE_REUSE;
  else if (!discard && may_become_reusable(lease->conn))
    how = MP_RELEASE_PARK;
  observe(pool, pool->meters.use, lease->since_ns);
  detach(slot);
  mp_policy_release(pool->policy, mp_pool_now_ms(pool), slot->index, how);
  pump(pool);
}

void mp_pool_pass_on(struct mp_lease *from, struct mp_lease *to) {
  PRE(from != to);
  struct mp_pool *pool = from->pool;
  if (!pool || !from->conn) return; /* the pool was closed by force in the meantime */
  struct pool_slot *slot = pool->slots[from->slot];
  observe(pool, pool->meters.use, from->since_ns);
  detach(slot);
  slot->lease = to;
  to->pool = pool;
  to->slot = slot->index;
  to->conn = slot->conn;
  to->since_ms = mp_pool_now_ms(pool);
  to->since_ns = mp_loop_clock_ns(pool->loop);
  to->leak_told = false;
  hold(pool, to);
}

/* ---- acquire ---- */

int mp_pool_acquire(struct mp_pool *pool, struct mp_lease *lease, struct mp_err *err) {
  PRE(lease->on_grant && lease->on_fail);
  int rv = mp_policy_acquire(pool->policy, mp_pool_now_ms(pool), lease, lease->user,
                             lease->deadline_ms, lease->urgent, &lease->slot, err);
  if (rv) return rv;
  mp_list_init(&lease->node);
  lease->pool = pool;
  lease->conn = NULL;
  lease->since_ms = mp_pool_now_ms(pool);
  lease->since_ns = mp_loop_clock_ns(pool->loop);
  lease->leak_told = false;
  pump(pool);
  return 0;
}

void mp_pool_abandon(struct mp_lease *lease) {
  struct mp_pool *pool = lease->pool;
  if (!pool || lease->conn) return; /* told already */
  lease->pool = NULL;
  mp_policy_abandon(pool->policy, mp_pool_now_ms(pool), lease->slot);
  pump(pool);
}

/* ---- life ---- */

static bool grow_slots(struct mp_pool *pool, unsigned max) {
  if (max <= pool->slot_count) return true;
  struct pool_slot **slots = realloc(pool->slots, max * sizeof *slots);
  if (!slots) return false;
  pool->slots = slots;
  while (pool->slot_count < max) {
    struct pool_slot *slot = calloc(1, sizeof *slot);
    if (!slot) return false;
    slot->pool = pool;
    slot->index = pool->slot_count;
    pool->slots[pool->slot_count++] = slot;
  }
  return true;
}

static bool copy_string(char **to, const char *from) {
  if (!from) return true;
  *to = strdup(from);
  return *to != NULL;
}

static int pool_init(struct mp_pool *pool, const struct mp_pool_options *options,
                     struct mp_err *err) {
  const struct mp_policy_options policy = {
      .min = options->min,
      .max = options->max,
      .queue_limit = options->queue_limit,
      .idle_timeout_ms = options->idle_timeout_ms,
      .max_lifetime_ms = options->max_lifetime_ms,
      .health_interval_ms = options->health_interval_ms,
      .leak_ms = options->leak_ms,
      .backoff_max_ms = options->backoff_max_ms,
      .impatient = options->impatient,
  };
  int rv = mp_policy_new(&pool->policy, &policy, mp_pool_now_ms(pool), err);
  if (rv) return rv;
  if (!copy_string(&pool->url, options->conn.url) ||
      !copy_string(&pool->settings, options->conn.settings) ||
      !copy_string(&pool->purpose, options->conn.purpose) || !grow_slots(pool, options->max))
    return mp_err_set(err, MP_ENOMEM, "no memory for a connection pool");
  pool->conn_options = options->conn;
  pool->quiet = options->quiet;
  pool->meters = options->meters;
  pool->conn_options.url = pool->url;
  pool->conn_options.purpose = pool->purpose;
  pool->conn_options.settings = pool->settings;
  return 0;
}

struct mp_pool_witness *mp_pool_witness(struct mp_pool *pool) {
  return &pool->witness;
}

const char *mp_pool_url(const struct mp_pool *pool) { return pool->url; }

int mp_pool_open(struct mp_pool **out, struct mp_loop *loop, const struct mp_pool_options *options,
                 struct mp_err *err) {
  struct mp_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return mp_err_set(err, MP_ENOMEM, "no memory for a connection pool");
  pool->loop = loop;
  mp_list_init(&pool->holders);
  mp_timer_init(&pool->deliver, loop, on_deliver);
  mp_timer_init(&pool->wake, loop, on_wake);
  mp_timer_init(&pool->park, loop, on_park);
  mp_timer_init(&pool->busy, loop, on_busy);
  pool->started_ms = mp_pool_now_ms(pool);
  int rv = pool_init(pool, options, err);
  if (rv) {
    pool_free(pool);
    return rv;
  }
  *out = pool;
  pump(pool); /* the policy asked for `min` connections when it was made */
  return 0;
}

void mp_pool_close(struct mp_pool *pool, uint64_t deadline_ms, void (*closed)(void *data),
                   void *data) {
  if (closed) {
    pool->on_closed = closed;
    pool->on_closed_data = data;
  }
  mp_policy_drain(pool->policy, mp_pool_now_ms(pool), deadline_ms);
  pump(pool);
}

void mp_pool_retire(struct mp_pool *pool, uint64_t opened_ms) {
  mp_policy_retire(pool->policy, mp_pool_now_ms(pool), opened_ms, false);
  pump(pool);
}

void mp_pool_suspect(struct mp_pool *pool, const struct mp_conn *conn) {
  struct mp_servers *servers = pool->conn_options.servers;
  pool->silent_ms = mp_pool_now_ms(pool);
  snprintf(pool->silent, sizeof pool->silent, "%s", mp_conn_server(conn));
  if (servers) mp_servers_shun(servers, pool->silent, pool->silent_ms);
  mp_pool_retire(pool, pool->silent_ms);
}

void mp_pool_leave(struct mp_pool *pool, uint64_t opened_ms, const char *server) {
  struct mp_err err;
  mp_err_set(&err, MP_ECONN, "the database server at %.90s no longer answers", server);
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  for (unsigned i = 0; i < pool->slot_count; i++) {
    struct mp_conn *conn = pool->slots[i]->lease ? pool->slots[i]->conn : NULL;
    bool old = conn && mp_conn_alive(conn) && mp_conn_opened_ms(conn) <= opened_ms;
    if (old && !strcmp(mp_conn_server(conn), server)) mp_conn_break(conn, &err);
  }
  mp_policy_retire(pool->policy, mp_pool_now_ms(pool), opened_ms, true);
  pump(pool);
}

void mp_pool_reachable(struct mp_pool *pool) {
  mp_policy_reachable(pool->policy, mp_pool_now_ms(pool));
  pump(pool);
}

void mp_pool_resize(struct mp_pool *pool, unsigned min, unsigned max) {
  struct mp_err err = {.code = MP_OK};
  if (max <= 100000 && !grow_slots(pool, max))
    mp_err_set(&err, MP_ENOMEM, "no memory for a pool of %u connections", max);
  else if (!mp_policy_resize(pool->policy, mp_pool_now_ms(pool), min, max, &err))
    pump(pool);
  if (err.code) mp_log(MP_LOG_ERROR, "pool", "cannot resize the pool: %s", err.msg);
}

const struct mp_conn_options *mp_pool_conn_options(const struct mp_pool *pool) {
  return &pool->conn_options;
}
