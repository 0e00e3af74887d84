/* safe.h: replacements for functions of Lua's libraries that could hold the loop's thread for ever,
 * or that scripts could use against the host. Replacements of the first kind serve all code and
 * give the same results. */
#ifndef MP_SAFE_H
#define MP_SAFE_H

#include <lua.h>

/* Replaces string.find, match, gmatch, gsub, rep, dump; table.concat, insert, move, remove, sort;
 * setmetatable. */
void mp_safe_open(lua_State *L);
/* Pushes the table { setmetatable, getmetatable, rawset } for sandboxed code: they work on values
 * without a metatable or with one that sandboxed code has set. */
int mp_safe_metatables(lua_State *L);

#endif
