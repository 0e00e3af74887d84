/* signal.h: host.signal() for the host's own Lua modules: what one task waits for and others set.
 *   signal:set()          remembered until somebody waits
 *   signal:wait(seconds)  true if it was set, false when the time has passed; one task at a time */
#ifndef MP_SIGNAL_H
#define MP_SIGNAL_H

#include <lua.h>

/* Adds `signal` to the table on top. [-0, +0] */
void mp_signal_open(lua_State *L);

#endif
