/* signal.h: host.signal() for the host's own Lua modules: one task waits for it, others set it.
 *   signal:set()          remembered until a task waits
 *   signal:wait(seconds)  true if it was set, false when the time has passed; one task at a time */
#ifndef MP_SIGNAL_H
#define MP_SIGNAL_H

#include <lua.h>

/* Adds `signal` to the table on top. [-0, +0] */
void mp_signal_open(lua_State *L);

#endif
