#include "sql/state.h"

static const char bind_key;

void mp_bind_register(struct mp_bind *bind, lua_State *L) {
  lua_pushlightuserdata(L, bind);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &bind_key);
}

struct mp_bind *mp_bind_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &bind_key);
  struct mp_bind *bind = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return bind;
}
