/* tx_box.h: the userdata behind `tx`: emptied when the attempt is over. Its methods are tx_lua.c's.
 */
#ifndef MP_TX_BOX_H
#define MP_TX_BOX_H

#include <lua.h>

#define MP_TX_TYPE "moonpool.tx" /* the metatable's name */

struct mp_txn;

struct mp_tx_box {
  const void *mark;
  struct mp_txn *txn; /* NULL: the attempt is over */
};

void mp_tx_box_push(lua_State *L, struct mp_txn *txn); /* [-0, +1] */
struct mp_tx_box *mp_tx_box_of(lua_State *L);          /* argument 1; NULL: not a tx */
void mp_tx_box_empty(lua_State *L, int ref);           /* the one of that registry reference */

#endif
