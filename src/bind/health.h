/* health.h: the host's state, judged anew from what is known now (pool/health.h); health.c looks at the database. */
#ifndef MP_BIND_HEALTH_H
#define MP_BIND_HEALTH_H

#include <lua.h>

#include "pool/health.h"

struct mp_bind;

const struct mp_health *mp_health_now(struct mp_bind *bind);

int mp_health_look(lua_State *L);  /* host.look */
int mp_health_table(lua_State *L); /* host.health */

#endif
