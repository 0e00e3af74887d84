/* sched.c: the scheduler's turn: which task runs next, and how tasks end. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "script/memory.h"
#include "script/slice.h"
#include "script/task_priv.h"
#include "util/log.h"
#include "util/pre.h"

enum {
  COLLECT_FROM = 4 << 20, /* a task that leaves so many bytes has its garbage collected */
  COLLECT_STEP_KB = 512,
  TELL_KB = 64,
  REST_MS = 3,       /* a task that used up its slice goes on after no other task ran for so long */
  MOST_REST_MS = 10, /* ... and after so long in any case */
  TURN_MS = 5,       /* length of a turn: scripts that did not run in it wait for the next */
  LATE_TURNS = 3,
  SPINNER_MS = 100, /* for so long tasks that share its limits are treated like it */
};

/* ---- the end of a task ---- */

/* Takes the task off all lists; its tokens are stale from here on. The coroutine still exists. */
static void leave(struct mp_task *task) {
  task->state = MP_TASK_ENDED;
  mp_list_remove(&task->link);
  mp_list_remove(&task->all);
  mp_list_remove(&task->member);
  if (task->founder && task->account) task->account->founder = NULL;
  mp_sched_remove(task->sched, task->slot);
  task->sched->count--;
}

/* The garbage of a big task is collected soon, though not at once: that would keep the loop. */
static void collect_after(struct mp_task *task) {
  const struct mp_account *account = task->account;
  if (!account || account->tasks > 1 || account->used < COLLECT_FROM) return;
  mp_task_collect(task);
}

static void drop(struct mp_task *task) {
  lua_State *L = task->main;
  *mp_task_place(task->co) = NULL;
  lua_checkstack(L, 4);
  luaL_unref(L, LUA_REGISTRYINDEX, task->ref);
  luaL_unref(L, LUA_REGISTRYINDEX, task->fatal_ref);
  collect_after(task);
  mp_task_leave_account(task);
#ifndef __clang_analyzer__ /* it cannot see that leave() took the task off every list */
  mp_label_unref(task->label);
  mp_scope_unref(task->scope);
  free(task);
#endif
}

/* When shared limits end a task, the tasks that it has started end too. The task itself has left
 * the account's list. */
static void kill_account(struct mp_task *founder) {
  struct mp_list *members = &founder->account->members;
  while (!mp_list_empty(members))
    mp_task_kill(MP_LIST_ENTRY(members->next, struct mp_task, member));
}

static void finish(struct mp_task *task, bool ok) {
  mp_task_abandon(task); /* a wait that was begun and never yielded */
  leave(task);
  if (!ok && task->founder && task->account && task->account->refused) kill_account(task);
  if (task->on_done) task->on_done(task, task->co, ok, task->done_data);
  mp_co_close(task->co);
  drop(task);
}

/* The task is condemned: what it raised, returned or waits for no longer counts. */
static void finish_condemned(struct mp_task *task) {
  lua_State *co = task->co;
  mp_task_abandon(task);
  leave(task);
  PRE(!task->founder || task->account);
  if (task->founder) kill_account(task);
  mp_co_close(co);
  lua_settop(co, 0);
  if (lua_rawgeti(co, LUA_REGISTRYINDEX, task->fatal_ref) != LUA_TTABLE) {
    lua_settop(co, 0);
    mp_task_push_nomem(co);
  }
  if (task->on_done) task->on_done(task, co, false, task->done_data);
  drop(task);
}

/* The account's time by the clock is over: for all of its tasks. */
static void on_account_late(struct mp_timer *timer) {
  struct mp_account *account = mp_account_ref(MP_CONTAINER_OF(timer, struct mp_account, deadline));
  while (!mp_list_empty(&account->members)) {
    struct mp_task *task = MP_LIST_ENTRY(account->members.next, struct mp_task, member);
    mp_task_condemn(task, task->main, task->co, MP_ETIMEOUT);
    finish_condemned(task);
  }
  mp_account_unref(account);
}

struct mp_account *mp_task_account_new(struct mp_sched *sched,
                                       const struct mp_task_limits *limits) {
  struct mp_account *account = mp_account_new(limits->cpu_ms, limits->memory);
  if (!account) return NULL;
  account->wall_ms = limits->wall_ms;
  mp_timer_init(&account->deadline, sched->loop, on_account_late);
  if (limits->wall_ms) mp_timer_start(&account->deadline, limits->wall_ms);
  return account;
}

void mp_task_kill(struct mp_task *task) {
  if (task->state == MP_TASK_ENDED) return; /* its own <close> or on_done asks for it */
  if (task == task->sched->running) {
    task->doomed = true;
    return;
  }
  leave(task);
  mp_task_abandon(task);
  mp_co_close(task->co);
  if (task->on_killed) task->on_killed(task->done_data);
  drop(task);
}

static struct mp_task *first_of(struct mp_sched *sched, lua_State *main) {
  MP_LIST_EACH(node, &sched->tasks) {
    struct mp_task *task = MP_LIST_ENTRY(node, struct mp_task, all);
    if (task->main == main && task != sched->running) return task;
  }
  return NULL;
}

void mp_task_kill_all(struct mp_sched *sched, lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  lua_pop(L, 1);
  struct mp_task *task;
  while ((task = first_of(sched, main))) { /* from the start: a kill may end or start others */
    mp_log(MP_LOG_WARN, "script", "task \"%s\" was still running at the end and is killed",
           task->name);
    mp_task_kill(task);
  }
}

/* ---- the turn ---- */

static int foreign_yield(lua_State *co) {
  return luaL_error(co, "a C module yielded out of the task; only the host may do that");
}

/* Makes the error value on top of the ended coroutine an error object. */
static void make_error(lua_State *co) {
  lua_pushcfunction(co, mp_luaerr_handler);
  lua_insert(co, -2);
  if (lua_pcall(co, 1, 1, 0) == LUA_OK) return;
  lua_settop(co, 0);
  mp_luaerr_push_nomem(co);
}

/* Whether its limits are used up. If so, the task and all that share its limits are ended here. */
static bool spent(struct mp_task *task) {
  struct mp_account *account = task->account;
  bool memory = mp_account_out_of_memory(account);
  if (!memory && !mp_account_out_of_time(account, 0)) return false;
  struct mp_task *ends = account->founder ? account->founder : task;
  mp_task_condemn(ends, ends->main, ends->co, memory ? MP_ENOMEM : MP_ESCRIPT_TIMEOUT);
  finish_condemned(ends);
  return true;
}

/* Lua's collector sees a row as a few bytes, whatever it holds outside of Lua (charge.h). So the
 * collector is told of those bytes in small steps, and of more than there are when the total is
 * high. */
static void tell_collector(struct mp_sched *sched, lua_State *main) {
  size_t kb = sched->untold >> 10;
  if (kb < TELL_KB) return;
  if (kb > COLLECT_STEP_KB) kb = COLLECT_STEP_KB;
  sched->untold -= kb << 10;
  bool much = sched->held_limit && sched->held > sched->held_limit / 2;
  (void)lua_gc(main, LUA_GCSTEP, (int)(much ? 8 * kb : kb));
}

static void step(struct mp_task *task) {
  struct mp_sched *sched = task->sched;
  lua_State *co = task->co;
  int nargs = task->nargs, nres = 0;
  task->nargs = 0;
  task->state = MP_TASK_RUNNING;
  task->blocked = task->preempted = false;
  if (task->account && spent(task)) return;
  if (mp_co_waiting(co)) lua_pop(co, 2);
  tell_collector(sched, task->main);
  sched->running = task;
  sched->owner = task->account;
  mp_slice_begin(&sched->slice, co, task->account != NULL);
  /* Results of statements came while it waited. */
  if (task->account && mp_account_wants_collection(task->account)) mp_task_interrupt(sched);
  int status = lua_resume(co, task->main, nargs, &nres);
  mp_slice_report(task, NULL);
  uint64_t cpu_ns = mp_slice_end(&sched->slice);
  sched->slice.close_ns = 0;
  if (task->account) task->account->cpu_ns += cpu_ns;
  sched->owner = NULL;
  sched->running = NULL;
  if (task->doomed) {
    mp_task_kill(task);
    return;
  }
  if (task->fatal) {
    finish_condemned(task);
    return;
  }
  if (status == LUA_YIELD && task->preempted) {
    task->state = MP_TASK_READY;
    if (task->account) task->account->spun_ns = mp_loop_clock_ns(sched->loop);
    mp_list_push_back(&sched->spun, &task->link);
    return;
  }
  if (status == LUA_YIELD && mp_co_waiting(co)) {
    if (task->wait) {
      task->state = MP_TASK_WAITING;
    } else { /* made ready before it had yielded */
      mp_task_make_ready(task);
    }
    return;
  }
  bool ok = status == LUA_OK && !task->failed;
  if (status ==
      LUA_YIELD) { /* it yielded past coroutine.yield of co.c: no error can be raised there */
    mp_co_close(co);
    lua_settop(co, 0);
    lua_pushcfunction(co, foreign_yield);
    lua_pcall(co, 0, 1, 0);
    make_error(co);
  } else if (status != LUA_OK) { /* the trampoline itself failed */
    mp_co_reset(co);
    make_error(co);
  }
  finish(task, ok);
}

static void collect_step(struct mp_sched *sched) {
  if (sched->collections)
    sched->collections -= lua_gc(sched->collect, LUA_GCSTEP, COLLECT_STEP_KB) ? 1 : 0;
  else if (mp_memory_trim(sched->collect))
    sched->collect = NULL;
}

/* Lets tasks that used up their slice go on, for one slice together, unless other tasks are active:
 * their work takes several turns of the loop (a query, its answer ...), and each turn would be
 * delayed by a slice. */
static void step_spun(struct mp_sched *sched, bool others) {
  uint64_t now_ns = mp_loop_clock_ns(sched->loop);
  if (others) sched->others_ns = now_ns;
  if (now_ns - sched->others_ns < REST_MS * UINT64_C(1000000) &&
      now_ns - sched->spun_ns < MOST_REST_MS * UINT64_C(1000000)) {
    mp_timer_start(&sched->rest, 1);
    return;
  }
  do {
    step(MP_LIST_ENTRY(mp_list_pop_front(&sched->spun), struct mp_task, link));
    sched->spun_ns = mp_loop_clock_ns(sched->loop);
  } while (!mp_list_empty(&sched->spun) && sched->spun_ns - now_ns < TURN_MS * UINT64_C(1000000));
}

static bool is_spinner(const struct mp_task *task) {
  const struct mp_account *account = task->account;
  return account && account->spun_ns &&
         mp_loop_clock_ns(task->sched->loop) - account->spun_ns < SPINNER_MS * UINT64_C(1000000);
}

static void on_rest(struct mp_timer *timer) {
  mp_loop_wake(MP_CONTAINER_OF(timer, struct mp_sched, rest)->loop);
}

/* In front of `to`, in their order. */
static void move_to_front(struct mp_list *to, struct mp_list *from) {
  while (!mp_list_empty(from)) {
    struct mp_list *node = from->prev;
    mp_list_remove(node);
    mp_list_push_front(to, node);
  }
}

static void turn(void *data) {
  struct mp_sched *sched = data;
  struct mp_list *node;
  struct mp_list woken; /* ready tasks of accounts that spin: they run first, or each of their turns
                           would cost a slice */
  /* scripts left for the next turn: many short slices add up to a long one */
  struct mp_list later;
  uint64_t began_ns = mp_loop_clock_ns(sched->loop) - mp_loop_busy_ns(sched->loop);
  bool others = false, late = false;
  mp_list_init(&woken);
  mp_list_init(&later);
  sched->in_turn = true;
  while ((node = mp_list_pop_front(&sched->ready))) mp_list_push_back(&sched->now, node);
  while ((node = mp_list_pop_front(&sched->now))) {
    struct mp_task *task = MP_LIST_ENTRY(node, struct mp_task, link);
    if (is_spinner(task)) {
      mp_list_push_back(&woken, node);
    } else if (late && task->account) {
      mp_list_push_back(&later, node);
    } else {
      others = true;
      step(task);
      late = mp_loop_clock_ns(sched->loop) - began_ns >= TURN_MS * UINT64_C(1000000);
    }
  }
  move_to_front(&sched->spun, &woken);
  move_to_front(&sched->ready, &later);
  /* Not both in one turn, unless they have waited for several turns. */
  if (!mp_list_empty(&sched->spun) && (!late || ++sched->late_turns > LATE_TURNS)) {
    sched->late_turns = 0;
    step_spun(sched, others);
  }
  if (sched->collect) collect_step(sched);
  sched->in_turn = false;
  if (sched->dying) {
    mp_sched_unref(sched);
  } else if (!mp_list_empty(&sched->ready) || sched->collect ||
             (!mp_list_empty(&sched->spun) && !mp_timer_running(&sched->rest))) {
    mp_loop_wake(sched->loop);
  }
}

/* ---- the scheduler ---- */

int mp_sched_new(struct mp_sched **out, struct mp_loop *loop, struct mp_err *err) {
  struct mp_sched *sched = calloc(1, sizeof *sched);
  if (!sched) return mp_err_set(err, MP_ENOMEM, "no memory for a scheduler");
  sched->loop = loop;
  mp_slice_init(&sched->slice, mp_slice_hook);
  mp_list_init(&sched->ready);
  mp_list_init(&sched->now);
  mp_list_init(&sched->spun);
  mp_timer_init(&sched->rest, loop, on_rest);
  mp_list_init(&sched->tasks);
  mp_loop_set_turn(loop, turn, sched);
  *out = sched;
  return 0;
}

void mp_sched_unref(struct mp_sched *sched) {
  if (!sched) return;
  if (sched->in_turn) { /* from an on_done: turn() still needs it */
    sched->dying = true;
    return;
  }
  MP_LIST_EACH(node, &sched->tasks)
  mp_log(MP_LOG_ERROR, "script", "task \"%s\" is left over at the end",
         MP_LIST_ENTRY(node, struct mp_task, all)->name);
  PRE(sched->count == 0);
  mp_timer_stop(&sched->rest);
  mp_loop_set_turn(sched->loop, NULL, NULL);
  mp_slice_fini(&sched->slice);
  free(sched->slots);
  free(sched);
}

void mp_sched_forget(struct mp_sched *sched, lua_State *main) {
  if (sched->collect == main) sched->collect = NULL;
}

struct mp_loop *mp_sched_loop(struct mp_sched *sched) {
  return sched->loop;
}
size_t mp_sched_tasks(const struct mp_sched *sched) { return sched->count; }

size_t mp_sched_tasks_of(const struct mp_sched *sched, lua_State *L, char *names, size_t size) {
  size_t count = 0, used = 0;
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  lua_pop(L, 1);
  if (names) names[0] = '\0';
  MP_LIST_EACH(node, &sched->tasks) {
    const struct mp_task *task = MP_LIST_ENTRY(node, struct mp_task, all);
    if (task->main != main) continue;
    count++;
    if (names && used + strlen(task->name) + 3 < size)
      used += (size_t)snprintf(names + used, size - used, "%s%s", used ? ", " : "", task->name);
  }
  return count;
}
