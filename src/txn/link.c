/* link.c: the next transaction of a lane goes on with the connection: its BEGIN and first
 * statements travel behind the COMMIT of the one before, whose answer nobody waits for, and the
 * lock between hosts stays held.
 *
 * Until that answer the connection is borrowed: the one before owns it. The server works in the
 * order in which things were sent, so what was sent behind a COMMIT is answered behind it, and its
 * own answers tell what became of it:
 *
 *   COMMIT succeeded, or failed and so ended its transaction   BEGIN succeeds: all is as always
 *   a statement in front of COMMIT failed                      BEGIN fails with 25P02 and all behind it is skipped:
 *                                                              nothing was done, it starts again
 *   the connection was lost                                    as always: it is retried, or resolved by its witness
 *
 * One that has sent nothing when the one before fails starts again on a connection of its own. */
#include <string.h>

#include "pool/pool.h"
#include "txn/txn_priv.h"

#define CHAIN_MOST                                                                               \
  16 /* then others have their turn: who waits for a connection, or for the lock on another host \
      */

static bool leaves_state(const struct mp_txn *txn) {
  bool leaves = txn->discard_after;
  MP_LIST_EACH(node, &txn->batch) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    leaves |= stmt->text->leaves_state && !stmt->control;
  }
  return leaves;
}

bool mp_txn_may_lend(const struct mp_txn *txn) {
  return txn->calls.committing && txn->hold == MP_HOLD_OWNED && !txn->grouped &&
         txn->chain < CHAIN_MOST && mp_conn_alive(txn->lease.conn) && !leaves_state(txn);
}

bool mp_txn_fits_behind(const struct mp_txn *txn, const struct mp_txn_options *options) {
  const struct mp_txn_options *own = &txn->options;
  return (!options->pool || options->pool == own->pool) && options->lock == own->lock &&
         options->lock_key == own->lock_key && !options->key_id && options->group <= 1;
}

void mp_txn_borrow(struct mp_txn *txn, struct mp_txn *before) {
  before->behind = txn;
  txn->before = before;
  mp_txn_hold(txn, MP_HOLD_BORROWED);
  txn->lease.conn = before->lease.conn;
  txn->lock_inherited = before->lock_held;
  txn->chain = before->chain + 1;
}

void mp_txn_unborrow(struct mp_txn *txn) {
  if (!txn->before) return;
  txn->before->behind = NULL;
  txn->before = NULL;
  mp_txn_hold(txn, MP_HOLD_NONE);
  txn->lock_inherited = false;
}

/* It has sent nothing yet, and will not on this connection. */
static void start_elsewhere(struct mp_txn *txn) {
  struct mp_err why;
  mp_txn_unborrow(txn);
  mp_err_set(&why, MP_ECANCELED, "the transaction before on the same connection failed");
  mp_txn_act(txn, mp_tx_misplaced(&txn->tx, &why));
}

void mp_txn_evict_behind(struct mp_txn *txn) {
  if (txn->behind && !txn->behind->syncs_open) start_elsewhere(txn->behind);
}

unsigned mp_txn_pass_on(struct mp_txn *txn, bool lost, unsigned actions) {
  struct mp_txn *behind = txn->behind;
  if (!behind) return actions;
  if (!behind->syncs_open && !txn->committed) {
    start_elsewhere(behind);
    return actions;
  }
  txn->behind = behind->before = NULL;
  if (lost) { /* what it has sent is lost with it, and told next */
    mp_txn_hold(behind, MP_HOLD_BEREFT);
    return actions;
  }
  mp_pool_pass_on(&txn->lease, &behind->lease);
  mp_txn_hold(txn, MP_HOLD_NONE);
  mp_txn_hold(behind, MP_HOLD_OWNED);
  behind->lock_held |= txn->lock_held;
  txn->lock_held = false;
  behind->discard_after |= txn->discard_after || actions & MP_TX_DO_DISCARD;
  if (actions & MP_TX_DO_ROLLBACK) { /* done already, or by the one behind */
    behind->misplaced = true;
    actions &= ~(unsigned)MP_TX_DO_ROLLBACK;
    actions |= mp_tx_rolled_back(&txn->tx, true, mp_txn_now(txn));
  }
  if (behind->cancel_wanted) mp_txn_cancel(behind);
  mp_txn_release_when_quiet(behind);
  return actions;
}

bool mp_txn_was_misplaced(const struct mp_txn *txn) {
  return txn->misplaced && txn->frame_failed && !strcmp(txn->frame_err.sqlstate, "25P02");
}
