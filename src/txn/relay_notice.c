#include "txn/relay_notice.h"

static const char tell_key;

void mp_relay_notice_set(lua_State *L) { lua_rawsetp(L, LUA_REGISTRYINDEX, &tell_key); }

/* Runs in a task of the host's own, not as a script's hook: no limits of hooks apply. */
void mp_relay_notice(lua_State *L, struct mp_sched *sched) {
  lua_getfield(L, -1, "published");
  bool published = lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (!published) return;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &tell_key) == LUA_TFUNCTION)
    mp_task_start(sched, L, 0, "notification of the relays", &mp_task_of_host, NULL, NULL);
  else
    lua_pop(L, 1);
}
