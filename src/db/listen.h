/* listen.h: db.listen: notifications of PostgreSQL, on one connection of their own outside of the
 * pool.
 *
 *   NONE --> OPENING --> READY        NONE: there is no listener
 *              ^  \        /          WAITING: it was lost, or could not be opened; tried again
 *              |  WAITING <           with growing pauses while anybody listens
 *
 * Each listener has a queue and a task that calls its function for one event after the other;
 * nothing of it runs inside libpq. After a gap each listener gets "reconnected", because
 * notifications sent in between are lost. Owner: the host. */
#ifndef MP_LISTEN_H
#define MP_LISTEN_H

#include <lua.h>

#include "sql/state.h"

/* listen(channel, fn) -> handle with close(). Waits until the server listens. fn(payload) for each
 * notification, fn(nil, "reconnected") after a gap. */
int mp_db_listen(lua_State *L);
/* Adds host.listen_soon(channel, fn): the same without waiting, wherever it is called; fn(nil,
 * "listening") tells that the server listens, for the first time or anew. To the table on top. [-0,
 * +0] */
void mp_listen_open(lua_State *L);
/* The runtime ends: the connection closes, and counts as live work until it has. */
void mp_listen_stop(struct mp_host *host);
void mp_listen_fini(struct mp_host *host); /* after that */

#endif
