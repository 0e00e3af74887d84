/* task.c: how a task's function is called, and what the code that runs in it may ask. */
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

static int describe_nomem(lua_State *L) {
  const struct mp_task *task = lua_touserdata(L, 2);
  if (*task->short_at) {
    lua_pushstring(L, task->short_at);
    lua_setfield(L, 1, "line");
  }
  if (task->account && !mp_account_was_refused(task->account)) { /* it was not its own limit */
    lua_pushliteral(L, "HOST_OUT_OF_MEMORY");
    lua_setfield(L, 1, "code");
    lua_pushinteger(L, 503);
    lua_setfield(L, 1, "status");
  }
  return 0;
}

void mp_task_push_nomem(lua_State *L, struct mp_task *task) {
  mp_luaerr_push_nomem(L);
  if (!lua_checkstack(L, 4)) return;
  lua_pushcfunction(L, describe_nomem);
  lua_pushvalue(L, -2);
  lua_pushlightuserdata(L, task);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK) lua_pop(L, 1);
}

static int trampoline_end(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status == LUA_OK || status == LUA_YIELD) {
    lua_remove(L, 1); /* the handler */
    return lua_gettop(L);
  }
  struct mp_task *task = mp_task_of(L);
  task->failed = true;
  if (status == LUA_ERRMEM) {
    struct mp_account *owner = task->sched->owner;
    task->sched->owner = NULL; /* the error is the host's */
    mp_task_push_nomem(L, task);
    task->sched->owner = owner;
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

/* The task itself counts among what its account has used. The account that it leaves is still
 * referred to. */
static void join(struct mp_task *task, struct mp_account *account) {
  if (task->account) mp_account_change(task->account, sizeof *task, 0);
  task->account = account;
  mp_list_remove(&task->member);
  if (!account) return;
  mp_account_change(account, 0, sizeof *task);
  mp_list_push_back(&account->members, &task->member);
}

void mp_task_leave_account(struct mp_task *task) {
  struct mp_account *account = task->account;
  join(task, NULL);
  mp_account_unref(account);
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
    const struct mp_task *parent = mp_task_of(L);
    mp_list_init(&task->member);
    join(task, mp_account_ref(origin->account));
    task->label = mp_label_ref(origin->label);
    task->scope = mp_scope_ref(origin->scope);
    task->loading = parent && parent->loading;
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
  join(task, mp_task_account_new(task->sched, limits));
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

void mp_task_settle(struct mp_task *task) { task->settled = true; }
bool mp_task_settled(const struct mp_task *task) { return task->settled; }
bool mp_task_condemned(const struct mp_task *task) { return task->fatal != MP_OK; }

void mp_task_on_killed(struct mp_task *task, void (*fn)(void *data)) { task->on_killed = fn; }

const char *mp_task_name(const struct mp_task *task) { return task->name; }
struct mp_sched *mp_task_sched(const struct mp_task *task) {
  return task->sched;
}
struct mp_task *mp_task_of(lua_State *L) {
  return *mp_task_place(L);
}
void mp_task_set_data(struct mp_task *task, void *data) { task->data = data; }
void *mp_task_data(const struct mp_task *task) { return task->data; }
struct mp_label *mp_task_label(const struct mp_task *task) {
  return task ? task->label : NULL;
}
bool mp_task_beside(const struct mp_task *task) { return task && task->beside; }
struct mp_scope *mp_task_scope(const struct mp_task *task) {
  return task ? task->scope : NULL;
}

void mp_task_where(lua_State *L, int level, char *out, size_t size) {
  lua_Debug ar;
  out[0] = '\0';
  for (; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline <= 0) continue;
    bool own = strncmp(ar.source, "@moonpool/", 10) == 0;
    /* The host's own modules speak for their caller; they are named only if nobody else is
     * there. */
    if (own && out[0]) continue;
    /* On the path of every statement, so without snprintf. */
    const char *source = *ar.source == '@' ? ar.source + 1 : ar.short_src;
    size_t len = strlen(source);
    if (len > size - 24) len = size - 24;
    memcpy(out, source, len);
    out[len++] = ':';
    out[len + mp_format_int(out + len, ar.currentline)] = '\0';
    if (!own) return;
  }
}

/* Writes "table.sort" for the function on top if a library of Lua has it, else nothing. */
static bool library_name(lua_State *L, char *out, size_t size) {
  static const char *const libraries[] = {"table", "string", "_G", "utf8", "os", "io", NULL};
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  for (const char *const *library = libraries; *library; library++) {
    if (lua_getfield(L, -1, *library) == LUA_TTABLE) {
      lua_pushnil(L);
      while (lua_next(L, -2)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, -5)) {
          bool global = strcmp(*library, "_G") == 0;
          snprintf(out, size, "%s%s%s", global ? "" : *library, global ? "" : ".",
                   lua_tostring(L, -2));
          lua_pop(L, 4);
          return true;
        }
        lua_pop(L, 1);
      }
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return false;
}

/* Names what keeps L from yielding: the innermost C function above level 0 that no yield passes. */
static void blocker(lua_State *L, char *out, size_t size) {
  static const char *const open[] = {"pcall", "xpcall", "dofile", NULL};
  lua_Debug ar;
  snprintf(out, size, "a C function");
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sn", &ar);
    if (ar.name && strcmp(ar.name, "__gc") == 0) {
      snprintf(out, size, "a __gc metamethod");
      return;
    }
    if (*ar.what != 'C') continue;
    lua_getinfo(L, "f", &ar);
    bool known = library_name(L, out, size), passes = false;
    lua_pop(L, 1);
    if (!known && ar.name) snprintf(out, size, "%s", ar.name);
    for (const char *const *name = open; *name; name++) passes |= strcmp(*name, out) == 0;
    if (!passes) return;
    snprintf(out, size, "a C function");
  }
}

void mp_wait_check(lua_State *L, const char *what) {
  struct mp_task *task = mp_task_of(L);
  char inside[64];
  if (!task)
    mp_luaerr_misuse(L, what, "cannot wait here: this code does not run in a task of the host");
  if (task->state != MP_TASK_RUNNING || task != task->sched->running)
    mp_luaerr_misuse(L, what, "cannot wait here: the task \"%s\" is being ended", task->name);
  if (lua_isyieldable(L) && !task->blocked) return;
  if (lua_isyieldable(L))
    mp_luaerr_misuse(L, what,
                     "cannot wait here: this coroutine is resumed from a place that cannot wait "
                     "(table.sort, string.gsub, __gc, ...); call it before and pass the result in");
  blocker(L, inside, sizeof inside);
  mp_luaerr_misuse(L, what, "cannot wait inside %s; call it before and pass the result in", inside);
}

int mp_wait_yield(lua_State *L, lua_KContext ctx, lua_KFunction k) {
  return mp_co_yield(L, 0, ctx, k);
}
