/* ended.c: what the driver has to do when what it sent has been answered, or is lost. */
#include "txn/txn_priv.h"

/* COMMIT was answered, or is lost with its connection: the one behind has the connection now.
 * Returns what is left to do of `actions`. */
unsigned mp_txn_hand_over(struct mp_txn *txn, const struct mp_segment_end *end, unsigned actions) {
  struct mp_link *link = &txn->link, *behind = link->behind;
  bool lost = end->how == MP_END_LOST;
  if (!behind) return actions;
  if (!behind->unanswered && (lost || !end->committed)) {
    mp_link_evict(link);
    return actions;
  }
  if (lost) { /* the successor's own statements fail next */
    mp_link_leave_behind(link);
    return actions;
  }
  if (actions & MP_TX_DO_DISCARD) mp_link_spoil(behind, MP_FATE_CLOSE_AFTER);
  if (actions & MP_TX_DO_ROLLBACK) { /* the server has rolled back, or the successor will */
    behind->front_failed = true;
    actions &= ~(unsigned)MP_TX_DO_ROLLBACK;
    actions |= mp_tx_rolled_back(&txn->work.tx, true, mp_work_now(&txn->work));
  }
  mp_link_hand_over(link);
  return actions;
}

/* ---- what becomes of what it sent ---- */

static unsigned segment_lost(struct mp_txn *txn, const struct mp_segment_end *end) {
  struct mp_tx *tx = &txn->work.tx;
  struct mp_err lost = end->err;
  if (txn->link.state == MP_LINK_LOST) lost.flags |= MP_ERRF_CONN_DEAD;
  /* Not what ended the connection by its own fault: a flood of rows would come again. */
  if (txn->link.state == MP_LINK_LOST && lost.code != MP_EINVAL) lost.flags |= MP_ERRF_RETRYABLE;
  mp_link_spoil(&txn->link, MP_FATE_CLOSE_NOW);
  mp_failure_clear(&txn->work.failed.failure);
  /* Whoever resolves the COMMIT ends its backend. */
  if (tx->state != MP_TX_COMMITTING || !tx->options.witness) mp_link_reap(&txn->link, &end->err);
  if (end->commit == MP_COMMIT_SENT) mp_outcome_keep(&txn->outcome, &txn->segment.batch);
  mp_segment_settle(&txn->segment);
  return mp_tx_lost(tx, &lost, end->commit == MP_COMMIT_SENT, mp_work_now(&txn->work));
}

unsigned mp_txn_segment_ended(struct mp_txn *txn, const struct mp_segment_end *end) {
  struct mp_tx *tx = &txn->work.tx;
  const struct mp_err *failed = NULL;
  unsigned actions = 0;
  switch (end->how) {
    case MP_END_LOST: return segment_lost(txn, end);
    case MP_END_ROLLED_BACK:
      return mp_tx_rolled_back(tx, txn->link.fate != MP_FATE_CLOSE_NOW, mp_work_now(&txn->work));
    case MP_END_NOT_RUN: return mp_tx_not_run(tx, &end->err);
    case MP_END_FAILED: failed = &end->err; break;
    case MP_END_DONE: break;
  }
  actions = mp_tx_segment(tx, failed, end->committed, mp_work_now(&txn->work));
  if (failed) mp_tx_failed_at(tx, txn->work.failed.depth);
  return actions;
}
