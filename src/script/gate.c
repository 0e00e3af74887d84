#include "script/gate.h"

struct gate_waiter {
  struct mp_list link;
  struct mp_sched *sched;
  struct mp_token token;
};

void mp_gate_init(struct mp_gate *gate) {
  mp_list_init(&gate->waiters);
  gate->open = false;
}

void mp_gate_open(struct mp_gate *gate) {
  struct mp_list *node;
  gate->open = true;
  while ((node = mp_list_pop_front(&gate->waiters))) {
    struct gate_waiter *waiter = MP_LIST_ENTRY(node, struct gate_waiter, link);
    mp_wait_ready(waiter->sched, waiter->token);
  }
}

static void abandon(void *data) {
  struct gate_waiter *waiter = data;
  mp_list_remove(&waiter->link);
}

int mp_gate_wait(lua_State *L, struct mp_gate *gate, const char *what, lua_KContext ctx,
                 lua_KFunction k) {
  if (gate->open) {
    lua_pushnil(L);
    return k(L, LUA_OK, ctx);
  }
  mp_wait_check(L, what);
  struct gate_waiter *waiter = lua_newuserdatauv(L, sizeof *waiter, 0);
  waiter->sched = mp_task_sched(mp_task_of(L));
  mp_list_push_back(&gate->waiters, &waiter->link);
  waiter->token = mp_wait_begin(L, abandon, waiter);
  return mp_wait_yield(L, ctx, k);
}
