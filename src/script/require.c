/* require.c: the host's side of lua/moonpool/script/require.lua: files, built-in chunks, and a
 * place where a task waits for a module that another one is loading. */
#include "script/require.h"

#include <lauxlib.h>
#include <stdio.h>

#include "script/gate.h"
#include "script/vm.h"
#include "util/embed.h"

static const char gate_name[] = "moonpool.gate";

/* load(path, shown) -> function | nil, message, is it there? */
static int load_file(lua_State *L) {
  const char *path = luaL_checkstring(L, 1), *shown = luaL_checkstring(L, 2);
  struct mp_err err = {0};
  if (mp_vm_load_file(mp_vm_of(L), L, path, shown, luaL_optstring(L, 3, NULL), &err) == 0) return 1;
  lua_pushnil(L);
  lua_pushstring(L, err.msg);
  lua_pushboolean(L, err.code != MP_EIO);
  return 3;
}

static int is_file(lua_State *L) {
  lua_pushboolean(L, mp_vm_is_file(mp_vm_of(L), luaL_checkstring(L, 1)));
  return 1;
}

/* built_in(file) -> function | nil */
static int built_in(lua_State *L) {
  const struct mp_embedded *file = mp_embedded_find(luaL_checkstring(L, 1));
  if (!file) return 0;
  lua_pushfstring(L, "@%s", file->name);
  if (luaL_loadbufferx(L, file->data, file->size, lua_tostring(L, -1), "t") != LUA_OK)
    return lua_error(L);
  return 1;
}

/* A value that is the same within one task; false outside of any. */
static int task(lua_State *L) {
  struct mp_task *now = mp_task_of(L);
  if (now) {
    lua_pushlightuserdata(L, now);
  } else {
    lua_pushboolean(L, 0);
  }
  return 1;
}

static int gate_new(lua_State *L) {
  mp_gate_init(lua_newuserdatauv(L, sizeof(struct mp_gate), 0));
  luaL_setmetatable(L, gate_name);
  return 1;
}

static int gate_open(lua_State *L) {
  mp_gate_open(luaL_checkudata(L, 1, gate_name));
  return 0;
}

static int gate_wait_k(lua_State *L, int status, lua_KContext ctx) {
  (void)L;
  (void)status;
  (void)ctx;
  return 0;
}

static int gate_wait(lua_State *L) {
  return mp_gate_wait(L, luaL_checkudata(L, 1, gate_name), "require", 0, gate_wait_k);
}

static void load_require(lua_State *L, const char *lua_dir) {
  if (lua_dir) {
    struct mp_err err = {0};
    const char *path = lua_pushfstring(L, "%s/moonpool/script/require.lua", lua_dir);
    int rv = mp_vm_load_file(mp_vm_of(L), L, path, "moonpool/script/require.lua", NULL, &err);
    if (rv == 0) return;
    if (rv != -MP_EIO) luaL_error(L, "%s", err.msg);
  }
  lua_pushcfunction(L, built_in);
  lua_pushliteral(L, "moonpool/script/require.lua");
  lua_call(L, 1, 1);
  if (lua_isnil(L, -1)) luaL_error(L, "the module moonpool/script/require.lua is not built in");
}

void mp_require_open(lua_State *L, const char *lua_dir) {
  static const luaL_Reg host[] = {
      {"load", load_file}, {"is_file", is_file}, {"built_in", built_in},
      {"task", task},      {"gate", gate_new},   {NULL, NULL},
  };
  static const luaL_Reg gate[] = {{"open", gate_open}, {"wait", gate_wait}, {NULL, NULL}};
  luaL_newmetatable(L, gate_name);
  luaL_newlib(L, gate);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  load_require(L, lua_dir);
  luaL_newlib(L, host);
  lua_pushstring(L, mp_vm_app_dir(mp_vm_of(L)));
  lua_setfield(L, -2, "app_dir");
  lua_pushstring(L, lua_dir);
  lua_setfield(L, -2, "lua_dir");
  lua_call(L, 1, 0);
}
