#include "host/cache.h"

#include <lauxlib.h>
#include <string.h>

#include "db/source.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "txn/txn.h"
#include "util/cache.h"
#include "values/json.h"

#define MAX_KEY 500
#define MAX_TTL_S (30 * 86400)

static const char *tenant_of(lua_State *L, const char *what) {
  mp_source_check_task(L, what);
  struct mp_txn *txn = mp_txn_of(L);
  const char *tenant =
      txn ? mp_txn_options(txn)->tenant : mp_scope_tenant(mp_task_scope(mp_task_of(L)));
  return tenant ? tenant : "";
}

static void check_key(lua_State *L, const char *what) {
  size_t len;
  const char *key = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &len) : NULL;
  if (!key || !len || len > MAX_KEY || strlen(key) != len)
    mp_luaerr_misuse(L, what, "the key must be text of 1 to %d bytes", MAX_KEY);
}

/* Pushes the key as the cache knows it: tenant, NUL, key. */
static const char *push_key(lua_State *L, const char *what, size_t *len) {
  check_key(L, what);
  lua_pushstring(L, tenant_of(L, what));
  lua_pushlstring(L, "", 1);
  lua_pushvalue(L, 1);
  lua_concat(L, 3);
  return lua_tolstring(L, -1, len);
}

/* cache_get(key) -> value, or nil */
static int cache_get(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  size_t key_len;
  const char *key = push_key(L, "cache.get", &key_len);
  struct mp_buf *json = mp_json_buf_new(L, 0);
  struct mp_err err;
  if (!mp_cache_get(host->shared->cache, key, key_len, mp_loop_now_ms(host->loop), json)) return 0;
  if (json->failed) return luaL_error(L, "not enough memory");
  if (mp_json_decode_max(L, mp_buf_text(json), json->len, json->len + 1,
                         MP_JSON_DECIMALS | MP_JSON_OWN, &err)) {
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  return 1;
}

/* cache_set(key, value, ttl) -> whether it was stored */
static int cache_set(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  size_t key_len;
  lua_Number ttl_s = lua_tonumber(L, 3);
  if (lua_isnoneornil(L, 2))
    mp_luaerr_misuse(L, "cache.set", "the value is nil: cache.delete takes a key out");
  if (!(ttl_s > 0 && ttl_s <= MAX_TTL_S))
    mp_luaerr_misuse(L, "cache.set", "ttl must be a number of seconds up to %d", MAX_TTL_S);
  const char *key = push_key(L, "cache.set", &key_len);
  struct mp_buf *json = mp_json_buf_new(L, 0);
  if (!mp_json_encode(L, 2, json, 0)) return luaL_error(L, "not enough memory");
  lua_pushboolean(L, mp_cache_set(host->shared->cache, key, key_len, mp_buf_text(json), json->len,
                                  mp_loop_now_ms(host->loop) + (uint64_t)(ttl_s * 1000)));
  return 1;
}

/* cache_delete(key, [scope]) */
static int cache_delete(lua_State *L) {
  size_t key_len;
  const char *key;
  if (lua_isnoneornil(L, 2)) {
    key = push_key(L, "cache.delete", &key_len);
  } else {
    lua_pushvalue(L, 2);
    lua_pushlstring(L, "", 1);
    lua_pushvalue(L, 1);
    lua_concat(L, 3);
    key = lua_tolstring(L, -1, &key_len);
  }
  lua_pushboolean(L, mp_cache_delete(mp_host_of(L)->shared->cache, key, key_len));
  return 1;
}

static int cache_clear(lua_State *L) {
  mp_cache_clear(mp_host_of(L)->shared->cache);
  return 0;
}

/* cache_scope(key) -> the tenant whose key it is, "" outside of operations */
static int cache_scope(lua_State *L) {
  check_key(L, "cache.invalidate");
  lua_pushstring(L, tenant_of(L, "cache.invalidate"));
  return 1;
}

static int cache_stats(lua_State *L) {
  struct mp_cache_stats stats;
  mp_cache_stats(mp_host_of(L)->shared->cache, &stats);
  lua_createtable(L, 0, 6);
#define SET(name) (lua_pushinteger(L, (lua_Integer)stats.name), lua_setfield(L, -2, #name))
  SET(entries), SET(bytes), SET(max_bytes), SET(hits), SET(misses), SET(evictions);
#undef SET
  return 1;
}

void mp_cache_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"cache_get", cache_get},
      {"cache_set", cache_set},
      {"cache_delete", cache_delete},
      {"cache_clear", cache_clear},
      {"cache_scope", cache_scope},
      {"cache_stats", cache_stats},
      {NULL, NULL},
  };
  luaL_setfuncs(L, functions, 0);
}
