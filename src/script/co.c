/* co.c: the table `coroutine` for scripts. Everything is as in plain Lua, and a wait of the host
 * inside a script's coroutine passes through its resumers up to the scheduler and back in: the
 * resumers see neither. While it waits, the coroutine is "normal": it counts as running. */
#include <lauxlib.h>

#include "script/luaerr.h"
#include "script/task_priv.h"

static const char tag; /* its address marks the host's yields */

static void *tag_pointer(void) { return (void *)(uintptr_t)&tag; }

int mp_co_yield(lua_State *L, int inner, lua_KContext ctx, lua_KFunction k) {
  luaL_checkstack(L, 2, "wait");
  lua_pushlightuserdata(L, tag_pointer());
  if (inner) {
    lua_pushvalue(L, inner);
  } else {
    lua_pushnil(L);
  }
  return lua_yieldk(L, 2, ctx, k);
}

bool mp_co_waiting(lua_State *co) {
  return lua_status(co) == LUA_YIELD && lua_gettop(co) >= 2 &&
         lua_touserdata(co, -2) == tag_pointer();
}

bool mp_co_held(lua_State *co) {
  lua_Debug ar;
  if (lua_status(co) != LUA_YIELD || !*mp_task_place(co)) return false;
  if (mp_co_waiting(co)) return true;
  /* A coroutine that called coroutine.yield is inside a C function; one that the hook made yield is
   * not. */
  return lua_getstack(co, 0, &ar) && lua_getinfo(co, "S", &ar) && *ar.what != 'C';
}

int mp_co_reset(lua_State *co) {
  struct mp_task *task = mp_task_of(co);
  if (!task) return lua_resetthread(co);
  struct mp_sched *sched = task->sched;
  struct mp_slice *slice = &sched->slice;
  struct mp_account *owner = sched->owner;
  bool outside = !sched->running && !sched->closing; /* of any slice */
  bool first = task->state == MP_TASK_ENDED && !slice->close_ns;
  if (outside) mp_slice_begin(slice, co, false);
  lua_State *before = mp_slice_switch(slice, co);
  if (first) mp_slice_closing(slice);
  sched->owner = task->account;
  sched->closing++;
  int status = lua_resetthread(co);
  sched->closing--;
  sched->owner = owner;
  if (first) slice->close_ns = 0;
  if (outside) {
    mp_slice_end(slice);
  } else {
    mp_slice_switch(slice, before);
  }
  return status;
}

int mp_co_close(lua_State *co) {
  if (mp_co_waiting(co)) {
    lua_State *inner = lua_tothread(co, -1);
    if (inner) {
      *mp_task_place(inner) = *mp_task_place(co);
      mp_co_close(inner);
    }
  }
  return mp_co_reset(co);
}

static lua_State *get_co(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  return co;
}

/* ---- status ---- */

enum status { RUNNING, DEAD, SUSPENDED, NORMAL };
static const char *const status_names[] = {"running", "dead", "suspended", "normal"};

static enum status status_of(lua_State *L, lua_State *co) {
  if (L == co) return RUNNING;
  switch (lua_status(co)) {
    case LUA_YIELD: return mp_co_held(co) ? NORMAL : SUSPENDED;
    case LUA_OK: {
      lua_Debug ar;
      if (lua_getstack(co, 0, &ar))
        return NORMAL; /* it is inside a call: it has resumed another coroutine */
      return lua_gettop(co) == 0 ? DEAD : SUSPENDED;
    }
    default: return DEAD;
  }
}

static int co_status(lua_State *L) {
  lua_pushstring(L, status_names[status_of(L, get_co(L))]);
  return 1;
}

/* ---- resume and wrap ---- */

enum { FAILED = -1, WAITS = -2 };
enum { MAX_CLOSING = 50 };

/* Resumes `co` with its `nargs` values. The number of results, moved to L; FAILED: the error is on
 * top of L; WAITS: the host's yield is to be passed outward. */
static int run(lua_State *L, lua_State *co, int nargs) {
  struct mp_task *task = mp_task_of(L);
  bool blocked = task && task->blocked;
  int nres = 0;
  *mp_task_place(co) = task;
  /* lua_resume does not pass on that L cannot yield; mp_wait_check reads this flag instead. */
  if (task && !lua_isyieldable(L)) task->blocked = true;
  if (task) mp_slice_switch(&task->sched->slice, co);
  int status = lua_resume(co, L, nargs, &nres);
  if (task) {
    task->blocked = blocked;
    mp_slice_switch(&task->sched->slice, L);
    if (task->fatal && !task->sched->slice.close_ns) mp_slice_arm(&task->sched->slice, L);
  }
  if (status == LUA_YIELD && (mp_co_waiting(co) || (task && task->preempted))) return WAITS;
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(co, L, 1);
    if (mp_luaerr_is(L, -1)) mp_luaerr_note(L, co, 0); /* its stack is gone after this */
    return FAILED;
  }
  if (!lua_checkstack(L, nres + 1)) {
    lua_pop(co, nres);
    lua_pushliteral(L, "too many results to resume");
    return FAILED;
  }
  if (status == LUA_YIELD)
    *mp_task_place(co) = NULL; /* the script yielded it: it belongs to no task now */
  lua_xmove(co, L, nres);
  return nres;
}

static int begin(lua_State *L, lua_State *co, int nargs) {
  if (!lua_checkstack(co, nargs)) {
    lua_pushliteral(L, "too many arguments to resume");
    return FAILED;
  }
  switch (status_of(L, co)) {
    case SUSPENDED: break;
    case DEAD: lua_pushliteral(L, "cannot resume dead coroutine"); return FAILED;
    case RUNNING:
    case NORMAL: lua_pushliteral(L, "cannot resume non-suspended coroutine"); return FAILED;
  }
  lua_xmove(L, co, nargs);
  return run(L, co, nargs);
}

static int proceed(lua_State *L, lua_State *co) {
  if (!mp_co_held(co)) {
    lua_pushliteral(L, "the coroutine was closed while it waited");
    return FAILED;
  }
  if (mp_co_waiting(co)) lua_pop(co, 2);
  return run(L, co, 0);
}

static int resume_k(lua_State *L, int status, lua_KContext ctx);

static int resume_end(lua_State *L, int n) {
  if (n == WAITS) return mp_co_yield(L, 1, 0, resume_k);
  if (n == FAILED) mp_task_caught(L);
  lua_pushboolean(L, n != FAILED);
  lua_insert(L, n == FAILED ? -2 : -(n + 1));
  return n == FAILED ? 2 : n + 1;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_State *co = lua_tothread(L, 1);
  return resume_end(L, proceed(L, co));
}

static int co_resume(lua_State *L) {
  lua_State *co = get_co(L);
  return resume_end(L, begin(L, co, lua_gettop(L) - 1));
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx);

static int wrap_end(lua_State *L, lua_State *co, int n) {
  if (n == WAITS) return mp_co_yield(L, lua_upvalueindex(1), 0, wrap_k);
  if (n != FAILED) return n;
  int status = lua_status(co);
  if (status != LUA_OK &&
      status != LUA_YIELD) { /* the error came from inside: close its variables */
    lua_pop(L, 1);
    status = mp_co_reset(co); /* the error is on the stack of co a second time */
    lua_xmove(co, L, 1);      /* the error, or the one of a <close> */
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  return wrap_end(L, co, proceed(L, co));
}

static int wrap_call(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  return wrap_end(L, co, begin(L, co, lua_gettop(L)));
}

static int co_create(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  return 1;
}

static int co_wrap(lua_State *L) {
  co_create(L);
  lua_pushcclosure(L, wrap_call, 1);
  return 1;
}

/* ---- the others ---- */

/* Is L the task's own coroutine, which to the script is its main program? */
static bool is_task(lua_State *L) {
  struct mp_task *task = mp_task_of(L);
  return task && task->co == L;
}

static int co_yield (lua_State *L) {
  if (is_task(L)) return luaL_error(L, "coroutine.yield outside of a coroutine of the script");
  return lua_yield(L, lua_gettop(L));
}

static int co_isyieldable(lua_State *L) {
  lua_State *co = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
  lua_pushboolean(L, lua_isyieldable(co) && !is_task(co));
  return 1;
}

static int co_running(lua_State *L) {
  bool main = lua_pushthread(L) || is_task(L);
  lua_pushboolean(L, main);
  return 2;
}

static int co_close(lua_State *L) {
  lua_State *co = get_co(L);
  enum status status = status_of(L, co);
  if (status == NORMAL && mp_co_held(co)) {
    /* Another task's wait ends here. Its resumer finds the coroutine closed. */
    struct mp_task *task = mp_task_of(co);
    if (task->co == co) return luaL_error(L, "cannot close the coroutine of a task");
    if (task->state == MP_TASK_WAITING) {
      mp_task_abandon(task);
      mp_task_make_ready(task);
    }
  } else if (status == RUNNING || status == NORMAL) {
    return luaL_error(L, "cannot close a %s coroutine", status_names[status]);
  }
  struct mp_task *me = mp_task_of(L);
  if (me && me->sched->closing >= MAX_CLOSING)
    return luaL_error(L,
                      "C stack overflow: <close> variables that close coroutines, nested too deep");
  *mp_task_place(co) = me;
  if (mp_co_close(co) == LUA_OK) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushboolean(L, 0);
  lua_xmove(co, L, 1);
  return 2;
}

void mp_co_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"close", co_close},   {"create", co_create},   {"isyieldable", co_isyieldable},
      {"resume", co_resume}, {"running", co_running}, {"status", co_status},
      {"wrap", co_wrap},     {"yield", co_yield },    {NULL, NULL},
  };
  lua_getglobal(L, "coroutine");
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}
