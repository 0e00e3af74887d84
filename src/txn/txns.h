/* txns.h: what the transactions of one VM share, and the memory for them. */
#ifndef MP_TXNS_H
#define MP_TXNS_H

#include "sql/text.h"
#include "txn/fault.h"

/* Statements of the host's own, for transactions of several calls. */
enum mp_control {
  MP_CONTROL_SAVEPOINT,
  MP_CONTROL_RELEASE,
  MP_CONTROL_UNDO,
  MP_CONTROL_WITNESS,
  MP_CONTROLS
};

struct mp_txns {
  struct mp_text *controls[MP_CONTROLS]; /* NULL until needed */
  void *spare[32];                       /* blocks of transactions that are over, all of one size */
  size_t nspare;
  uint64_t segments;      /* that were sent */
  uint8_t careful[64];    /* by operation: groups to come that begin with savepoints (group.c) */
  struct mp_fault *fault; /* NULL unless a spec wants something to fail */
};

struct mp_txns *mp_txns_new(void);
void mp_txns_free(struct mp_txns *txns);
void *mp_txns_block(struct mp_txns *txns, size_t size); /* zeroed; NULL: no memory */
void mp_txns_block_free(struct mp_txns *txns, void *block);

#endif
