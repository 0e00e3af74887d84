/* task_start.c: how a task's function is called, and what the code that runs in it may ask. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "script/task_priv.h"
#include "util/buf.h"
#include "util/log.h"

/* ---- the trampoline ----
 * The script's function runs below lua_pcallk with the message handler: the traceback is taken
 * before the stack unwinds, and <close> variables of a failed function run while the task may still
 * wait. */

static int trampoline_end(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status == LUA_OK || status == LUA_YIELD) {
    lua_remove(L, 1); /* the handler */
    return lua_gettop(L);
  }
  struct mp_task *task = mp_task_of(L);
  task->failed = true;
  if (status == LUA_ERRMEM) {
    mp_task_push_nomem(L);
  } else if (!mp_luaerr_is(L, -1)) { /* an error in the handler, or in a <close> after it */
    lua_pushcfunction(L, mp_luaerr_handler);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
  }
  if (task->scope && mp_luaerr_is(L, -1)) { /* what a script has made, the host will read */
    lua_pushcfunction(L, mp_luaerr_copy);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
  }
  return 1;
}

static int trampoline(lua_State *L) {
  int nargs = lua_gettop(L) - 1;
  lua_pushcfunction(L, mp_luaerr_handler);
  lua_insert(L, 1);
  return trampoline_end(L, mp_task_pcallk(L, nargs, LUA_MULTRET, 1, 0, trampoline_end), 0);
}

const struct mp_task_origin mp_task_of_host = {0};

struct mp_task_origin mp_task_origin(const struct mp_task *task) {
  if (!task) return mp_task_of_host;
  return (struct mp_task_origin){task->scope, task->label, task->apart ? NULL : task->account};
}

struct mp_task *mp_task_start(struct mp_sched *sched, lua_State *L, int nargs, const char *name,
                              const struct mp_task_origin *origin, mp_task_done on_done,
                              void *data) {
  luaL_checkstack(L, 4, "too many arguments for a task");
  lua_State *co = lua_newthread(L);
  lua_insert(L, -nargs - 2); /* below the function */
  if (!lua_checkstack(co, nargs + LUA_MINSTACK)) {
    luaL_error(L, "not enough memory");
    return NULL;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  lua_pop(L, 1);
  lua_pushcfunction(co, trampoline);
  lua_xmove(L, co, nargs + 1);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX); /* pops the thread */
  /* Nothing below raises but for memory that is not Lua's. */
  struct mp_task *task = calloc(1, sizeof *task);
  if (task) {
    *task =
        (struct mp_task){.sched = sched, .main = main, .co = co, .ref = ref, .nargs = nargs + 1};
    task->on_done = on_done;
    task->done_data = data;
    task->fatal_ref = LUA_NOREF;
    struct mp_task *parent = mp_task_of(L);
    mp_list_init(&task->member);
    mp_task_join_account(task, mp_account_ref(origin->account));
    task->label = mp_label_ref(origin->label);
    task->scope = mp_scope_ref(origin->scope);
    task->loading = parent && parent->loading;
    if (parent) parent->parent = true;
    task->beside = parent && (parent->data || parent->beside);
    mp_copy_text(task->name, sizeof task->name, name ? name : "task");
  }
  if (!task || !mp_sched_add(sched, task)) {
    if (task) {
      mp_task_leave_account(task);
      mp_label_unref(task->label);
      mp_scope_unref(task->scope);
    }
    free(task);
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    luaL_error(L, "not enough memory");
    return NULL;
  }
  *mp_task_place(co) = task;
  return task;
}

int mp_task_pcallk(lua_State *L, int nargs, int nresults, int handler, lua_KContext ctx,
                   lua_KFunction k) {
  struct mp_task *task = mp_task_of(L);
  if (task) mp_slice_settle(&task->sched->slice);
  return lua_pcallk(L, nargs, nresults, handler, ctx, k);
}

void mp_task_limit(struct mp_task *task, const struct mp_task_limits *limits) {
  struct mp_account *before = task->account;
  task->founder = true;
  mp_task_join_account(task, mp_task_account_new(task->sched, limits));
  if (task->account) task->account->founder = task;
  mp_account_unref(before);
  if (!task->account) mp_log(MP_LOG_ERROR, "script", "no memory for the limits of %s", task->name);
}

void mp_task_change_limits(struct mp_task *task, const struct mp_task_limits *limits) {
  if (task->founder && task->account)
    mp_account_limit(task->account, limits->cpu_ms, limits->memory);
}

void mp_task_limit_apart(struct mp_task *task, const struct mp_task_limits *limits) {
  mp_task_limit(task, limits);
  task->apart = true;
}
