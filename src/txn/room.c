/* room.c: the part of one VM that the room of transactions keeps. */
#include <lauxlib.h>

#include "txn/txn.h"
#include "txn/txns.h"

void mp_txns_open(struct mp_host *host, lua_State *L) {
  host->txns = mp_txns_new();
  if (!host->txns) luaL_error(L, "not enough memory");
  mp_tx_lua_open(L);
  mp_guard_open(L);
}

void mp_txns_fini(struct mp_host *host) {
  if (host->txns) mp_txns_free(host->txns);
  host->txns = NULL;
}

struct mp_fault **mp_txns_fault(struct mp_host *host) {
  return &host->txns->fault;
}
