/* task_lua.c: what scripts see of tasks: moonpool.sleep, .spawn and .all. */
#include <lauxlib.h>
#include <stdio.h>

#include "script/gate.h"
#include "script/luaerr.h"
#include "script/task_priv.h"
#include "util/log.h"

enum { NOTICE_MS = 1000, MAX_SLEEP_S = 1000000000 };

/* ---- sleep ---- */

struct sleeper {
  struct mp_timer timer;
  struct mp_sched *sched;
  struct mp_token token;
};

static void sleep_over(struct mp_timer *timer) {
  struct sleeper *sleeper = MP_CONTAINER_OF(timer, struct sleeper, timer);
  mp_wait_ready(sleeper->sched, sleeper->token);
}

static void sleep_abandon(void *data) {
  struct sleeper *sleeper = data;
  mp_timer_stop(&sleeper->timer);
}

static int sleep_k(lua_State *L, int status, lua_KContext ctx) {
  (void)L;
  (void)status;
  (void)ctx;
  return 0;
}

static int task_sleep(lua_State *L) {
  int is_number;
  lua_Number seconds = lua_tonumberx(L, 1, &is_number);
  if (!is_number || !(seconds >= 0) || seconds > MAX_SLEEP_S)
    mp_luaerr_misuse(L, "moonpool.sleep", "expected seconds, a number from 0, got %s",
                     luaL_tolstring(L, 1, NULL));
  mp_wait_check(L, "moonpool.sleep");
  struct mp_sched *sched = mp_task_sched(mp_task_of(L));
  struct mp_loop *loop = mp_sched_loop(sched);
  struct sleeper *sleeper = lua_newuserdatauv(L, sizeof *sleeper, 0); /* lives on L's stack */
  sleeper->sched = sched;
  mp_timer_init(&sleeper->timer, loop, sleep_over);
  sleeper->token = mp_wait_begin(L, sleep_abandon, sleeper);
  /* From now, not from the loop's cached time: the script may have computed since then. */
  mp_timer_start_at(&sleeper->timer,
                    mp_loop_clock_ns(loop) / 1000000 + (uint64_t)(seconds * 1000 + 0.999));
  return mp_wait_yield(L, 0, sleep_k);
}

/* "WHAT scripts/a.lua:12": the name of a task by where its function (at `idx`) is written. */
static void name_of(lua_State *L, int idx, const char *what, char *out, size_t size) {
  lua_Debug ar = {0};
  if (lua_type(L, idx) == LUA_TFUNCTION) {
    lua_pushvalue(L, idx);
    lua_getinfo(L, ">S", &ar);
    snprintf(out, size, "%s %s:%d", what, ar.short_src, ar.linedefined);
  } else {
    snprintf(out, size, "%s", what);
  }
}

static bool callable(lua_State *L, int idx) {
  if (lua_type(L, idx) == LUA_TFUNCTION) return true;
  if (luaL_getmetafield(L, idx, "__call") == LUA_TNIL) return false;
  lua_pop(L, 1);
  return true;
}

/* ---- spawn ----
 * The handle is a userdata that the registry keeps (under its own address) until the task has
 * ended. Its user value is then the packed results, or the error object. */

static const char handle_name[] = "moonpool.spawned";

struct handle {
  struct mp_gate ended;
  struct mp_timer notice;
  lua_State *main;
  struct mp_task *task;  /* NULL when it has ended */
  bool ok, failed, seen; /* seen: a task waited for it, or it was logged */
};

static void log_failure(lua_State *L, struct handle *handle, int idx) {
  if (!handle->failed || handle->seen) return;
  handle->seen = true;
  lua_getiuservalue(L, idx, 1);
  const char *text = luaL_tolstring(L, -1, NULL);
  lua_getfield(L, -2, "traceback");
  const char *trace = lua_tostring(L, -1);
  mp_log(MP_LOG_ERROR, "script", "a spawned task failed and no task waited for it: %s; %s", text,
         trace ? trace : "no traceback");
  lua_pop(L, 3);
}

static int log_protected(lua_State *L) {
  struct handle *handle = lua_touserdata(L, 1);
  lua_settop(L, 0);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, handle) == LUA_TUSERDATA) log_failure(L, handle, 1);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, handle);
  return 0;
}

static void on_notice(struct mp_timer *timer) {
  struct handle *handle = MP_CONTAINER_OF(timer, struct handle, notice);
  lua_State *L = handle->main;
  lua_pushcfunction(L, log_protected);
  lua_pushlightuserdata(L, handle);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
}

/* (handle, ok, values...): keeps what the task gave. */
static int store(lua_State *L) {
  struct handle *handle = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, handle);
  lua_replace(L, 1);
  int n = lua_gettop(L) - 1;
  lua_createtable(L, n, 1);
  lua_insert(L, 2);
  for (int i = n; i > 0; i--) lua_rawseti(L, 2, i);
  lua_pushinteger(L, n);
  lua_setfield(L, 2, "n");
  lua_setiuservalue(L, 1, 1);
  return 0;
}

static void on_spawned(struct mp_task *task, lua_State *L, bool ok, void *data) {
  (void)task;
  struct handle *handle = data;
  handle->task = NULL;
  handle->ok = ok;
  if (ok) {
    lua_checkstack(L, 4);
    lua_pushcfunction(L, store);
    lua_insert(L, 1);
    lua_pushlightuserdata(L, handle);
    lua_insert(L, 2);
    handle->ok = lua_pcall(L, lua_gettop(L) - 1, 0, 0) == LUA_OK;
    if (!handle->ok) mp_luaerr_push_nomem(L);
  }
  handle->failed = !handle->ok;
  bool waited = !mp_list_empty(&handle->ended.waiters);
  if (handle->failed) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, handle);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, 1);
    handle->seen = waited;
  }
  if (handle->failed && !waited) {
    mp_timer_start(
        &handle->notice,
        NOTICE_MS); /* until then a task may still wait for it; it stays anchored as well */
  } else {
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, handle);
  }
  mp_gate_open(&handle->ended);
}

static int handle_gc(lua_State *L) {
  struct handle *handle = lua_touserdata(L, 1);
  mp_timer_stop(&handle->notice);
  lua_pushnil(L); /* the place that spawn had taken for it */
  lua_rawsetp(L, LUA_REGISTRYINDEX, handle);
  log_failure(L, handle, 1);
  return 0;
}

/* By cancel, or with those that share its limits. */
static void on_killed(void *data) {
  struct handle *handle = data;
  handle->task = NULL;
  handle->failed = handle->seen = true;
  mp_gate_open(&handle->ended);
  lua_pushnil(handle->main);
  lua_rawsetp(handle->main, LUA_REGISTRYINDEX, handle); /* it may be garbage from here on */
}

static void raise_canceled(lua_State *L) {
  struct mp_err err;
  mp_err_set(&err, MP_ECANCELED,
             "the task was canceled, or ended with those that it shared its limits with");
  mp_luaerr_push(L, &err);
  lua_error(L);
}

static int handle_wait_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct handle *handle = lua_touserdata(L, 1);
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  if (!handle->ok && lua_isnil(L, 2)) raise_canceled(L);
  if (!handle->ok) return lua_error(L);
  lua_getfield(L, 2, "n");
  int n = (int)lua_tointeger(L, 3);
  luaL_checkstack(L, n, "results of a task");
  for (int i = 1; i <= n; i++) lua_rawgeti(L, 2, i);
  return n;
}

/* Whether it is `me`, or cannot go on before `me` ends. */
static bool stands_behind(const struct mp_task *task, const struct mp_task *me) {
  for (; me; me = me->joined_by)
    if (me == task) return true;
  return false;
}

/* Raises if the wait of `me` for `task` could never end: that task waits for `me`, directly or not.
 */
static void refuse_circle(lua_State *L, const struct mp_task *me, const struct mp_task *task) {
  char names[300];
  if (task == me) mp_luaerr_misuse(L, "wait", "a task cannot wait for itself");
  int used = snprintf(names, sizeof names, "%s", me->name);
  for (; task; task = task->waits_for) {
    if (used < (int)sizeof names)
      used += snprintf(names + used, sizeof names - (size_t)used, " -> %s", task->name);
    if (!stands_behind(task, me)) continue;
    mp_luaerr_misuse(L, "wait", "this wait would never end, because each waits for the next: %s",
                     names);
  }
}

static int handle_wait(lua_State *L) {
  struct handle *handle = luaL_checkudata(L, 1, handle_name);
  struct mp_task *me = mp_task_of(L);
  lua_settop(L, 1);
  if (handle->task && me) {
    refuse_circle(L, me, handle->task);
    mp_wait_check(L, "wait");
    me->waits_for = handle->task;
  }
  handle->seen = true;
  return mp_gate_wait(L, &handle->ended, "wait", 0, handle_wait_k);
}

/* cancel() -> whether it had not ended. Its wait is abandoned, its <close> variables run; tasks
 * that wait for it get CANCELED. */
static int handle_cancel(lua_State *L) {
  struct handle *handle = luaL_checkudata(L, 1, handle_name);
  struct mp_task *task = handle->task;
  if (task && task == mp_task_of(L))
    mp_luaerr_misuse(L, "cancel", "a task cannot cancel itself; it may return");
  if (task) mp_task_kill(task);
  lua_pushboolean(L, task != NULL);
  return 1;
}

static int spawn(lua_State *L, const struct mp_task_limits *limits) {
  char name[72];
  if (!callable(L, 1))
    mp_luaerr_misuse(L, "moonpool.spawn", "expected a function, got %s", luaL_typename(L, 1));
  struct mp_task *me = mp_task_of(L);
  if (!me) mp_luaerr_misuse(L, "moonpool.spawn", "this code does not run in a task of the host");
  if (me->loading)
    mp_luaerr_misuse(
        L, "moonpool.spawn",
        "a file of scripts/ cannot start a task while it is loaded: start it in `run`, or let an "
        "operation run by itself (every = \"1m\")");
  struct mp_sched *sched = mp_task_sched(me);
  int nargs = lua_gettop(L) - 1;
  name_of(L, 1, "spawn", name, sizeof name);
  struct handle *handle = lua_newuserdatauv(L, sizeof *handle, 1);
  *handle = (struct handle){.task = NULL};
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  handle->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  mp_gate_init(&handle->ended);
  mp_timer_init(&handle->notice, mp_sched_loop(sched), on_notice);
  luaL_setmetatable(L, handle_name);
  lua_insert(L, 1);
  lua_pushboolean(L, 1); /* its place: nothing may fail once the task has started */
  lua_rawsetp(L, LUA_REGISTRYINDEX, handle);
  const struct mp_task_origin origin = mp_task_origin(me);
  handle->task = mp_task_start(sched, L, nargs, name, &origin, on_spawned, handle);
  mp_task_on_killed(handle->task, on_killed);
  lua_pushvalue(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, handle);
  if (limits) mp_task_limit(handle->task, limits);
  return 1;
}

static int task_spawn(lua_State *L) { return spawn(L, NULL); }

/* loading(now) -> before: whether the task runs the body of a file of scripts/ */
static int task_loading(lua_State *L) {
  struct mp_task *me = mp_task_of(L);
  bool loading = lua_toboolean(L, 1);
  lua_pushboolean(L, me && me->loading);
  if (me) me->loading = loading;
  return 1;
}

static lua_Integer limit_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  lua_Integer value = luaL_optinteger(L, -1, 0);
  luaL_argcheck(L, value >= 0, 1, name);
  lua_pop(L, 1);
  return value;
}

/* spawn_limited({ cpu_ms =, memory = }, function, arguments...): limits of its own, in ms and
 * bytes. */
static int task_spawn_limited(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  struct mp_task_limits limits = {.cpu_ms = (uint64_t)limit_field(L, "cpu_ms"),
                                  .memory = (size_t)limit_field(L, "memory"),
                                  .wall_ms = (uint64_t)limit_field(L, "wall_ms")};
  lua_remove(L, 1);
  return spawn(L, &limits);
}

/* ---- all ----
 * The group is a userdata on the parent's stack; the registry keeps it under its own address while
 * children run. Its user values are the table of results, whose keys are there from the start (so
 * that storing a result needs no memory), and the first error. */

struct child {
  struct group *group;
  struct mp_task *task; /* NULL: not started or ended */
};

struct group {
  struct mp_sched *sched;
  struct mp_token token; /* of the parent's wait */
  lua_State *main;
  size_t count, running;
  bool failed;
  struct child children[];
};

enum { RESULTS = 1, ERROR = 2, KEYS = 3, GROUP_VALUES = 3 };

static void group_release(lua_State *L, struct group *group) {
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, group);
}

static void group_kill(struct group *group) {
  for (size_t i = 0; i < group->count; i++) {
    struct mp_task *task = group->children[i].task;
    group->children[i].task = NULL;
    if (task) mp_task_kill(task);
  }
  group->running = 0;
}

static void on_child(struct mp_task *task, lua_State *L, bool ok, void *data) {
  (void)task;
  struct child *child = data;
  struct group *group = child->group;
  child->task = NULL;
  lua_checkstack(L, 6);
  if (ok) lua_settop(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, group);
  if (ok) {
    lua_getiuservalue(L, 2, RESULTS);
    lua_getiuservalue(L, 2, KEYS);
    lua_rawgeti(L, -1, (lua_Integer)(child - group->children) + 1);
    lua_pushvalue(L, 1);
    lua_rawset(L, -4);
  } else if (!group->failed) {
    group->failed = true;
    lua_pushvalue(L, -2);
    lua_setiuservalue(L, -2, ERROR);
  }
  if (--group->running == 0) {
    mp_wait_ready(group->sched, group->token);
    group_release(L, group);
  }
}

static void group_abandon(void *data) {
  struct group *group = data;
  group_kill(group);
  lua_checkstack(group->main, 2);
  group_release(group->main, group);
}

static int all_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct group *group = lua_touserdata(L, 2);
  lua_settop(L, 2);
  lua_getiuservalue(L, 2, group->failed ? ERROR : RESULTS);
  return group->failed ? lua_error(L) : 1;
}

/* (functions, group): starts one task for each. */
static int start_children(lua_State *L) {
  struct group *group = lua_touserdata(L, 2);
  const struct mp_task_origin origin = mp_task_origin(mp_task_of(L));
  char name[72];
  lua_getiuservalue(L, 2, KEYS);
  for (size_t i = 0; i < group->count; i++) {
    struct child *child = &group->children[i];
    lua_rawgeti(L, 3, (lua_Integer)i + 1);
    lua_rawget(L, 1);
    name_of(L, -1, "all", name, sizeof name);
    child->task = mp_task_start(group->sched, L, 0, name, &origin, on_child, child);
    child->task->joined_by = mp_task_of(L);
    group->running++;
  }
  return 0;
}

static int task_all(lua_State *L) {
  if (!lua_istable(L, 1))
    mp_luaerr_misuse(L, "moonpool.all", "expected a table of functions, got %s",
                     luaL_typename(L, 1));
  mp_wait_check(L, "moonpool.all");
  lua_settop(L, 1);
  size_t count = 0;
  lua_newtable(L); /* 2: results */
  lua_newtable(L); /* 3: keys */
  lua_pushnil(L);
  while (lua_next(L, 1)) {
    if (!callable(L, -1))
      mp_luaerr_misuse(L, "moonpool.all", "the value at %s is a %s, not a function",
                       luaL_tolstring(L, 4, NULL), luaL_typename(L, 5));
    lua_pop(L, 1);
    lua_pushvalue(L, 4);
    lua_rawseti(L, 3, (lua_Integer)++count);
    lua_pushvalue(L, 4);
    lua_pushboolean(L, 1);
    lua_rawset(L, 2);
  }
  if (count == 0) {
    lua_settop(L, 2);
    return 1;
  }
  size_t size = sizeof(struct group) + count * sizeof(struct child);
  struct group *group = lua_newuserdatauv(L, size, GROUP_VALUES);
  group->count = count;
  group->running = 0;
  group->failed = false;
  for (size_t i = 0; i < count; i++) group->children[i] = (struct child){.group = group};
  group->sched = mp_task_sched(mp_task_of(L));
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  group->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  lua_insert(L, 2);
  lua_setiuservalue(L, 2, KEYS);
  lua_setiuservalue(L, 2, RESULTS);
  lua_pushvalue(L, 2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, group);

  lua_pushcfunction(L, start_children);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
    group_kill(group);
    group_release(L, group);
    return lua_error(L);
  }
  group->token = mp_wait_begin(L, group_abandon, group);
  return mp_wait_yield(L, 0, all_k);
}

/* refused_memory() -> the error object for Lua's text about memory that the task was refused: by
 * its own limit (OUT_OF_MEMORY), or because the host has none left */
static int task_refused_memory(lua_State *L) {
  mp_task_push_nomem(L);
  return 1;
}

void mp_task_lua(lua_State *L) {
  static const luaL_Reg functions[] = {{"sleep", task_sleep},
                                       {"spawn", task_spawn},
                                       {"spawn_limited", task_spawn_limited},
                                       {"loading", task_loading},
                                       {"refused_memory", task_refused_memory},
                                       {"all", task_all},
                                       {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"wait", handle_wait}, {"cancel", handle_cancel}, {NULL, NULL}};
  if (luaL_newmetatable(L, handle_name)) {
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, handle_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
