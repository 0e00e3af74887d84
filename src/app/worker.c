/* worker.c: the runtime of one worker's thread (workers.h). */
#include <lauxlib.h>
#include <stdio.h>

#include "app/runtime_priv.h"
#include "util/log.h"

static int open_worker(struct mp_runtime **out, const struct mp_runtime_options *front,
                       const struct mp_seat *seat, struct mp_loop **loop, struct mp_err *err) {
  struct mp_runtime_options options = *front;
  struct mp_config config = *front->config;
  mp_workers_share(&config, seat->worker);
  options.config = &config;
  options.seat = seat;
  options.pool_min = (unsigned)config.pool_min;
  options.serving = false;
  int rv = mp_runtime_open(out, &options, err);
  if (rv) return rv;
  struct mp_runtime *rt = *out;
  *loop = rt->loop;
  rv = mp_crew_join(seat->crew, seat->worker, rt->loop, rt->generations, err);
  if (rv) (void)mp_runtime_close(rt, NULL);
  return rv;
}

static int push_main(lua_State *L, void *data) {
  const struct mp_runtime *rt = data;
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonpool.serve.worker");
  lua_call(L, 1, 1);
  lua_createtable(L, 0, 1);
  lua_pushstring(L, rt->seat.otlp_endpoint);
  lua_setfield(L, -2, "otlp_endpoint");
  return 1;
}

static void run(struct mp_runtime *rt, unsigned worker) {
  struct mp_err err;
  char name[32];
  snprintf(name, sizeof name, "worker %u", worker);
  if (mp_runtime_run(rt, push_main, rt, name, &err) == -1)
    mp_log(MP_LOG_ERROR, "host", "%s: %s", name, err.msg);
  mp_generations_kill(rt->generations); /* what the drain timeout has left */
}

static void close_worker(struct mp_runtime *rt, unsigned worker) {
  struct mp_err err;
  if (mp_runtime_close(rt, &err)) mp_log(MP_LOG_ERROR, "host", "worker %u: %s", worker, err.msg);
}

const struct mp_worker_life mp_worker_life = {open_worker, run, mp_runtime_stop, close_worker};
