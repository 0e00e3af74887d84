/* service_lua.c: what the service adds to the Lua module "moonpool.host". */
#include <lauxlib.h>
#include <sodium.h>

#include "svc/access.h"
#include "svc/service.h"
#include "util/embed.h"

/* token_new() -> token, id, hash */
static int lua_token_new(lua_State *L) {
  char token[MP_TOKEN_SIZE], id[MP_TOKEN_ID_LEN + 1], hash[2 * MP_TOKEN_HASH_LEN + 1];
  mp_token_make(token, id, hash);
  lua_pushstring(L, token);
  lua_pushstring(L, id);
  lua_pushstring(L, hash);
  sodium_memzero(token, sizeof token);
  return 3;
}

/* built_in_text(name) -> text: of a file of the dashboard */
static int lua_built_in_text(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  const struct mp_embedded *file = mp_embedded_find(name);
  if (!file) return luaL_error(L, "this executable has no %s; build it again", name);
  lua_pushlstring(L, file->data, file->size);
  return 1;
}

void mp_service_lua(lua_State *L) {
  lua_pushcfunction(L, lua_built_in_text);
  lua_setfield(L, -2, "built_in_text");
  lua_pushcfunction(L, lua_token_new);
  lua_setfield(L, -2, "token_new");
}
