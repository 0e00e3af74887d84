/* pattern.h: string.find, match, gmatch and gsub that can be ended. */
#ifndef MP_PATTERN_H
#define MP_PATTERN_H

#include <lua.h>

/* Puts find, match, gmatch and gsub into the table on top. [-0, +0] */
void mp_pattern_open(lua_State *L);

#endif
