/* publish.h: what a transaction says to the outbox (lua/moonpool/outbox.lua), and the host's own
 * statements inside of an operation's transaction. */
#ifndef MP_PUBLISH_H
#define MP_PUBLISH_H

#include <lua.h>

/* tx:publish(topic, payload, [key]): a message that exists if, and only if, the transaction
 * commits. */
int mp_tx_publish(lua_State *L);

/* Adds to the table on top (moonpool.host):
 *   on_publish(fn)         fn runs after the commit of a transaction that has published
 *   own_exec(tx, sql, ...)  queues a statement that an operation itself may not send [-0, +0] */
void mp_publish_open(lua_State *L);

#endif
