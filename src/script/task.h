/* task.h: coroutines that wait. The scheduler owns them and resumes them from one place, once per
 * turn of the loop; callbacks of other layers only mark a task ready.
 *
 *   READY <--> RUNNING --> WAITING --> READY      ENDED: on_done was called or the task killed
 *      \__________\___________\____--> ENDED
 *
 * A wait is a numbered token; a wake-up that carries a stale number is dropped, so a timeout and a
 * result may race. A script's own coroutines may wait too: coroutine.resume and .wrap pass the
 * host's yields outward (the yield carries a private tag) and hand the wake-up back in. */
#ifndef MP_TASK_H
#define MP_TASK_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "loop/loop.h"
#include "util/err.h"
#include "util/label.h"

struct mp_account;
struct mp_sched;
struct mp_scope;
struct mp_task;

/* What a task may spend, together with the tasks that it starts; 0: no limit. Past its CPU time a
 * task ends with SCRIPT_TIMEOUT; past its memory Lua raises "not enough memory" once, and the
 * second time the task ends with OUT_OF_MEMORY; past its time by the clock, counted from when the
 * limits were made, with DEADLINE_EXCEEDED. Such an end cannot be caught: its <close> variables
 * have 10 ms, on_done gets the error. */
struct mp_task_limits {
  uint64_t cpu_ms;
  size_t memory;
  uint64_t wall_ms;
};

/* What a new task inherits, from the task that starts it or from the host: its scope (scope.h), the
 * fields of its log lines (label.h), the limits it shares. References are taken. */
struct mp_task_origin {
  struct mp_scope *scope;
  struct mp_label *label;
  struct mp_account *account;
};
extern const struct mp_task_origin mp_task_of_host; /* the host's own: no scope, no limits */
/* The origin that a task passes on to what it starts; NULL: the host's. Borrowed. */
struct mp_task_origin mp_task_origin(const struct mp_task *task);
/* Limits that several tasks will share, none of them their founder; the caller's reference. NULL:
 * no memory. */
struct mp_account *mp_task_account_new(struct mp_sched *sched, const struct mp_task_limits *limits);

int mp_sched_new(struct mp_sched **out, struct mp_loop *loop, struct mp_err *err) MP_MUST_CHECK;
void mp_sched_unref(struct mp_sched *sched); /* all tasks must have ended */
struct mp_loop *mp_sched_loop(struct mp_sched *sched);
size_t mp_sched_tasks(const struct mp_sched *sched); /* tasks that have not ended */
/* The number of tasks of L's state; writes the first names to `names` unless it is NULL. */
size_t mp_sched_tasks_of(const struct mp_sched *sched, lua_State *L, char *names, size_t size);

/* How a task ended. On success its results lie on `L`, from index 1 to the top; on failure the
 * error object (luaerr.h), made where it was raised and with its traceback, is on top. They are
 * gone after the callback. The callback runs on the scheduler's turn, outside of Lua. */
typedef void (*mp_task_done)(struct mp_task *task, lua_State *L, bool ok, void *data);

/* A task that will call the function below its `nargs` arguments on top of L (popped). It starts on
 * the next turn. `name` is shown in reports (copied). This is the only way to start a task, so that
 * every task has an origin. Raises only for memory. [-(nargs+1), +0] */
struct mp_task *mp_task_start(struct mp_sched *sched, lua_State *L, int nargs, const char *name,
                              const struct mp_task_origin *origin, mp_task_done on_done,
                              void *data);
/* Whether the task has limits, its own or shared ones. `task` may be NULL. */
bool mp_task_limited(const struct mp_task *task);
/* For C functions that may take long, every some thousand steps: raises `what` when the task, if it
 * is limited, has kept the loop for long, or ends it when its CPU time is used up. */
void mp_task_checkpoint(lua_State *L, const char *what);
/* CPU time that another thread has spent for the task on L counts to its limits: past them it ends
 * at its next instruction. */
void mp_task_spend(lua_State *L, uint64_t cpu_ns);
/* For C functions that can continue later: true if the task on L has limits, its slice is over and
 * it may yield here. Then `return mp_task_give_way(L, ctx, k);` lets other tasks run; k continues.
 */
bool mp_task_slice_over(lua_State *L);
int mp_task_give_way(lua_State *L, lua_KContext ctx, lua_KFunction k);
/* Before a block of this size is asked for by other means than Lua's own: collects garbage if that
 * makes room. */
void mp_task_reserve(lua_State *L, size_t size);
/* Bytes that the task on L may still take; SIZE_MAX: it has no limit. */
size_t mp_task_room(lua_State *L);
/* Before its first turn: limits of its own instead of its origin's. */
void mp_task_limit(struct mp_task *task, const struct mp_task_limits *limits);
/* As mp_task_limit, for a task of the host that does its part of a call: scripts that it starts do
 * not share these limits. */
void mp_task_limit_apart(struct mp_task *task, const struct mp_task_limits *limits);
/* Changes the limits of a running task that has its own; what it has spent so far counts. */
void mp_task_change_limits(struct mp_task *task, const struct mp_task_limits *limits);
/* The work that the task was started for is stored; a later failure does not change that. */
void mp_task_settle(struct mp_task *task);
bool mp_task_settled(const struct mp_task *task);
bool mp_task_parent(const struct mp_task *task);    /* has it started another task? */
bool mp_task_condemned(const struct mp_task *task); /* for on_done: by its limits */
/* Never resumes it again: its wait is abandoned, pending <close> variables run (they cannot wait),
 * on_done is not called. No pcall in the script can see it. The running task (a child that kills
 * its parent, say) goes on to its next wait, or its end. */
void mp_task_kill(struct mp_task *task);
/* Calls fn(the data of on_done) when the task has been killed, so that a pointer to it can be
 * dropped: a task is also killed when others use up the limits it shares. Runs outside of Lua and
 * must not raise. */
void mp_task_on_killed(struct mp_task *task, void (*fn)(void *data));
/* Kills every task of L's state (what a script spawned and left). Not from one of them. */
void mp_task_kill_all(struct mp_sched *sched, lua_State *L);
const char *mp_task_name(const struct mp_task *task);
struct mp_sched *mp_task_sched(const struct mp_task *task);
/* The task that runs on L (also inside coroutines that the script made), or NULL outside of any. */
struct mp_task *mp_task_of(lua_State *L);
/* Instead of lua_pcallk in C functions that scripts call: those must not pass a continuation to
 * lua_pcallk itself (slice.h). */
int mp_task_pcallk(lua_State *L, int nargs, int nresults, int handler, lua_KContext ctx,
                   lua_KFunction k);
/* For what catches errors for scripts (pcall, coroutine.resume), when it has: if the task on L is
 * being ended, its code ends at its next instruction. */
void mp_task_caught(lua_State *L);
/* Wraps the message handler at `idx` so that it is skipped when the error ends the task: Lua runs
 * handlers without hooks, so it could run for ever. [-0, +0] */
void mp_task_shield_handler(lua_State *L, int idx);
/* A pointer that the host attaches to the task: the transaction that its statements join. */
void mp_task_set_data(struct mp_task *task, void *data);
void *mp_task_data(const struct mp_task *task);
/* Borrowed; `task` may be NULL. */
struct mp_label *mp_task_label(const struct mp_task *task);
struct mp_scope *mp_task_scope(
    const struct mp_task *task); /* NULL: the host's own, or a command's */
/* Whether it was started, directly or not, by the script of a transaction: it runs beside the
 * transaction and takes no part in it. */
bool mp_task_beside(const struct mp_task *task);
/* "scripts/create_deal.lua:41" of the innermost Lua function at or above `level`, "" if there is
 * none. */
void mp_task_where(lua_State *L, int level, char *out, size_t size);
/* If `where`, from mp_task_where, is in a module below a folder of scripts/: the line of another
 * file that called into it; else "". */
void mp_task_caller(lua_State *L, int level, const char *where, char *out, size_t size);

struct mp_token {
  uint32_t slot, id;
  uint64_t number;
};

/* Before anything is started: raises an error that names `what` ("db.query") and the line if the
 * code on L cannot wait here (outside of a task; inside table.sort, gsub, __gc ...). */
void mp_wait_check(lua_State *L, const char *what);
/* Begins the wait of the task that runs on L. `abandon`, if not NULL, is called with `data` when
 * the task is killed while it waits. After it the caller returns mp_wait_yield. */
struct mp_token mp_wait_begin(lua_State *L, void (*abandon)(void *data), void *data);
/* `return mp_wait_yield(L, ctx, k);` k(L, LUA_YIELD, ctx) runs when the token is made ready. */
int mp_wait_yield(lua_State *L, lua_KContext ctx, lua_KFunction k);
/* The wait is over: the task runs on the next turn. False: the token was stale and nothing
 * happened. */
bool mp_wait_ready(struct mp_sched *sched, struct mp_token token);

/* moonpool.sleep(seconds), .spawn(fn, ...), .all{fn, ...}: adds them to the table on top. [-0,
 * +0] */
void mp_task_lua(lua_State *L);

#endif
