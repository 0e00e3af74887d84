#include "sql/state.h"

static const char host_key;

void mp_host_register(struct mp_host *host, lua_State *L) {
  lua_pushlightuserdata(L, host);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &host_key);
}

struct mp_host *mp_host_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &host_key);
  struct mp_host *host = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return host;
}
