#include "app/pools.h"

#include <stdio.h>
#include <stdlib.h>

enum {
  CLOSE_MS = 2000,       /* for connections that are on their way back */
  OWN_CONNECT_MS = 5000, /* the most for the host's own connection to be made ... */
  OWN_BACKOFF_MS =
      1000, /* ... and between two tries, so that the end of an outage is noticed within a second */
  OWN_WAITERS = 1000,
  OWN_IDLE_MS = 60000,
};

struct open_pool {
  struct mp_list node;
  struct mp_pool *pool;
  bool closing;
};

void mp_pools_init(struct mp_pools *pools, const struct mp_config *config) {
  *pools = (struct mp_pools){.config = config};
  mp_list_init(&pools->list);
}

static void on_closed(void *data) {
  struct open_pool *open = data;
  mp_list_remove(&open->node);
  free(open);
}

static int add(struct mp_pools *pools, const struct mp_pool_options *options, struct mp_pool **out,
               struct mp_err *err) {
  if (pools->closing) return mp_err_set(err, MP_ECLOSED, "the host is closing");
  struct open_pool *open = calloc(1, sizeof *open);
  if (!open) return mp_err_set(err, MP_ENOMEM, "no memory for a pool");
  int rv = mp_pool_open(&open->pool, pools->loop, options, err);
  if (rv) {
    free(open);
    return rv;
  }
  mp_list_push_back(&pools->list, &open->node);
  *out = open->pool;
  return 0;
}

/* Beyond the limit of a result: a result that is a little larger is refused by itself, and its
 * connection goes on. */
enum { FLOOD_MB = 32 };

static struct mp_pool_options options_of(struct mp_pools *pools, const char *url) {
  const struct mp_config *config = pools->config;
  return (struct mp_pool_options){
      .conn = {.url = url,
               .connect_timeout_ms = config->connect_timeout_ms,
               .servers = &pools->servers,
               .answer_limit = ((uint64_t)config->result_limit_mb + FLOOD_MB) << 20,
               .statement_cache = (unsigned)config->statement_cache},
      .queue_limit = (unsigned)config->queue_limit,
      .idle_timeout_ms = config->idle_timeout_ms,
      .max_lifetime_ms = config->max_lifetime_ms,
      .health_interval_ms = config->health_interval_ms,
      .leak_ms = config->leak_ms,
  };
}

int mp_pools_open(struct mp_pools *pools, const char *url, unsigned min, unsigned max,
                  const struct mp_pool_meters *meters, struct mp_pool **out, struct mp_err *err) {
  struct mp_pool_options options = options_of(pools, url);
  char settings[160];
  snprintf(settings, sizeof settings,
           "-c statement_timeout=%llu -c idle_in_transaction_session_timeout=60000",
           (unsigned long long)pools->config->statement_timeout_ms);
  options.conn.settings = settings;
  options.min = min;
  options.max = max;
  if (meters) options.meters = *meters;
  return add(pools, &options, out, err);
}

int mp_pools_open_own(struct mp_pools *pools, const char *url, struct mp_pool **out,
                      struct mp_err *err) {
  struct mp_pool_options options = options_of(pools, url);
  /* moonpool.relay: the functions of the schema moonpool are for the host only. */
  options.conn.settings = "-c statement_timeout=2000 -c moonpool.relay=on";
  options.conn.purpose = "host";
  if (options.conn.connect_timeout_ms > OWN_CONNECT_MS)
    options.conn.connect_timeout_ms = OWN_CONNECT_MS;
  options.max = 1;
  options.queue_limit = OWN_WAITERS;
  options.idle_timeout_ms = OWN_IDLE_MS;
  options.health_interval_ms = options.leak_ms = 0;
  options.backoff_max_ms = OWN_BACKOFF_MS;
  options.impatient = options.quiet = true;
  return add(pools, &options, out, err);
}

void mp_pools_close_one(struct mp_pools *pools, struct mp_pool *pool) {
  if (pools->closing) return; /* all of them are, or are gone */
  MP_LIST_EACH(node, &pools->list) {
    struct open_pool *open = MP_LIST_ENTRY(node, struct open_pool, node);
    if (open->pool != pool) continue;
    open->closing = true;
    mp_pool_close(pool, mp_loop_now_ms(pools->loop) + CLOSE_MS, on_closed, open);
    return;
  }
}

void mp_pools_close(struct mp_pools *pools) {
  pools->closing = true;
  MP_LIST_EACH(node, &pools->list) {
    struct open_pool *open = MP_LIST_ENTRY(node, struct open_pool, node);
    if (!open->closing) mp_pool_close(open->pool, mp_loop_now_ms(pools->loop), on_closed, open);
    open->closing = true;
  }
}
