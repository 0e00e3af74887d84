#include "txn/tx_box.h"

#include <lauxlib.h>

/* A box is known by its mark: the look-up of a metatable by its name costs more than the rest of a
 * short method. */
static const char box_mark;

struct mp_tx_box *mp_tx_box_of(lua_State *L) {
  struct mp_tx_box *box = lua_touserdata(L, 1);
  return box && lua_rawlen(L, 1) == sizeof *box && box->mark == &box_mark ? box : NULL;
}

void mp_tx_box_push(lua_State *L, struct mp_txn *txn) {
  struct mp_tx_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (struct mp_tx_box){&box_mark, txn};
  luaL_setmetatable(L, MP_TX_TYPE);
}

void mp_tx_box_empty(lua_State *L, int ref) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  struct mp_tx_box *box = lua_touserdata(L, -1);
  if (box) box->txn = NULL;
  lua_pop(L, 1);
}
