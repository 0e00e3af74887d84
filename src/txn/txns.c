/* txns.c: what the transactions of one VM share, and the memory for them. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "txn/fault.h"
#include "txn/txn_priv.h"

void mp_txns_open(struct mp_host *host, lua_State *L) {
  host->txns = calloc(1, sizeof *host->txns);
  if (!host->txns) luaL_error(L, "not enough memory");
}

void mp_txns_fini(struct mp_host *host) {
  struct mp_txns *txns = host->txns;
  if (!txns) return;
  mp_fault_fini(txns);
  for (int i = 0; i < MP_CONTROLS; i++)
    if (txns->controls[i]) mp_text_unref(txns->controls[i]);
  while (txns->nspare) free(txns->spare[--txns->nspare]);
  free(txns);
  host->txns = NULL;
}

/* A block is a large one for malloc: kept from one transaction to the next. */
struct mp_txn *mp_txns_alloc(struct mp_txns *txns) {
  struct mp_txn *txn = txns->nspare ? txns->spare[--txns->nspare] : malloc(sizeof *txn);
  if (txn) memset(txn, 0, sizeof *txn);
  return txn;
}

void mp_txns_free(struct mp_txns *txns, struct mp_txn *txn) {
  if (txns->nspare < MP_ARRAY_LEN(txns->spare))
    txns->spare[txns->nspare++] = txn;
  else
    free(txn);
}
