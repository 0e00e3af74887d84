/* charge.h: memory outside of Lua that is held for a task: results, queued statements. It counts to
 * the task's account as Lua's blocks do, and to what the scheduler holds for all tasks in this way,
 * which has a limit too. A charge is a value in the memory that it is for; whoever frees that drops
 * it. */
#ifndef MP_CHARGE_H
#define MP_CHARGE_H

#include <lua.h>
#include <stddef.h>

#include "util/err.h"

struct mp_account;
struct mp_sched;

struct mp_charge {
  struct mp_sched *sched; /* NULL: nothing is charged */
  struct mp_account *account;
  size_t size;
};

/* Bytes of all charges together; 0: no limit. */
void mp_sched_hold_at_most(struct mp_sched *sched, size_t bytes);

/* For the task on L. Where it is too much, garbage is collected; where that does not help, an error
 * is raised that names `what`. */
void mp_charge_take(lua_State *L, struct mp_charge *charge, size_t size, const char *what);
/* From outside of Lua, to the task that `as` is charged to. Garbage cannot be collected here, so up
 * to twice the limit is granted, and the task collects before it goes on. -MP_ENOMEM: nothing was
 * charged. */
int mp_charge_take_as(struct mp_charge *charge, const struct mp_charge *as, size_t size,
                      const char *what, struct mp_err *err) MP_MUST_CHECK;
void mp_charge_drop(struct mp_charge *charge); /* any number of times */

#endif
