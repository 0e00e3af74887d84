#include "txn/publish.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "script/scope.h"
#include "txn/relay_notice.h"
#include "txn/txn.h"
#include "values/json.h"

#define MAX_NAME 200 /* of a topic or a key */

/* Once per transaction is enough: the relay looks for whatever there is. */
static void notify_after_commit(lua_State *L, struct mp_txn *txn) {
  mp_txn_push_hooks(L, txn);
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, "published");
  lua_pop(L, 1);
}

static void check_name(lua_State *L, int idx, const char *noun) {
  size_t len;
  const char *name = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : NULL;
  if (!name || !len || len > MAX_NAME || strlen(name) != len)
    mp_luaerr_misuse(L, "tx:publish", "the %s must be text of 1 to %d bytes, not %s", noun,
                     MAX_NAME, name ? "that" : luaL_typename(L, idx));
}

int mp_tx_publish(lua_State *L) {
  struct mp_txn *txn = mp_txn_of_tx(L, "tx:publish");
  lua_settop(L, 4);
  check_name(L, 2, "topic");
  if (!lua_isnil(L, 4)) {
    luaL_tolstring(L, 4, NULL); /* a number, or a row's value */
    lua_replace(L, 4);
    check_name(L, 4, "key");
  }
  struct mp_text *text = mp_text_own(L,
                                     "insert into moonpool.outbox (topic, payload, key, tenant)"
                                     " values ($1, $2::text::jsonb, $3, $4)",
                                     "tx:publish");
  struct mp_buf *json = mp_json_buf_new(L, 0);
  if (!mp_json_encode(L, 3, json, MP_JSON_NO_NUL)) return luaL_error(L, "not enough memory");
  lua_pushlstring(L, mp_buf_text(json), json->len);
  lua_replace(L, 3);
  lua_settop(L, 4);
  const struct mp_txn_options *options = mp_txn_options(txn);
  /* Of an operation of no tenant: the caller's own. */
  lua_pushstring(L, options->tenant ? options->tenant : mp_scope_caller_tenant(options->scope));
  struct mp_stmt *stmt = mp_stmt_new(L, "tx:publish", NULL, text, 2);
  if (!stmt) return luaL_error(L, "tx:publish: its parameters have no types");
  mp_txn_queue(txn, stmt);
  notify_after_commit(L, txn);
  return 0;
}

static int host_own_exec(lua_State *L) {
  struct mp_txn *txn = mp_txn_of_tx(L, "own_exec");
  struct mp_text *text = mp_text_own(L, luaL_checkstring(L, 2), "own_exec");
  struct mp_stmt *stmt = mp_stmt_new(L, "own_exec", NULL, text, 3);
  if (!stmt) return luaL_error(L, "own_exec: its parameters have no types");
  mp_txn_queue(txn, stmt);
  return 0;
}

static int host_on_publish(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  mp_relay_notice_set(L);
  return 0;
}

void mp_publish_open(lua_State *L) {
  lua_pushcfunction(L, host_own_exec);
  lua_setfield(L, -2, "own_exec");
  lua_pushcfunction(L, host_on_publish);
  lua_setfield(L, -2, "on_publish");
}
