/* health.h: the host's state, judged anew from what is known now (pool/health.h); health.c looks at
 * the database. */
#ifndef MP_BIND_HEALTH_H
#define MP_BIND_HEALTH_H

#include <lua.h>

#include "pool/health.h"

struct mp_host;
struct mp_conn;
struct mp_err;
struct mp_pool;

const struct mp_health *mp_health_now(struct mp_host *host);

/* A statement has failed on this connection. Was it because the server takes no writes
 * (mp_conn_took_no_write)? Then it may be done again on another connection; `discard`: this one is
 * of no use, nor are older ones, because as far as is known the address leads to a server that
 * does. */
bool mp_health_misled(struct mp_host *host, struct mp_pool *pool, const struct mp_conn *conn,
                      struct mp_err *err, bool *discard);

/* A question of the host's own was not answered in time on this connection of `pool`, which the
 * caller breaks. Idle connections are closed, because they may lead to the same silence; those in
 * use are broken as soon as a look has reached another server. */
void mp_health_silent(struct mp_host *host, struct mp_pool *pool, const struct mp_conn *conn);

int mp_health_look(lua_State *L);  /* host.look */
int mp_health_table(lua_State *L); /* host.shared->health */

#endif
