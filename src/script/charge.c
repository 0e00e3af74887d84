#include "script/charge.h"

#include <string.h>

#include "script/luaerr.h"
#include "script/task_priv.h"

enum { FULL_MS = 1000 }; /* for so long garbage is not collected again where that made no room */

void mp_sched_hold_at_most(struct mp_sched *sched, size_t bytes) { sched->held_limit = bytes; }

static bool host_has_room(const struct mp_sched *sched, size_t size) {
  return !sched->held_limit || sched->held + size <= sched->held_limit;
}

/* The memory may be garbage of any task. But callers who are refused again and again must not have
 * the whole state collected each time. */
static void make_room(lua_State *L, struct mp_sched *sched, size_t size) {
  uint64_t now_ns = mp_loop_clock_ns(sched->loop);
  if (sched->full_ns && now_ns - sched->full_ns < FULL_MS * UINT64_C(1000000)) return;
  lua_gc(L, LUA_GCCOLLECT);
  sched->full_ns = host_has_room(sched, size) ? 0 : mp_loop_clock_ns(sched->loop);
}

static void take(struct mp_charge *charge, struct mp_sched *sched, struct mp_account *account,
                 size_t size) {
  *charge = (struct mp_charge){sched, account, size};
  sched->held += size;
  sched->untold += size;
  if (!account) return;
  mp_account_change(account, 0, size);
  account->charged += size;
}

static int refuse_for_host(const struct mp_sched *sched, const char *what, struct mp_err *err) {
  int rv = mp_err_set(err, MP_ENOMEM,
                      "no room for %s: results and queued statements of all calls need more than "
                      "the host's %zu MB (MOONPOOL_RESULT_MEMORY)",
                      what, sched->held_limit >> 20);
  strcpy(err->name, "HOST_OUT_OF_MEMORY");
  return rv;
}

static int refuse_for_task(const struct mp_account *account, const char *what, struct mp_err *err) {
  return mp_err_set(err, MP_ENOMEM,
                    "no room for %s: with what the call holds already it needs more than its %zu "
                    "MB of memory; read and send less at a time, or give the operation more",
                    what, account->limit >> 20);
}

void mp_charge_take(lua_State *L, struct mp_charge *charge, size_t size, const char *what) {
  struct mp_task *task = mp_task_of(L);
  struct mp_err err = {0};
  *charge = (struct mp_charge){.sched = NULL};
  if (!task) return; /* the host's own, at its start or its end */
  struct mp_sched *sched = task->sched;
  struct mp_account *account = task->account;
  mp_task_reserve(L, size);
  if (!host_has_room(sched, size)) make_room(L, sched, size);
  if (!host_has_room(sched, size)) {
    refuse_for_host(sched, what, &err);
  } else if (account && account->limit && account->used + size > account->limit) {
    if (++account->refused > 1) mp_task_out_of_memory(sched, true);
    refuse_for_task(account, what, &err);
  } else {
    take(charge, sched, account, size);
    return;
  }
  mp_luaerr_push(L, &err);
  lua_error(L);
}

int mp_charge_take_as(struct mp_charge *charge, const struct mp_charge *as, size_t size,
                      const char *what, struct mp_err *err) {
  struct mp_account *account = as->account;
  *charge = (struct mp_charge){.sched = NULL};
  if (!as->sched) return 0;
  if (!host_has_room(as->sched, size)) return refuse_for_host(as->sched, what, err);
  if (account && account->limit && account->used + size > 2 * account->limit)
    return refuse_for_task(account, what, err);
  take(charge, as->sched, account, size);
  return 0;
}

void mp_charge_drop(struct mp_charge *charge) {
  if (!charge->sched) return;
  charge->sched->held -= charge->size;
  if (charge->account) mp_account_change(charge->account, charge->size, 0);
  charge->sched = NULL;
}
