/* analyze.h: read in front of every file by `make lint`. Tells the analyzer that Lua's raising
 * functions do not come back; lauxlib.h gives them a return type for `return luaL_error(...)`. */
#if __has_include(<lauxlib.h>)
#include <lauxlib.h>
#include <lua.h>

__attribute__((noreturn)) int lua_error(lua_State *L);
__attribute__((noreturn)) int luaL_error(lua_State *L, const char *fmt, ...);
__attribute__((noreturn)) int luaL_argerror(lua_State *L, int arg, const char *extramsg);
__attribute__((noreturn)) int luaL_typeerror(lua_State *L, int arg, const char *tname);
#endif
