/* relay_notice.h: the relays are told when a transaction that has published is committed. */
#ifndef MP_RELAY_NOTICE_H
#define MP_RELAY_NOTICE_H

#include <lua.h>

#include "script/task.h"

/* The function that notifies the relays is on top. [-1, +0] */
void mp_relay_notice_set(lua_State *L);
/* A committed transaction's hooks are on top: notifies if it has published. Raises if memory fails.
 */
void mp_relay_notice(lua_State *L, struct mp_sched *sched);

#endif
