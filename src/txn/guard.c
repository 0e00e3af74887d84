/* guard.c: pcall and xpcall that know of queued statements. What was queued before must fail
 * outside of them, and what is queued inside must fail inside; so both ends flush. Outside of a
 * transaction, and where nothing is queued, they are Lua's own. */
#include <lauxlib.h>

#include "sql/state.h"
#include "txn/txn.h"

/* The transaction, if something is queued and the code on L can wait; else NULL. */
static struct mp_txn *pending(lua_State *L) {
  struct mp_txn *txn = lua_isyieldable(L) ? mp_txn_of(L) : NULL;
  return txn && mp_txn_queued(txn) && !mp_tx_doomed(mp_txn_machine(txn)) ? txn : NULL;
}

/* The results, or the failure of what the function queued. `ctx`: index of the first value. */
static int flushed(lua_State *L, int status, lua_KContext ctx) {
  struct mp_txn *txn = mp_txn_of(L);
  (void)status;
  if (txn && mp_tx_doomed(mp_txn_machine(txn))) {
    lua_pushboolean(L, 0);
    mp_txn_push_failure(L, txn);
    return 2;
  }
  return lua_gettop(L) - (int)ctx + 1;
}

static int done(lua_State *L, int status, lua_KContext ctx) {
  if (status != LUA_OK && status != LUA_YIELD) { /* the error is on top */
    mp_task_caught(L);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
  }
  struct mp_txn *txn = pending(L);
  return txn ? mp_txn_flush_anyway(L, txn, "pcall", ctx, flushed) : lua_gettop(L) - (int)ctx + 1;
}

/* Stack: true, function, arguments. */
static int call(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return done(L, mp_task_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 1, done), 1);
}

static int guarded_pcall(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, 1); /* the first result if all goes well */
  lua_insert(L, 1);
  struct mp_txn *txn = pending(L);
  return txn ? mp_txn_flush(L, txn, "pcall", 0, call) : call(L, LUA_OK, 0);
}

/* Stack: function, handler, true, function, arguments. */
static int xcall(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return done(L, mp_task_pcallk(L, lua_gettop(L) - 4, LUA_MULTRET, 2, 3, done), 3);
}

static int guarded_xpcall(lua_State *L) {
  luaL_checktype(L, 2, LUA_TFUNCTION);
  mp_task_shield_handler(L, 2);
  lua_pushboolean(L, 1);
  lua_pushvalue(L, 1);
  lua_rotate(L, 3, 2);
  struct mp_txn *txn = pending(L);
  return txn ? mp_txn_flush(L, txn, "xpcall", 0, xcall) : xcall(L, LUA_OK, 0);
}

void mp_guard_open(lua_State *L) {
  lua_pushcfunction(L, guarded_pcall);
  lua_setglobal(L, "pcall");
  lua_pushcfunction(L, guarded_xpcall);
  lua_setglobal(L, "xpcall");
}
