#include "script/scope.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct mp_scope {
  unsigned refs;
  lua_State *main;
  int caller_ref;
  bool in_tenant; /* the call itself has the tenant, not only its caller */
  char tenant[];  /* "": none */
};

/* The caller's own. The text stays on the stack, in any case one value more. */
static const char *caller_tenant(lua_State *L) {
  if (!lua_istable(L, -1)) {
    lua_pushnil(L);
    return NULL;
  }
  return lua_getfield(L, -1, "tenant") == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

struct mp_scope *mp_scope_new(lua_State *L, const char *tenant) {
  const char *own = caller_tenant(L);
  const char *of = tenant ? tenant : own ? own : "";
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  lua_pop(L, 1);
  lua_pushvalue(L, -2);
  int caller_ref = lua_isnil(L, -1) ? LUA_NOREF : luaL_ref(L, LUA_REGISTRYINDEX);
  if (caller_ref == LUA_NOREF) lua_pop(L, 1);
  size_t size = strlen(of) + 1;
  struct mp_scope *scope = malloc(sizeof *scope + size);
  if (!scope) {
    luaL_unref(L, LUA_REGISTRYINDEX, caller_ref);
    luaL_error(L, "not enough memory");
    return NULL;
  }
  *scope =
      (struct mp_scope){.refs = 1, .main = main, .caller_ref = caller_ref, .in_tenant = tenant};
  memcpy(scope->tenant, of, size);
  lua_pop(L, 2);
  return scope;
}

struct mp_scope *mp_scope_ref(struct mp_scope *scope) {
  if (scope) scope->refs++;
  return scope;
}

void mp_scope_unref(struct mp_scope *scope) {
  if (!scope || --scope->refs) return;
  luaL_unref(scope->main, LUA_REGISTRYINDEX, scope->caller_ref);
  free(scope);
}

const char *mp_scope_tenant(const struct mp_scope *scope) {
  return scope && scope->in_tenant ? scope->tenant : NULL;
}

const char *mp_scope_caller_tenant(const struct mp_scope *scope) {
  return scope && scope->tenant[0] ? scope->tenant : NULL;
}

void mp_scope_push_caller(lua_State *L, const struct mp_scope *scope) {
  if (scope && scope->caller_ref != LUA_NOREF)
    lua_rawgeti(L, LUA_REGISTRYINDEX, scope->caller_ref);
  else
    lua_pushnil(L);
}
