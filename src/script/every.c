/* every.c: host.every: calls a function of the host's own Lua periodically. Each call is a task of
 * its own; while it runs no other is started, so that slow ones do not pile up. */
#include "script/every.h"

#include <lauxlib.h>

#include "script/luaerr.h"
#include "script/task.h"
#include "util/log.h"

struct every { /* in a userdata that the registry keeps, under its own address, until it is stopped
                */
  struct mp_timer timer;
  struct mp_sched *sched;
  lua_State *main;
  uint64_t interval_ms;
  bool running;
};

static const char every_name[] = "moonpool.every";

static void on_done(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_err err;
  if (!ok) {
    mp_luaerr_get(L, -1, &err);
    mp_log(MP_LOG_ERROR, "script", "%s failed: %s", mp_task_name(task), err.msg);
  }
  /* The task kept it alive by its registry entry, unless it was stopped meanwhile. */
  lua_rawgetp(L, LUA_REGISTRYINDEX, data);
  struct every *every = lua_touserdata(L, -1);
  if (every) every->running = false;
  lua_pop(L, 1);
}

static int start_p(lua_State *L) {
  struct every *every = lua_touserdata(L, 1);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, every) != LUA_TUSERDATA) return 0;
  lua_getiuservalue(L, -1, 2);
  const char *name = lua_tostring(L, -1);
  lua_getiuservalue(L, -2, 1);
  mp_task_start(every->sched, L, 0, name, &mp_task_of_host, on_done, every);
  every->running = true;
  return 0;
}

static void on_timer(struct mp_timer *timer) {
  struct every *every = MP_CONTAINER_OF(timer, struct every, timer);
  lua_State *L = every->main;
  mp_timer_start(&every->timer, every->interval_ms);
  if (every->running) return;
  lua_pushcfunction(L, start_p);
  lua_pushlightuserdata(L, every);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return;
  mp_log(MP_LOG_ERROR, "script", "%s", luaL_tolstring(L, -1, NULL));
  lua_pop(L, 2);
}

static int every_stop(lua_State *L) {
  struct every *every = luaL_checkudata(L, 1, every_name);
  mp_timer_stop(&every->timer);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, every);
  return 0;
}

static int every_gc(lua_State *L) {
  struct every *every = luaL_checkudata(L, 1, every_name);
  mp_timer_stop(&every->timer);
  return 0;
}

/* every(seconds, name, fn) -> handle with stop(). The first call comes after `seconds`. */
static int every_new(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  if (!(seconds >= 0.001 && seconds <= 86400))
    mp_luaerr_misuse(L, "host.every", "seconds is a number from 0.001 to 86400");
  struct mp_task *task = mp_task_of(L);
  if (!task) mp_luaerr_misuse(L, "host.every", "only while the host runs");
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  struct every *every = lua_newuserdatauv(L, sizeof *every, 2);
  *every = (struct every){
      .sched = mp_task_sched(task), .main = main, .interval_ms = (uint64_t)(seconds * 1000)};
  mp_timer_init(&every->timer, mp_sched_loop(every->sched), on_timer);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 2);
  luaL_setmetatable(L, every_name);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, every);
  mp_timer_start(&every->timer, every->interval_ms);
  return 1;
}

void mp_every_lua(lua_State *L) {
  static const luaL_Reg methods[] = {{"stop", every_stop}, {NULL, NULL}};
  luaL_newmetatable(L, every_name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, every_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_pushcfunction(L, every_new);
  lua_setfield(L, -2, "every");
}
