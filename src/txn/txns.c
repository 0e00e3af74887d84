#include "txn/txns.h"

#include <stdlib.h>
#include <string.h>

struct mp_txns *mp_txns_new(void) {
  return calloc(1, sizeof(struct mp_txns));
}

void mp_txns_free(struct mp_txns *txns) {
  mp_fault_free(txns->fault);
  for (int i = 0; i < MP_CONTROLS; i++)
    if (txns->controls[i]) mp_text_unref(txns->controls[i]);
  while (txns->nspare) free(txns->spare[--txns->nspare]);
  free(txns);
}

/* A block is a large one for malloc: kept from one transaction to the next. */
void *mp_txns_block(struct mp_txns *txns, size_t size) {
  void *block = txns->nspare ? txns->spare[--txns->nspare] : malloc(size);
  return block ? memset(block, 0, size) : NULL;
}

void mp_txns_block_free(struct mp_txns *txns, void *block) {
  if (txns->nspare < MP_ARRAY_LEN(txns->spare))
    txns->spare[txns->nspare++] = block;
  else
    free(block);
}
