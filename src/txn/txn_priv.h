/* txn_priv.h: struct mp_txn, for txn.c (the driver), ended.c and flush.c (what its scripts wait
 * for). */
#ifndef MP_TXN_PRIV_H
#define MP_TXN_PRIV_H

#include "txn/group.h"
#include "txn/outcome.h"
#include "txn/txn.h"

/* Each part is a machine with a header of its own, and reports to txn.c. */
struct mp_txn {
  struct mp_work work;
  struct mp_member first;
  struct mp_link link;
  struct mp_segment segment;
  struct mp_group group;
  struct mp_outcome outcome;
  struct mp_token waiter; /* the script that waits for the segment under way */
  bool answered;
  struct mp_timer backoff; /* then the next attempt may ask for a connection */
  struct mp_timer grace;   /* then COMMIT's outcome is told as unknown */
  /* The coroutine that waited for statements was ended: told on the next turn. */
  struct mp_timer orphaned;
};

/* ended.c: a segment has ended; COMMIT was answered, or is lost with its connection, and the one
 * behind has it now. Both return MP_TX_DO_* bits: what is left to do. */
unsigned mp_txn_segment_ended(struct mp_txn *txn, const struct mp_segment_end *end);
unsigned mp_txn_hand_over(struct mp_txn *txn, const struct mp_segment_end *end, unsigned actions);
/* The script waits for what is queued: it is sent. */
void mp_txn_send_queued(struct mp_txn *txn);

#endif
