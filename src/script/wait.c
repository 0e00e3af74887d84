/* wait.c: checks whether the running code may wait here; if not, the error names the function that
 * prevents it. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "script/luaerr.h"
#include "script/task_priv.h"

/* Writes "table.sort" for the function on top if a library of Lua has it, else nothing. */
static bool library_name(lua_State *L, char *out, size_t size) {
  static const char *const libraries[] = {"table", "string", "_G", "utf8", "os", "io", NULL};
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  for (const char *const *library = libraries; *library; library++) {
    if (lua_getfield(L, -1, *library) == LUA_TTABLE) {
      lua_pushnil(L);
      while (lua_next(L, -2)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, -5)) {
          bool global = strcmp(*library, "_G") == 0;
          snprintf(out, size, "%s%s%s", global ? "" : *library, global ? "" : ".",
                   lua_tostring(L, -2));
          lua_pop(L, 4);
          return true;
        }
        lua_pop(L, 1);
      }
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return false;
}

/* Names what keeps L from yielding: the innermost C function above level 0 that no yield passes. */
static void blocker(lua_State *L, char *out, size_t size) {
  static const char *const open[] = {"pcall", "xpcall", "dofile", NULL};
  lua_Debug ar;
  snprintf(out, size, "a C function");
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sn", &ar);
    if (ar.name && strcmp(ar.name, "__gc") == 0) {
      snprintf(out, size, "a __gc metamethod");
      return;
    }
    if (*ar.what != 'C') continue;
    lua_getinfo(L, "f", &ar);
    bool known = library_name(L, out, size), passes = false;
    lua_pop(L, 1);
    if (!known && ar.name) snprintf(out, size, "%s", ar.name);
    for (const char *const *name = open; *name; name++) passes |= strcmp(*name, out) == 0;
    if (!passes) return;
    snprintf(out, size, "a C function");
  }
}

void mp_wait_check(lua_State *L, const char *what) {
  struct mp_task *task = mp_task_of(L);
  char inside[64];
  if (!task)
    mp_luaerr_misuse(L, what, "cannot wait here: this code does not run in a task of the host");
  if (task->state != MP_TASK_RUNNING || task != task->sched->running)
    mp_luaerr_misuse(L, what, "cannot wait here: the task \"%s\" is being ended", task->name);
  if (lua_isyieldable(L) && !task->blocked) return;
  if (lua_isyieldable(L))
    mp_luaerr_misuse(L, what,
                     "cannot wait here: this coroutine is resumed from a place that cannot wait "
                     "(table.sort, string.gsub, __gc, ...); call it before and pass the result in");
  blocker(L, inside, sizeof inside);
  mp_luaerr_misuse(L, what, "cannot wait inside %s; call it before and pass the result in", inside);
}

int mp_wait_yield(lua_State *L, lua_KContext ctx, lua_KFunction k) {
  return mp_co_yield(L, 0, ctx, k);
}
