/* task_priv.h: what the files about tasks share; no other file includes it. From the ground up:
 * tasks.c, slice.c (the watchdog), luaerr.c, memory.c; co.c, wait.c; slice_hook.c; sched.c;
 * task_start.c.
 */
#ifndef MP_TASK_PRIV_H
#define MP_TASK_PRIV_H

#include "script/account.h"
#include "script/scope.h"
#include "script/slice.h"
#include "script/task.h"
#include "util/list.h"

enum mp_task_state { MP_TASK_READY, MP_TASK_RUNNING, MP_TASK_WAITING, MP_TASK_ENDED };

struct mp_task {
  struct mp_list link; /* on sched->ready, now or spun while READY */
  struct mp_list all;
  struct mp_sched *sched;
  enum mp_task_state state;
  lua_State *main, *co;
  int ref;            /* of co in the registry */
  int nargs;          /* of the first resume */
  bool failed;        /* set by the trampoline: what it returns is an error object */
  bool doomed;        /* killed while it runs: ends at its next yield */
  bool blocked;       /* the running coroutine was resumed from a place that cannot yield */
  bool preempted;     /* its slice was over: the hook has made it yield */
  enum mp_code fatal; /* it ends with this error at its next instruction that can yield; MP_OK: it
                         may live */
  int fatal_ref;      /* the error object, if there was memory for one */
  struct mp_account *account; /* or NULL: it may spend what it likes */
  struct mp_list member;      /* of the account's tasks */
  uint32_t slot;              /* place in sched->slots */
  uint64_t wait;              /* number of the wait under way, 0: none */
  void (*abandon)(void *data);
  void *abandon_data;
  mp_task_done on_done;
  void (*on_killed)(void *data); /* NULL: not asked for */
  void *done_data;
  void *data;
  struct mp_scope *scope;
  struct mp_label *label;
  /* whose end it waits for; NULL: none, or it waits for something else */
  struct mp_task *waits_for;
  struct mp_task *joined_by; /* the task that waits, in moonpool.all, for this one and others */
  bool apart;                /* its limits are for itself: what it starts has others */
  bool settled;              /* its work is stored: a later failure is one of reporting only */
  bool founder;              /* of its account: mp_task_limit was for it */
  bool parent;               /* it has started another task */
  bool beside;               /* started by the script of a transaction, or by such a task */
  bool loading;              /* it, or who started it, runs the body of a file of scripts/ */
  char name[80];
  char short_at[96]; /* where its code was when it was refused memory: no handler runs then, and no
                        traceback is left */
};

struct mp_task_slot {
  struct mp_task *task; /* NULL: free */
  uint32_t id;          /* counts the tasks that had this slot */
  uint32_t next_free;   /* index plus one */
};

struct mp_sched {
  struct mp_loop *loop;
  struct mp_list ready; /* for the next turn */
  struct mp_list now;   /* left of this turn */
  struct mp_list
      spun; /* tasks that used up their slice: one goes on when no other task is active */
  struct mp_timer rest; /* runs while one of them waits */
  uint64_t others_ns;   /* the clock when a task that has not spun was resumed while one had */
  uint64_t spun_ns;     /* the clock when one of them had to stop again */
  unsigned late_turns;  /* in which there was no time for them */
  struct mp_list tasks;
  size_t count;
  struct mp_task *running;
  struct mp_account *owner; /* of what Lua allocates now */
  struct mp_slice slice;
  unsigned closing; /* calls of mp_co_reset on the C stack */
  /* the state in which a big task has ended: collected step by step, one per turn */
  lua_State *collect;
  unsigned collections; /* cycles to go */
  struct mp_task_slot *slots;
  uint32_t slots_cap, slot_free; /* slot_free: index plus one */
  uint64_t last_wait;
  size_t held, held_limit; /* charge.h: bytes outside of Lua */
  uint64_t full_ns;        /* the clock when they left no room although all garbage was collected */
  size_t untold;           /* new bytes of them that the collector has not been told of */
  bool in_turn, dying;
};

/* The task is in the scheduler's lists and READY; false: no memory. */
bool mp_sched_add(struct mp_sched *sched, struct mp_task *task);
/* The task's wait ends without a result: its abandon callback runs. */
void mp_task_abandon(struct mp_task *task);
/* The slot is free again; tokens of its task find nothing. */
void mp_sched_remove(struct mp_sched *sched, uint32_t at);
/* Takes part in the account, whose reference it takes over; NULL: in none. */
void mp_task_join_account(struct mp_task *task, struct mp_account *account);
void mp_task_leave_account(struct mp_task *task); /* it has ended */
void mp_task_make_ready(struct mp_task *task);

/* ---- co.c: the host's yields ----
 * A host yield leaves two values on the stack of the coroutine that yields: the private tag and the
 * coroutine whose own host yield is passed outward (or nil at the innermost). They stay there until
 * the coroutine is resumed; so the chain of waiting coroutines can be walked from outside. `inner`
 * is where that coroutine lies on L (absolute), or 0. */
int mp_co_yield(lua_State *L, int inner, lua_KContext ctx, lua_KFunction k);
bool mp_co_waiting(lua_State *co);
/* Waits, or was preempted; the script did not yield it. */
bool mp_co_held(lua_State *co);
/* lua_resetthread under the watchdog. */
int mp_co_reset(lua_State *co);
/* Closes `co` and those inside it that wait, innermost first. */
int mp_co_close(lua_State *co);
/* Puts the host's functions into the table `coroutine`. [-0, +0] */
void mp_co_open(lua_State *L);

/* slice_hook.c: the hook that the watchdog arms. */
void mp_slice_hook(lua_State *L, lua_Debug *ar);
/* The watchdog's report: the task kept the loop for too long, just now at `L` (NULL: it is
 * over). */
void mp_slice_report(struct mp_task *task, lua_State *L);
/* The state is about to be closed. */
void mp_sched_forget(struct mp_sched *sched, lua_State *main);
/* The running task was refused memory for the second time: it ends as soon as it can. `raises`: Lua
 * raises an error for that now. */
void mp_task_out_of_memory(struct mp_sched *sched, bool raises);
/* The error of L's task, which was refused memory, with the place where it was; without a task that
 * of mp_luaerr_push_nomem. Never raises. [-0, +1] */
void mp_task_push_nomem(lua_State *L);
/* The garbage of its state is collected soon, step by step. */
void mp_task_collect(struct mp_task *task);
void mp_sched_collect(struct mp_sched *sched, lua_State *main);
/* Notes the place where the running task was refused memory. */
void mp_task_short(struct mp_sched *sched);
/* The hook runs at the next instruction of the running task. */
void mp_task_interrupt(struct mp_sched *sched);
/* The task, running or suspended, must not go on: makes the error object that on_done will get,
 * with the traceback of `co`. `L` is where it is made. Never raises. */
void mp_task_condemn(struct mp_task *task, lua_State *L, lua_State *co, enum mp_code code);

static inline struct mp_task **mp_task_place(lua_State *L) { return lua_getextraspace(L); }

#endif
