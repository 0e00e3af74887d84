/* slice_hook.c: the hook that runs when a task's slice is over: the task yields or is ended; and
 * the report about tasks that held the loop too long. Killing is "yield and never resume": no pcall
 * sees it. Only where nothing can yield (table.sort, gsub, xpcall's handler ...) is an error
 * raised. While that error, or Lua's own for a lack of memory, unwinds a task that is being ended,
 * only <close> variables run; whoever catches it is ended (mp_task_caught). */
#include <lauxlib.h>
#include <string.h>
#include <time.h>

#include "script/luaerr.h"
#include "script/task_priv.h"
#include "util/log.h"

enum {
  CLOSE_MS = 10, /* of CPU time for the <close> variables of a task that is being ended */
  STUCK_MS = 20, /* CPU time that code which cannot yield may take from the loop */
  GIVE_WAY_MS =
      5, /* C code that checks the clock itself gives way after so long, without the watchdog */
  HOST_STUCK_MS = 250, /* ... that code of the host's own modules may take */
  HOST_INSTRUCTIONS =
      100,        /* instructions until the hook checks again whether the script's own code runs */
  REPORT_MS = 50, /* longer slices are counted and logged */
  REPORT_EVERY_MS = 1000,
  VAIN_LIMIT = 3, /* the garbage of a task that keeps what it has is not collected for ever */
};

/* ---- the end ---- */

struct sentence {
  struct mp_task *task;
  lua_State *co;
};

static int make_fatal(lua_State *L) {
  const struct sentence *s = lua_touserdata(L, 1);
  const struct mp_account *account = s->task->account;
  struct mp_err err;
  if (s->task->fatal == MP_ENOMEM && !mp_account_was_refused(account)) {
    mp_err_set(&err, MP_ENOMEM, "%s was ended because the host had no memory left", s->task->name);
    strcpy(err.name, "HOST_OUT_OF_MEMORY");
  } else if (s->task->fatal == MP_ENOMEM)
    mp_err_set(&err, MP_ENOMEM, "%s needed more than its %zu KB of memory", s->task->name,
               account->limit >> 10);
  else if (s->task->fatal == MP_ETIMEOUT)
    mp_err_set(&err, MP_ETIMEOUT,
               "%s ran longer than the %.3g s that its call allows for what it starts",
               s->task->name, (double)account->wall_ms / 1000);
  else
    mp_err_set(&err, s->task->fatal,
               "%s computed for more than its %llu ms of CPU time; the traceback shows where",
               s->task->name, (unsigned long long)account->cpu_limit_ns / 1000000);
  mp_luaerr_push(L, &err);
  mp_luaerr_note(L, s->co, L == s->co ? 1 : 0);
  s->task->fatal_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static int describe_nomem(lua_State *L) {
  const struct mp_task *task = lua_touserdata(L, 2);
  if (*task->short_at) {
    lua_pushstring(L, task->short_at);
    lua_setfield(L, 1, "line");
  }
  if (task->account && !mp_account_was_refused(task->account)) { /* it was not its own limit */
    lua_pushliteral(L, "HOST_OUT_OF_MEMORY");
    lua_setfield(L, 1, "code");
    lua_pushliteral(L, "the host had no memory left");
    lua_setfield(L, 1, "message");
    lua_pushinteger(L, 503);
    lua_setfield(L, 1, "status");
  }
  return 0;
}

void mp_task_push_nomem(lua_State *L) {
  struct mp_task *task = mp_task_of(L);
  struct mp_account *owner = task ? task->sched->owner : NULL;
  if (task) task->sched->owner = NULL; /* the error is the host's */
  mp_luaerr_push_nomem(L);
  if (task && lua_checkstack(L, 4)) {
    lua_pushcfunction(L, describe_nomem);
    lua_pushvalue(L, -2);
    lua_pushlightuserdata(L, task);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) lua_pop(L, 1);
  }
  if (task) task->sched->owner = owner;
}

void mp_task_condemn(struct mp_task *task, lua_State *L, lua_State *co, enum mp_code code) {
  struct mp_account *owner = task->sched->owner;
  struct sentence sentence = {task, co};
  task->fatal = code;
  task->sched->owner = NULL; /* the error is the host's */
  if (lua_checkstack(L, 4)) {
    lua_pushcfunction(L, make_fatal);
    lua_pushlightuserdata(L, &sentence);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
  }
  task->sched->owner = owner;
}

static void collect(lua_State *L, struct mp_task *task) {
  lua_gc(L, LUA_GCCOLLECT);
  mp_account_collected(task->account);
}

void mp_task_reserve(lua_State *L, size_t size) {
  struct mp_task *task = mp_task_of(L);
  struct mp_account *account = task ? task->account : NULL;
  if (!account || !account->limit || size > account->limit) return;
  if (account->used + size <= account->limit || account->vain >= VAIN_LIMIT) return;
  if (mp_account_out_of_memory(account)) return; /* its <close> variables have no time for that */
  collect(L, task);
  if (account->used + size > account->limit) account->vain++;
}

size_t mp_task_room(lua_State *L) {
  const struct mp_task *task = mp_task_of(L);
  const struct mp_account *account = task ? task->account : NULL;
  if (!account || !account->limit) return SIZE_MAX;
  return account->used < account->limit ? account->limit - account->used : 0;
}

/* Whether a hook raised the error: hooks are off then, so nothing could stop the handler that runs
 * now. */
static bool from_hook(lua_State *L) {
  lua_Debug ar;
  return lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && !strcmp(ar.namewhat, "hook");
}

static int shielded(lua_State *L) {
  struct mp_task *task = mp_task_of(L);
  lua_settop(L, 1);
  if (task && (task->fatal || task->doomed || task->state != MP_TASK_RUNNING || from_hook(L)))
    return 1;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

void mp_task_shield_handler(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  lua_pushvalue(L, idx);
  lua_pushcclosure(L, shielded, 1);
  lua_replace(L, idx);
}

/* ---- the report ---- */

static int trace(lua_State *L) {
  luaL_traceback(L, lua_touserdata(L, 1), NULL, 1);
  return 1;
}

/* Pushes one value. */
static const char *push_trace(lua_State *L, struct mp_task *task) {
  struct mp_account *owner = task->sched->owner;
  task->sched->owner = NULL;
  lua_pushcfunction(L, trace);
  lua_pushlightuserdata(L, L);
  lua_pcall(L, 1, 1, 0);
  task->sched->owner = owner;
  return lua_tostring(L, -1);
}

void mp_slice_report(struct mp_task *task, lua_State *L) {
  struct mp_slice *slice = &task->sched->slice;
  uint64_t number = atomic_load_explicit(&slice->number, memory_order_relaxed);
  if (atomic_load_explicit(&slice->seen, memory_order_relaxed) != number) return;
  uint64_t wall_ms = mp_slice_wall_ns(slice) / 1000000;
  if (slice->reported == number || wall_ms < REPORT_MS) return;
  slice->reported = number;
  slice->overruns++;
  uint64_t now = mp_slice_clock_ns();
  if (!task->account || now - slice->report_ns < REPORT_EVERY_MS * UINT64_C(1000000)) return;
  slice->report_ns = now;
  mp_log_on(mp_label_about(task->label), MP_LOG_WARN, "script",
            "%s blocked the loop for %llu ms; %s", task->name, (unsigned long long)wall_ms,
            L ? push_trace(L, task) : "it was inside of a C function, or where Lua cannot yield");
  if (L) lua_pop(L, 1);
}

/* ---- the hook ---- */

static bool may_yield(lua_State *L, const struct mp_task *task) {
  return lua_isyieldable(L) && !task->blocked;
}

static bool starts_with(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The host's own modules are not interrupted between two waits, so they need no locks. Exceptions
 * are those that only convert a value, which may be as large as a caller likes. */
static bool inside_host(lua_State *L, lua_Debug *ar) {
  return lua_getinfo(L, "S", ar) && starts_with(ar->source, "@moonpool/") &&
         !starts_with(ar->source, "@moonpool/is") &&
         !starts_with(ar->source, "@moonpool/operation/border");
}

/* Past its CPU time it is condemned. */
static bool exhausted(lua_State *L, struct mp_task *task) {
  if (!task->account) return false;
  if (!mp_account_out_of_time(task->account, mp_slice_cpu_ns(&task->sched->slice))) return false;
  mp_task_condemn(task, L, L, MP_ESCRIPT_TIMEOUT);
  return true;
}

void mp_task_spend(lua_State *L, uint64_t cpu_ns) {
  struct mp_task *task = mp_task_of(L);
  if (!task || !task->account) return;
  task->account->cpu_ns += cpu_ns;
  if (mp_account_out_of_time(task->account, 0)) mp_slice_arm(&task->sched->slice, L);
}

static bool closing_too_long(const struct mp_task *task) {
  return mp_slice_closing_ns(&task->sched->slice) >= CLOSE_MS * UINT64_C(1000000);
}

static bool stuck(struct mp_task *task, uint64_t ms) {
  return task->account && mp_slice_cpu_ns(&task->sched->slice) > ms * UINT64_C(1000000);
}

void mp_task_checkpoint(lua_State *L, const char *what) {
  struct mp_task *task = mp_task_of(L);
  if (!task) return;
  bool closing = task->sched->slice.close_ns != 0;
  if (!closing && (task != task->sched->running || !task->account)) return;
  if (closing && closing_too_long(task)) {
    mp_slice_arm(&task->sched->slice, L); /* for the instruction after the pcall that catches it */
  } else if (!closing && exhausted(L, task)) {
    mp_slice_closing(&task->sched->slice);
  } else if (closing || !stuck(task, STUCK_MS)) {
    return;
  }
  luaL_error(L, "%s: it has blocked all other tasks for %d ms", what, STUCK_MS);
}

bool mp_task_slice_over(lua_State *L) {
  const struct mp_task *task = mp_task_of(L);
  if (!task || !task->account || task != task->sched->running || task->sched->slice.close_ns)
    return false;
  return mp_slice_clock_ns() - task->sched->slice.begin_ns >= GIVE_WAY_MS * UINT64_C(1000000) &&
         may_yield(L, task);
}

int mp_task_give_way(lua_State *L, lua_KContext ctx, lua_KFunction k) {
  struct mp_task *task = mp_task_of(L);
  struct mp_token token = mp_wait_begin(L, NULL, NULL);
  task->account->spun_ns = mp_loop_clock_ns(task->sched->loop);
  mp_wait_ready(task->sched, token);
  return mp_wait_yield(L, ctx, k);
}

void mp_task_caught(lua_State *L) {
  struct mp_task *task = mp_task_of(L);
  if (!task || task != task->sched->running || !(task->fatal || task->doomed)) return;
  task->sched->slice.close_ns = 0;
  mp_slice_arm(&task->sched->slice, L);
}

/* Decides what happens to the code on L. */
static enum { GO_ON, YIELD, RAISE } verdict(lua_State *L, lua_Debug *ar, struct mp_task *task) {
  struct mp_slice *slice = &task->sched->slice;
  if (slice->close_ns) {
    if (!closing_too_long(task)) return GO_ON;
    mp_slice_arm(&task->sched->slice, L);
    return RAISE;
  }
  if (task != task->sched->running) return GO_ON;
  if (task->account && mp_account_wants_collection(task->account)) collect(L, task);
  if (!task->fatal && !task->doomed) {
    if (mp_slice_wall_ns(slice) < MP_SLICE_SEEN_MS * UINT64_C(1000000)) return GO_ON;
    mp_slice_report(task, L);
    if (!exhausted(L, task)) {
      bool host = inside_host(L, ar);
      if (may_yield(L, task) && !host) return YIELD;
      if (!stuck(task, host ? HOST_STUCK_MS : STUCK_MS)) {
        if (host) lua_sethook(L, slice->hook, LUA_MASKCOUNT, HOST_INSTRUCTIONS);
        return GO_ON;
      }
    }
  } else if (task->fatal && task->fatal_ref == LUA_NOREF) {
    mp_task_condemn(task, L, L, task->fatal);
  }
  if (may_yield(L, task)) return YIELD;
  if (task->fatal || task->doomed)
    mp_slice_closing(slice);
  else
    mp_slice_arm(slice, L); /* for the next instruction */
  return RAISE;
}

void mp_slice_hook(lua_State *L, lua_Debug *ar) {
  struct mp_task *task = mp_task_of(L);
  if (!task) {
    lua_sethook(L, NULL, 0, 0);
    return;
  }
  mp_slice_switch(&task->sched->slice, NULL); /* so that the watchdog does not arm it meanwhile */
  lua_sethook(L, NULL, 0, 0);
  switch (verdict(L, ar, task)) {
    case YIELD:
      task->preempted = true;
      lua_yield(L, 0);
      return;
    case RAISE:
      mp_slice_switch(&task->sched->slice, L);
      luaL_error(
          L, task->fatal || task->doomed || task->state == MP_TASK_ENDED
                 ? "the task is being ended"
                 : "this code blocks all other tasks and cannot be interrupted here (table.sort, "
                   "string.gsub, __tostring, a message handler ...)");
      return;
    case GO_ON: break;
  }
  mp_slice_switch(&task->sched->slice, L);
}
