/* runtime_priv.h: struct mp_runtime, for runtime.c and host_lua.c. */
#ifndef MP_RUNTIME_PRIV_H
#define MP_RUNTIME_PRIV_H

#include <uv.h>

#include "app/control.h"
#include "app/pools.h"
#include "app/runtime.h"
#include "app/workers.h"
#include "host/host.h"
#include "ops/call.h"
#include "ops/invoke.h"
#include "ops/turns.h"
#include "pool/health.h"
#include "rules/budget.h"
#include "script/vm.h"
#include "svc/service.h"
#include "txn/wal_flush.h"
#include "util/buf.h"
#include "util/cache.h"
#include "watch/history.h"
#include "watch/metrics.h"
#include "watch/recorder.h"

/* A close, in its order: tasks are ended and roll back; the pools close; the rest is freed. */
enum mp_runtime_closing {
  MP_RUNTIME_OPEN,
  MP_RUNTIME_ENDING, /* HTTP answers */
  MP_RUNTIME_SETTLING,
  MP_RUNTIME_PARTING, /* from its connections */
  MP_RUNTIME_HUNG,    /* a worker does not end: nothing is freed */
};

struct mp_runtime {
  struct mp_loop *loop;
  struct mp_sched *sched;
  struct mp_vm *vm;
  struct mp_pool *pool, *own; /* own: one connection for what the host itself asks */
  struct mp_health health;
  struct mp_lanes *lanes; /* the front's */
  struct mp_turns turns;
  struct mp_metrics *metrics;
  struct mp_meters *meters;
  struct mp_history *history;
  struct mp_recorder *recorder;
  struct mp_cache *cache;
  struct mp_wal_flush *wal_flush;
  struct mp_flush_crew flushes; /* of the workers; theirs is the front's */
  struct mp_shared shared;      /* by all VMs */
  struct mp_host host;          /* of the host's own VM */
  struct mp_budget retries;
  struct mp_ops ops;
  struct mp_generations *generations;
  struct mp_workers *workers; /* NULL: this is the only one, or not the front */
  struct mp_seat seat;        /* crew NULL: this is the only one */
  struct mp_control_channel *control;
  struct mp_service *service; /* NULL: no HTTP, or no longer */
  struct mp_http_client *client;
  struct mp_config config; /* numbers only */
  char *app_dir;
  uv_signal_t sigterm, sigint, sighup;
  bool signals, serving, interactive;
  struct mp_token stop_token; /* of the task that waits for the stop */
  struct mp_timer stop_timer;
  struct mp_timer drain_timer;
  bool service_ending; /* the stop waits for it */
  bool stopping, killed;
  struct mp_pools pools;
  enum mp_runtime_closing closing;
  struct mp_timer settle_timer;
  void (*on_closed)(void *data); /* NULL: nobody waits */
  void *closed_data;

  /* the main task */
  bool ended;
  int exit_code;
  struct mp_err failure;
  struct mp_buf report;
};

/* runtime.c */
void mp_runtime_service_closed(void *rt);
/* Whether a task, or work on a connection, is left. */
bool mp_runtime_busy(struct mp_runtime *rt);

/* worker.c */
extern const struct mp_worker_life mp_worker_life;

/* host_lua.c */
/* A lua_CFunction: opens the host's modules in the state; its argument is the runtime. */
int mp_runtime_open_lua(lua_State *L);
void mp_runtime_stop_timer(struct mp_timer *timer); /* of rt->stop_timer */

#endif
