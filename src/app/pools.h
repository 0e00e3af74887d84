/* pools.h: the connection pools of a runtime: the default database's, one connection to the same
 * for what the host itself asks, and what scripts open. Owner: the runtime; all are closed before
 * the loop is. */
#ifndef MP_POOLS_H
#define MP_POOLS_H

#include "app/config.h"
#include "pg/servers.h"
#include "pool/pool.h"

struct mp_pools {
  struct mp_loop *loop;
  const struct mp_config *config; /* numbers only */
  struct mp_list list;            /* struct open_pool */
  bool closing;
  struct mp_servers servers; /* the servers that were silent lately, known to all pools */
};

/* The loop is set before anything is opened. */
void mp_pools_init(struct mp_pools *pools, const struct mp_config *config);

/* `meters` may be NULL: it is counted nowhere. */
int mp_pools_open(struct mp_pools *pools, const char *url, unsigned min, unsigned max,
                  const struct mp_pool_meters *meters, struct mp_pool **out,
                  struct mp_err *err) MP_MUST_CHECK;
/* For health checks, tokens and lock reports: one connection that no call can take, with short time
 * limits. */
int mp_pools_open_own(struct mp_pools *pools, const char *url, struct mp_pool **out,
                      struct mp_err *err) MP_MUST_CHECK;
void mp_pools_close_one(struct mp_pools *pools, struct mp_pool *pool);
/* Closes all at once; the loop must run until none is left. */
void mp_pools_close(struct mp_pools *pools);

static inline bool mp_pools_left(const struct mp_pools *pools) {
  return !mp_list_empty(&pools->list);
}

#endif
