/* pool_internal.h: struct mp_pool, for pool.c and pool_told.c only. */
#ifndef MP_POOL_INTERNAL_H
#define MP_POOL_INTERNAL_H

#include "pg/servers.h"
#include "pool/policy.h"
#include "pool/pool.h"

struct pool_slot {
  struct mp_pool *pool;
  unsigned index;
  struct mp_conn *conn;
  struct mp_lease *lease; /* who has it, until given back or the connection's memory is gone */
  struct mp_req ping;
  struct mp_sync ping_sync;
  bool ping_failed;
  uint64_t opening_ns; /* when its connect began */
};

struct mp_pool {
  struct mp_loop *loop;
  struct mp_policy *policy;
  struct mp_conn_options conn_options; /* the strings are ours */
  char *url, *purpose, *settings;
  struct pool_slot **slots; /* one by one: a connection points into them */
  unsigned slot_count;
  struct mp_list holders; /* leases that have a connection, the oldest first */
  struct mp_timer deliver, wake, park, busy;
  void (*on_busy)(void *data); /* mp_pool_watch */
  void *on_busy_data;
  struct mp_pool_meters meters;
  struct mp_pool_witness witness;
  uint64_t started_ms;
  bool drained, outage_told, quiet;
  void (*on_closed)(void *data);
  void *on_closed_data;
  char last_error[160], last_sqlstate[6];
  char silent[MP_SERVER_KEY]; /* mp_pool_suspect: the server, and when; 0: none */
  uint64_t silent_ms;
};

static inline uint64_t mp_pool_now_ms(const struct mp_pool *pool) {
  return mp_loop_now_ms(pool->loop);
}

/* pool_told.c */
void mp_pool_timeout_error(struct mp_pool *pool, const struct mp_lease *lease, struct mp_err *err);
void mp_pool_tell_leak(struct pool_slot *slot);

#endif
