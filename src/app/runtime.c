/* runtime.c: opening, running and ending of a host. What its Lua side calls is in host_lua.c. */
#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "app/runtime_priv.h"
#include "db/listen.h"
#include "script/charge.h"
#include "script/luaerr.h"
#include "script/task.h"
#include "svc/post.h"
#include "util/log.h"
#include "watch/health.h"

/* For connections that are on their way back when everything else has ended. */
#define POOL_CLOSE_MS 2000

/* Retries that a burst of conflicts may take at once: of all calls, and of one tenant's of one
 * operation. */
#define RETRY_RESERVE 1000
#define RETRY_OWN_RESERVE 100

/* ---- pools ---- */

static int host_open_pool(struct mp_host *host, const char *url, unsigned max, struct mp_pool **out,
                          struct mp_err *err) {
  struct mp_runtime *rt = host->shared->app;
  return mp_pools_open(&rt->pools, url ? url : mp_pool_url(rt->pool), 0, max, NULL, out, err);
}

static void host_close_pool(struct mp_host *host, struct mp_pool *pool) {
  struct mp_runtime *rt = host->shared->app;
  mp_pools_close_one(&rt->pools, pool);
}

/* The default database's. */
static int open_pools(struct mp_runtime *rt, const struct mp_runtime_options *options,
                      struct mp_err *err) {
  rt->pools.loop = rt->loop;
  struct mp_pool_meters meters = mp_meters_pool(rt->meters);
  unsigned min = rt->serving ? (unsigned)rt->config.pool_min : options->pool_min;
  int rv = mp_pools_open(&rt->pools, options->database_url, min, (unsigned)rt->config.pool_max,
                         &meters, &rt->pool, err);
  return rv ? rv : mp_pools_open_own(&rt->pools, options->database_url, &rt->own, err);
}

/* ---- open ---- */

static void on_signal(uv_signal_t *handle, int number) {
  struct mp_runtime *rt = handle->data;
  (void)number;
  if (!rt->stopping) {
    mp_runtime_stop(rt);
  } else if (!rt->killed) {
    mp_timer_start(&rt->drain_timer, 0); /* the second signal: at once */
  }
}

static void on_hangup(uv_signal_t *handle, int number) {
  struct mp_runtime *rt = handle->data;
  struct mp_err err;
  (void)number;
  if (mp_generations_reload(rt->generations, NULL, &err))
    mp_log(MP_LOG_WARN, "host", "no reload: %s", err.msg);
}

/* Ends all tasks that still run; their transactions roll back. */
static void on_drain_timeout(struct mp_timer *timer) {
  struct mp_runtime *rt = MP_CONTAINER_OF(timer, struct mp_runtime, drain_timer);
  rt->killed = true;
  mp_task_kill_all(rt->sched, mp_vm_lua(rt->vm));
  mp_generations_kill(rt->generations);
}

static void close_signal(uv_signal_t *handle) {
  uv_signal_stop(handle);
  uv_close((uv_handle_t *)handle, NULL);
}

/* What all VMs have in common. */
static void share(struct mp_runtime *rt) {
  const struct mp_config *config = &rt->config;
  const char *check = config->check ? config->check : "warn";
  size_t memory = (size_t)config->task_memory_mb << 20;
  rt->shared = (struct mp_shared){
      .own = rt->own,
      .retries = &rt->retries,
      .cache = rt->cache,
      .metrics = rt->metrics,
      .meters = rt->meters,
      .history = rt->history,
      .recorder = rt->recorder,
      .health = &rt->health,
      .lanes = rt->seat.worker ? NULL : rt->lanes, /* told once */
      .opened_ms = mp_loop_now_ms(rt->loop),
      .wal_flush = rt->wal_flush,
      .shared_flush = config->flush && !strcmp(config->flush, "shared"),
      .development = config->env && !strcmp(config->env, "development"),
      .mcp = config->mcp && !strcmp(config->mcp, "on"),
      .check = rt->seat.worker ? "off" : check, /* the front checks for all */
      .query_timeout_ms = config->query_timeout_ms,
      .slow_query_ms = config->slow_query_ms,
      .commit_timeout_ms = config->commit_timeout_ms,
      .result_limit = (size_t)config->result_limit_mb << 20,
      .body_values = (size_t)config->body_values,
      .limits = {.cpu_ms = config->cpu_ms, .memory = memory},
      .loading = {.cpu_ms = config->load_ms, .memory = memory, .wall_ms = config->load_ms},
      .open_pool = host_open_pool,
      .close_pool = host_close_pool,
      .app = rt};
}

/* What was opened so far, of a runtime that cannot be opened. */
static void discard(struct mp_runtime *rt, const struct mp_runtime_options *options) {
  if (options->uv && rt->loop)
    mp_runtime_close_start(rt, NULL, NULL);
  else
    (void)mp_runtime_close(rt, NULL);
}

static void take_options(struct mp_runtime *rt, const struct mp_runtime_options *options) {
  rt->config = *options->config;
  mp_pools_init(&rt->pools, &rt->config);
  rt->config.database_url = rt->config.owner_url = rt->config.log_format = rt->config.log_level =
      NULL;
  rt->config.time_zone = rt->config.alert_webhook = rt->config.otlp_endpoint = NULL;
  rt->serving = options->serving;
  if (options->seat) rt->seat = *options->seat;
  if (!rt->seat.flushes) rt->seat.flushes = &rt->flushes;
  if (rt->serving) mp_workers_share(&rt->config, 0);
  rt->interactive = options->interactive;
}

/* The workers share the front's. */
static int open_lanes(struct mp_runtime *rt, struct mp_err *err) {
  bool shared = rt->seat.worker || (rt->serving && rt->config.workers > 1);
  rt->lanes = rt->seat.lanes;
  int rv = rt->lanes ? 0 : mp_lanes_new(&rt->lanes, (size_t)rt->config.lane_limit, err);
  return rv ? rv : mp_turns_init(&rt->turns, rt->lanes, rt->loop, shared, mp_ops_turn, err);
}

int mp_runtime_open(struct mp_runtime **out, const struct mp_runtime_options *options,
                    struct mp_err *err) {
  struct mp_runtime *rt = calloc(1, sizeof *rt);
  if (!rt) return mp_err_set(err, MP_ENOMEM, "no memory for a runtime");
  take_options(rt, options);
  rt->app_dir = strdup(options->app_dir);
  struct mp_vm_options vm = {.app_dir = options->app_dir,
                             .lua_dir = options->lua_dir,
                             .memory_limit = (size_t)rt->config.memory_limit_mb << 20};
  int rv = rt->app_dir ? 0 : mp_err_set(err, MP_ENOMEM, "no memory for a runtime");
  if (!rv) rv = mp_loop_open(&rt->loop, options->uv, err);
  if (!rv) rv = mp_sched_new(&rt->sched, rt->loop, err);
  if (!rv) mp_sched_hold_at_most(rt->sched, (size_t)rt->config.result_memory_mb << 20);
  if (!rv) rv = mp_http_client_new(&rt->client, rt->loop, err);
  if (!rv) rv = mp_vm_open(&rt->vm, rt->sched, &vm, err);
  rt->cache = rt->seat.cache;
  if (!rv && !rt->cache)
    rv = mp_cache_new(&rt->cache, (size_t)rt->config.cache_limit_mb << 20, err);
  if (!rv) rv = open_lanes(rt, err);
  if (!rv) rv = mp_metrics_new(&rt->metrics, err);
  if (!rv) rv = mp_meters_new(&rt->meters, rt->metrics, err);
  if (!rv) rv = mp_history_new(&rt->history, err);
  if (!rv) rv = mp_recorder_new(&rt->recorder, rt->loop, rt->config.slow_query_ms, err);
  if (!rv)
    mp_loop_measure(rt->loop, mp_meters_loop_lag(rt->meters), mp_meters_loop_longest(rt->meters));
  if (!rv) rv = open_pools(rt, options, err);
  if (!rv && rt->serving && rt->config.workers > 1) {
    rt->seat.cache = rt->cache;
    rt->seat.lanes = rt->lanes;
    rt->seat.otlp_endpoint = options->config->otlp_endpoint;
    rv = mp_workers_open(&rt->workers, rt->loop, options->config, options, &mp_worker_life,
                         &rt->seat, err);
  }
  if (!rv)
    rv = mp_wal_flush_new(&rt->wal_flush, rt->loop, rt->pool, rt->seat.flushes,
                          rt->config.commit_timeout_ms, err);
  if (rv) {
    discard(rt, options);
    return rv;
  }
  mp_health_init(&rt->health, mp_loop_now_ms(rt->loop));
  mp_timer_init(&rt->drain_timer, rt->loop, on_drain_timeout);
  mp_timer_init(&rt->stop_timer, rt->loop, mp_runtime_stop_timer);
  share(rt);
  rt->shared.open_vm = options->open_vm;
  rt->shared.open_vm_data = options->open_vm_data;
  rt->host = (struct mp_host){
      .shared = &rt->shared, .loop = rt->loop, .sched = rt->sched, .vm = rt->vm, .pool = rt->pool};
  if (rt->pool) mp_health_watch(&rt->host);
  mp_budget_init(&rt->retries, (double)rt->config.retry_budget, RETRY_RESERVE, RETRY_OWN_RESERVE);
  rt->ops = (struct mp_ops){.host = &rt->host, .turns = &rt->turns, .brakes = {.lanes = rt->lanes}};
  struct mp_generations_options generations = {.crew = rt->seat.crew,
                                               .worker = rt->seat.worker,
                                               .host = &rt->host,
                                               .turns = &rt->turns,
                                               .app_dir = rt->app_dir,
                                               .lua_dir = options->lua_dir,
                                               .memory_limit = vm.memory_limit,
                                               .settle_ms = rt->config.settle_ms,
                                               .load_ms = rt->config.load_ms,
                                               .drain_ms = rt->config.generation_drain_ms};
  rv = mp_generations_new(&rt->generations, &generations, err);
  if (rv) {
    discard(rt, options);
    return rv;
  }
  lua_State *L = mp_vm_lua(rt->vm);
  lua_pushcfunction(L, mp_runtime_open_lua);
  lua_pushlightuserdata(L, rt);
  if (lua_pcall(L, 1, 0, 0)) {
    rv = mp_err_set(err, MP_EINTERNAL, "the host's own modules do not load: %s",
                    luaL_tolstring(L, -1, NULL));
    lua_pop(L, 2);
    discard(rt, options);
    return rv;
  }
  *out = rt;
  return 0;
}

/* ---- run ---- */

struct runtime_start {
  struct mp_runtime *rt;
  int (*push)(lua_State *L, void *data);
  void *data;
  const char *name;
};

/* The error object on top, as text and traceback. */
static void write_report(lua_State *L, struct mp_buf *out) {
  size_t len;
  const char *text = luaL_tolstring(L, -1, &len);
  mp_buf_clear(out);
  mp_buf_add(out, text, len);
  lua_pop(L, 1);
  if (lua_type(L, -1) == LUA_TTABLE && lua_getfield(L, -1, "traceback") == LUA_TSTRING) {
    mp_buf_addc(out, '\n');
    mp_buf_adds(out, lua_tostring(L, -1));
  }
}

static void on_main_done(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_runtime *rt = data;
  (void)task;
  rt->ended = true;
  if (ok) {
    lua_Integer code = lua_isinteger(L, 1) ? lua_tointeger(L, 1) : 0;
    rt->exit_code = code < 0 || code > 255 ? 255 : (int)code; /* what a process can say */
  } else {
    rt->exit_code = -1;
    mp_luaerr_get(L, -1, &rt->failure);
    write_report(L, &rt->report);
  }
}

const char *mp_runtime_report(struct mp_runtime *rt) { return mp_buf_text(&rt->report); }

static int start_main(lua_State *L) {
  struct runtime_start *start = lua_touserdata(L, 1);
  lua_settop(L, 0);
  int nargs = start->push(L, start->data);
  mp_task_start(start->rt->sched, L, nargs, start->name, &mp_task_of_host, on_main_done, start->rt);
  return 0;
}

static void watch_signals(struct mp_runtime *rt) {
  uv_loop_t *uv = mp_loop_uv(rt->loop);
  uv_signal_init(uv, &rt->sigterm);
  uv_signal_init(uv, &rt->sigint);
  uv_signal_init(uv, &rt->sighup);
  rt->sigterm.data = rt->sigint.data = rt->sighup.data = rt;
  uv_signal_start(&rt->sigterm, on_signal, SIGTERM);
  if (!rt->interactive) uv_signal_start(&rt->sigint, on_signal, SIGINT);
  if (rt->serving) uv_signal_start(&rt->sighup, on_hangup, SIGHUP);
  uv_unref((uv_handle_t *)&rt->sighup);
  uv_unref((uv_handle_t *)&rt->sigterm);
  uv_unref((uv_handle_t *)&rt->sigint);
  rt->signals = true;
}

static void nothing(struct mp_timer *timer) { (void)timer; }

/* Work that has not released its connections yet, and the like. */
static bool unfinished(const struct mp_runtime *rt) {
  return rt->host.live_work || (rt->generations && mp_generations_busy(rt->generations));
}

/* Runs the loop until `rt` has no work left, or the time is over. */
static void settle(struct mp_runtime *rt, uint64_t limit_ms) {
  struct mp_timer guard;
  mp_timer_init(&guard, rt->loop, nothing);
  mp_timer_start(&guard, limit_ms);
  while (unfinished(rt) && mp_timer_running(&guard) && mp_loop_run_once(rt->loop, true)) {}
  mp_timer_stop(&guard);
}

bool mp_runtime_busy(struct mp_runtime *rt) { return mp_sched_tasks(rt->sched) || unfinished(rt); }

int mp_runtime_run(struct mp_runtime *rt, int (*push)(lua_State *L, void *data), void *data,
                   const char *name, struct mp_err *err) {
  lua_State *L = mp_vm_lua(rt->vm);
  struct runtime_start start = {rt, push, data, name};
  if (!rt->signals && !rt->seat.worker) watch_signals(rt);
  rt->ended = false;
  rt->exit_code = 0;
  lua_pushcfunction(L, start_main);
  lua_pushlightuserdata(L, &start);
  if (lua_pcall(L, 1, 0, 0)) {
    mp_luaerr_get(L, -1, err);
    lua_pop(L, 1);
    return -1;
  }
  while (!rt->ended && mp_sched_tasks(rt->sched) && mp_loop_run_once(rt->loop, true)) {}
  /* Hooks, spawned tasks, rollbacks: what the task left behind ends too, within the drain
   * timeout. */
  if (!mp_timer_running(&rt->drain_timer) && mp_runtime_busy(rt))
    mp_timer_start(&rt->drain_timer, rt->config.drain_ms);
  while (mp_runtime_busy(rt) && !rt->killed && mp_loop_run_once(rt->loop, true)) {}
  if (rt->killed)
    settle(rt, POOL_CLOSE_MS); /* work that has not ended by then loses its connection */
  mp_timer_stop(&rt->drain_timer);
  if (!rt->ended) {
    mp_err_set(err, MP_ECANCELED, "stopped by a signal before %s ended", name);
    return -1;
  }
  if (rt->exit_code == -1) *err = rt->failure;
  return rt->exit_code;
}

static void stop(struct mp_runtime *rt) {
  if (rt->stopping) return;
  if (!rt->seat.worker)
    mp_log(MP_LOG_INFO, "host", "stopping: no new calls, %llu ms for the %zu in progress",
           (unsigned long long)rt->config.drain_ms, rt->ops.live_calls);
  rt->stopping = rt->ops.draining = true;
  mp_generations_stop(rt->generations);
  if (rt->workers) mp_workers_stop(rt->workers);
  if (rt->control) mp_control_drain(rt->control);
  mp_wait_ready(rt->sched, rt->stop_token);
  mp_timer_start(&rt->drain_timer, rt->config.drain_ms);
}

void mp_runtime_service_closed(void *data) {
  struct mp_runtime *rt = data;
  rt->service = NULL;
  if (rt->service_ending) stop(rt);
}

/* HTTP first: requests that clients have sent are answered before new calls are refused. */
void mp_runtime_stop(struct mp_runtime *rt) {
  rt->health.draining = true;
  if (!rt->service) {
    stop(rt);
    return;
  }
  if (!rt->service_ending) mp_log(MP_LOG_INFO, "host", "stopping: HTTP takes no new connections");
  mp_service_close(rt->service, rt->service_ending ? 0 : rt->config.drain_ms);
  rt->service_ending = true;
}

/* ---- close ---- */

static void end_tasks(struct mp_runtime *rt) {
  rt->ops.draining = true;
  mp_control_close(rt->control);
  mp_task_kill_all(rt->sched, mp_vm_lua(rt->vm));
  if (rt->generations) mp_generations_kill(rt->generations);
}

/* Goes as far as can be without waiting. Connections first, then the VM: nothing may call into Lua,
 * or hold what Lua owns, after lua_close. True: nothing is left to wait for. */
static bool close_step(struct mp_runtime *rt) {
  switch (rt->closing) {
    case MP_RUNTIME_OPEN:
      if (rt->service) mp_service_close(rt->service, 0);
      rt->closing = MP_RUNTIME_ENDING;
      __attribute__((fallthrough));
    case MP_RUNTIME_ENDING:
      if (rt->service) return false;
      if (rt->vm) end_tasks(rt);
      mp_timer_init(&rt->settle_timer, rt->loop, nothing);
      if (unfinished(rt)) mp_timer_start(&rt->settle_timer, POOL_CLOSE_MS);
      rt->closing = MP_RUNTIME_SETTLING;
      __attribute__((fallthrough));
    case MP_RUNTIME_SETTLING:
      if (unfinished(rt) && mp_timer_running(&rt->settle_timer)) return false;
      mp_timer_stop(&rt->settle_timer);
      if (mp_workers_close(rt->workers, &rt->failure)) {
        rt->closing = MP_RUNTIME_HUNG;
        return true;
      }
      mp_listen_stop(&rt->host);
      mp_wal_flush_close(rt->wal_flush);
      mp_pools_close(&rt->pools);
      rt->closing = MP_RUNTIME_PARTING;
      __attribute__((fallthrough));
    case MP_RUNTIME_PARTING:
    case MP_RUNTIME_HUNG: break;
  }
  return !mp_pools_left(&rt->pools) && mp_wal_flush_closed(rt->wal_flush) && !unfinished(rt);
}

static void free_parts(struct mp_runtime *rt) {
  mp_timer_stop(&rt->drain_timer);
  mp_timer_stop(&rt->stop_timer);
  rt->host.pool = rt->shared.own = NULL;
  mp_generations_free(rt->generations);
  if (rt->vm) mp_vm_close(rt->vm);
  mp_http_client_free(rt->client);
  mp_host_fini(&rt->host);
  mp_wal_flush_free(rt->wal_flush);
  mp_ops_fini(&rt->ops);
  mp_buf_fini(&rt->report);
  mp_turns_fini(&rt->turns);
  if (!rt->seat.worker) {
    mp_lanes_unref(rt->lanes);
    mp_cache_unref(rt->cache);
  }
  if (rt->sched) mp_sched_unref(rt->sched);
}

static void free_rest(struct mp_runtime *rt) {
  mp_log_flush();
  free(rt->app_dir);
  mp_recorder_unref(rt->recorder);
  mp_history_unref(rt->history);
  mp_meters_unref(rt->meters);
  mp_metrics_unref(rt->metrics);
  free(rt);
}

int mp_runtime_close(struct mp_runtime *rt, struct mp_err *err) {
  int rv = 0;
  while (!close_step(rt) && mp_loop_run_once(rt->loop, true)) {}
  if (rt->closing == MP_RUNTIME_HUNG) { /* its thread may still use what the workers share */
    mp_log_flush();
    if (err) *err = rt->failure;
    return -(int)rt->failure.code;
  }
  free_parts(rt);
  if (rt->signals) {
    close_signal(&rt->sigterm);
    close_signal(&rt->sigint);
    close_signal(&rt->sighup);
    mp_loop_run_once(rt->loop, false);
  }
  if (rt->loop) rv = mp_loop_close(rt->loop, err);
  free_rest(rt);
  return rv;
}

static void on_left(void *data) {
  struct mp_runtime *rt = data;
  void (*on_closed)(void *) = rt->on_closed;
  void *closed_data = rt->closed_data;
  free_rest(rt);
  if (on_closed) on_closed(closed_data);
}

static void go_on_closing(void *data) {
  struct mp_runtime *rt = data;
  if (!close_step(rt)) return;
  mp_loop_at_end(rt->loop, NULL, NULL);
  free_parts(rt);
  mp_loop_leave(rt->loop, on_left, rt);
}

void mp_runtime_close_start(struct mp_runtime *rt, void (*on_closed)(void *data), void *data) {
  rt->on_closed = on_closed;
  rt->closed_data = data;
  mp_loop_at_end(rt->loop, go_on_closing, rt);
  go_on_closing(rt);
}
