/* every.h: host.every(seconds, name, fn): periodic work of the host itself. It does not keep the
 * host running. */
#ifndef MP_EVERY_H
#define MP_EVERY_H

#include <lua.h>

/* Adds `every` to the table on top. [-0, +0] */
void mp_every_lua(lua_State *L);

#endif
