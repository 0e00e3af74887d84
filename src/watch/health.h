/* health.h: the host's state (pool/health.h), judged from the facts of this moment; probes of the
 * database. */
#ifndef MP_BIND_HEALTH_H
#define MP_BIND_HEALTH_H

#include <lua.h>

#include "pool/health.h"

struct mp_host;
struct mp_conn;
struct mp_err;
struct mp_pool;

const struct mp_health *mp_health_now(struct mp_host *host);
/* Calls wait because all connections of a worker are in use. */
struct mp_saturated {
  bool yes;
  uint64_t for_ms, full_ms, waited_ms; /* the last two as in struct mp_pool_stats */
  char holders[600];
};
/* Of this worker of the host. */
void mp_health_saturation(struct mp_host *host, struct mp_saturated *out);

/* A statement has failed on this connection. True: it failed because the server takes no writes
 * (mp_conn_took_no_write), and may be sent again on another connection. `discard`: this connection
 * and older ones must not be used again, because the address seems to lead to a server that takes
 * writes. */
bool mp_health_misled(struct mp_host *host, struct mp_pool *pool, const struct mp_conn *conn,
                      struct mp_err *err, bool *discard);

/* A question of the host's own was not answered in time on this connection of `pool`, which the
 * caller breaks. Idle connections are closed, because they may lead to the same silence. Of the
 * host's own database those in use are broken as soon as a look has reached another server; a pool
 * of db.open is not looked at: there, as soon as a new connection has (mp_pool_suspect). */
void mp_health_silent(struct mp_host *host, struct mp_pool *pool, const struct mp_conn *conn);

/* From now on the database is looked at each second while a statement on the host's pool takes
 * long: a host that serves does so always, the others only then. */
void mp_health_watch(struct mp_host *host);

int mp_health_look(lua_State *L);  /* host.look */
int mp_health_table(lua_State *L); /* host.shared->health */

#endif
