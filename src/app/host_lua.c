/* host_lua.c: what the runtime adds to the Lua module "moonpool.host" of the host's own state: its
 * stop, its control channel, HTTP. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/control.h"
#include "app/notify.h"
#include "app/open_files.h"
#include "app/runtime_priv.h"
#include "cluster/cluster.h"
#include "ops/gather.h"
#include "script/luaerr.h"
#include "script/task.h"
#include "svc/post.h"

static struct mp_runtime *rt_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

static int host_tasks(lua_State *L) {
  /* The main task is not counted: it asks. */
  struct mp_runtime *rt = rt_of(L);
  lua_newtable(L);
  lua_Integer n = (lua_Integer)mp_sched_tasks(rt->sched);
  for (lua_Integer i = 1; i < n; i++) {
    lua_pushstring(L, "task");
    lua_rawseti(L, -2, i);
  }
  return 1;
}

static int wait_stop_k(lua_State *L, int status, lua_KContext ctx) {
  struct mp_runtime *rt = (struct mp_runtime *)ctx;
  (void)status;
  mp_timer_stop(&rt->stop_timer);
  lua_pushboolean(L, rt->stopping);
  return 1;
}

void mp_runtime_stop_timer(struct mp_timer *timer) {
  struct mp_runtime *rt = MP_CONTAINER_OF(timer, struct mp_runtime, stop_timer);
  mp_wait_ready(rt->sched, rt->stop_token);
}

static void stop_wait_abandoned(void *data) {
  struct mp_runtime *rt = data;
  mp_timer_stop(&rt->stop_timer);
}

/* wait_stop(seconds) -> is the host told to stop? For the main task alone. */
static int host_wait_stop(lua_State *L) {
  struct mp_runtime *rt = rt_of(L);
  double seconds = luaL_checknumber(L, 1);
  mp_wait_check(L, "host.wait_stop");
  rt->stop_token = mp_wait_begin(L, stop_wait_abandoned, rt);
  mp_timer_start(&rt->stop_timer, rt->stopping || seconds <= 0 ? 0 : (uint64_t)(seconds * 1000));
  return mp_wait_yield(L, (lua_KContext)rt, wait_stop_k);
}

static int host_stop(lua_State *L) {
  mp_runtime_stop(rt_of(L));
  return 0;
}

/* control_open(handler) -> path: each line that comes is given to handler, which returns the
 * answer */
static int host_control_open(lua_State *L) {
  struct mp_runtime *rt = rt_of(L);
  struct mp_err err;
  char path[MP_CLUSTER_PATH];
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (rt->control) return luaL_error(L, "the control channel is open already");
  lua_settop(L, 1);
  if (mp_control_path(rt->app_dir, (long)getpid(), path, sizeof path, &err) ||
      mp_control_open(&rt->control, rt->sched, L, path, &err)) {
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  lua_pushstring(L, path);
  return 1;
}

/* notify(address, text) -> nil, or why it could not be sent (app/notify.h) */
static int host_notify(lua_State *L) {
  struct mp_err err;
  if (!mp_notify(luaL_checkstring(L, 1), luaL_checkstring(L, 2), &err)) return 0;
  lua_pushstring(L, err.msg);
  return 1;
}

/* stopping(): was the host told to end? */
static int host_stopping(lua_State *L) {
  struct mp_runtime *rt = rt_of(L);
  lua_pushboolean(L, rt->stopping);
  return 1;
}

/* http_open(page, find, address, port) -> port: serves HTTP until the host stops (svc/service.h) */
static int host_http_open(lua_State *L) {
  struct mp_runtime *rt = rt_of(L);
  struct mp_err err;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  struct mp_service_options options = {.http = mp_http_defaults(),
                                       .loop = rt->loop,
                                       .sched = rt->sched,
                                       .generations = rt->generations,
                                       .L = mp_vm_lua(rt->vm),
                                       .cors_origins = rt->config.cors_origins,
                                       .hosts = rt->config.hosts,
                                       .metrics = rt->metrics,
                                       .on_closed = mp_runtime_service_closed,
                                       .data = rt};
  options.http.host = luaL_checkstring(L, 3);
  options.http.port = (int)luaL_checkinteger(L, 4);
  if (rt->service || rt->stopping)
    return luaL_error(L, "HTTP is already served, or the host is stopping");
  options.http.connections =
      mp_open_files_for((size_t)rt->config.http_clients, (unsigned)rt->config.workers);
  options.http.per_address = (size_t)rt->config.http_per_address;
  options.http.memory_bytes = (size_t)rt->config.http_memory_mb * 1024 * 1024;
  lua_State *main = options.L;
  if (!lua_checkstack(main, 2)) return luaL_error(L, "not enough memory");
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_xmove(L, main, 2);
  if (mp_service_open(&rt->service, &options, &err)) {
    lua_pop(main, 2);
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  lua_pushinteger(L, mp_service_port(rt->service));
  return 1;
}

int mp_runtime_open_lua(lua_State *L) {
  static const luaL_Reg functions[] = {{"tasks", host_tasks},
                                       {"stopping", host_stopping},
                                       {"wait_stop", host_wait_stop},
                                       {"stop", host_stop},
                                       {"control_open", host_control_open},
                                       {"http_open", host_http_open},
                                       {"notify", host_notify},
                                       {NULL, NULL}};
  struct mp_runtime *rt = lua_touserdata(L, 1);
  mp_host_open(&rt->host, L);
  lua_getglobal(L, "require");
  lua_pushstring(L, "moonpool.host");
  lua_call(L, 1, 1);
  mp_ops_open(&rt->ops, L);
  char name[80] = "";
  gethostname(name, sizeof name - 16);
  snprintf(name + strlen(name), 16, "/%ld", (long)getpid());
  lua_pushstring(L, name);
  lua_setfield(L, -2, "name");
  mp_generations_lua(L, rt->generations);
  mp_gather_lua(L, rt->seat.worker ? NULL : rt->seat.crew);
  mp_service_lua(L);
  mp_post_lua(L, rt->client);
  lua_pushlightuserdata(L, rt);
  luaL_setfuncs(L, functions, 1);
  lua_pushinteger(L, (lua_Integer)rt->config.keep_hours);
  lua_setfield(L, -2, "keep_hours");
  return 0;
}
