/* relay_notice.h: the relays are told when a transaction that has published is committed. */
#ifndef MP_RELAY_NOTICE_H
#define MP_RELAY_NOTICE_H

#include <lua.h>

#include "script/task.h"

/* What tells them, a function, is on top. [-1, +0] */
void mp_relay_notice_set(lua_State *L);
/* The hooks of a committed transaction are on top: tells, if it has published. Raises for memory.
 */
void mp_relay_notice(lua_State *L, struct mp_sched *sched);

#endif
