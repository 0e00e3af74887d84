#include "script/signal.h"

#include <lauxlib.h>

#include "script/luaerr.h"
#include "script/task.h"

#define SIGNAL_TYPE "moonpool.signal"

struct signal {
  bool set, waiting;
  struct mp_sched *sched;
  struct mp_timer timer;
  struct mp_token token;
};

static void wake(struct signal *signal) {
  mp_timer_stop(&signal->timer);
  signal->waiting = false;
  mp_wait_ready(signal->sched, signal->token);
}

static void on_timeout(struct mp_timer *timer) {
  wake(MP_CONTAINER_OF(timer, struct signal, timer));
}

static void abandon(void *data) {
  struct signal *signal = data;
  mp_timer_stop(&signal->timer);
  signal->waiting = false;
}

static int signal_set(lua_State *L) {
  struct signal *signal = luaL_checkudata(L, 1, SIGNAL_TYPE);
  signal->set = true;
  if (signal->waiting) wake(signal);
  return 0;
}

/* The signal is still argument 1. */
static int waited(lua_State *L, int status, lua_KContext ctx) {
  struct signal *signal = lua_touserdata(L, 1);
  (void)status;
  (void)ctx;
  lua_pushboolean(L, signal->set);
  signal->set = false;
  return 1;
}

static int signal_wait(lua_State *L) {
  struct signal *signal = luaL_checkudata(L, 1, SIGNAL_TYPE);
  lua_Number seconds = luaL_checknumber(L, 2);
  luaL_argcheck(L, seconds >= 0 && seconds < 1e9, 2, "seconds from 0");
  if (signal->set) return waited(L, LUA_OK, 0);
  if (signal->waiting) mp_luaerr_misuse(L, "signal:wait", "another task waits for it already");
  mp_wait_check(L, "signal:wait");
  signal->sched = mp_task_sched(mp_task_of(L));
  mp_timer_init(&signal->timer, mp_sched_loop(signal->sched), on_timeout);
  signal->token = mp_wait_begin(L, abandon, signal);
  signal->waiting = true;
  mp_timer_start(&signal->timer, (uint64_t)(seconds * 1000 + 0.999));
  return mp_wait_yield(L, 0, waited);
}

static int new_signal(lua_State *L) {
  static const luaL_Reg methods[] = {{"set", signal_set}, {"wait", signal_wait}, {NULL, NULL}};
  struct signal *signal = lua_newuserdatauv(L, sizeof *signal, 0);
  *signal = (struct signal){0};
  if (luaL_newmetatable(L, SIGNAL_TYPE)) {
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  return 1;
}

void mp_signal_open(lua_State *L) {
  lua_pushcfunction(L, new_signal);
  lua_setfield(L, -2, "signal");
}
