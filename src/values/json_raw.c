/* json_raw.c: text that is JSON already, json.raw(text): written as it stands, where a string would
 * become a JSON string. A userdata whose user value is the text. */
#include <lauxlib.h>
#include <string.h>

#include "values/json.h"

#define RAW_TYPE "moonpool.json.raw"

static void write_text(lua_State *L, int idx, struct mp_buf *out, unsigned flags) {
  size_t len;
  (void)flags;
  lua_getiuservalue(L, idx, 1);
  const char *text = lua_tolstring(L, -1, &len);
  mp_buf_add(out, text, len);
  lua_pop(L, 1);
}

static int to_string(lua_State *L) {
  luaL_checkudata(L, 1, RAW_TYPE);
  lua_getiuservalue(L, 1, 1);
  return 1;
}

void mp_json_text_wrap(lua_State *L) {
  lua_newuserdatauv(L, 0, 1);
  lua_insert(L, -2);
  lua_setiuservalue(L, -2, 1);
  if (luaL_newmetatable(L, RAW_TYPE)) {
    mp_json_hook_push(L, write_text);
    lua_setfield(L, -2, "__json");
    lua_pushcfunction(L, to_string);
    lua_setfield(L, -2, "__tostring");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
}

int mp_json_raw(lua_State *L) {
  size_t len;
  struct mp_err err;
  const char *text = luaL_checklstring(L, 1, &len);
  if (mp_json_decode(L, text, len, MP_JSON_RAW, &err))
    return luaL_error(L, "json.raw: this is not JSON text: %s", err.msg);
  lua_settop(L, 1);
  mp_json_text_wrap(L);
  return 1;
}

static int host_json_text(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  lua_settop(L, 1);
  mp_json_text_wrap(L);
  return 1;
}

void mp_json_raw_open(lua_State *L) {
  lua_pushcfunction(L, host_json_text);
  lua_setfield(L, -2, "json_text");
}
