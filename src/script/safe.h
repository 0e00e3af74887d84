/* safe.h: functions of Lua's libraries that could keep the loop's thread for ever, or that scripts
 * could use against the host, done anew. The first kind replaces Lua's own for everybody: what they
 * give is the same. */
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
