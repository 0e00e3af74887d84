/* hold.c: which connection a transaction has, from asking the pool to giving it back: the only
 * file that changes txn->hold.
 *
 * What it has stays until everything that was sent on it has been answered or failed: one that is
 * given up is broken (mp_conn_break), never given back with requests under way. */
#include "pool/reap.h"
#include "txn/txn_priv.h"
#include "util/log.h"
#include "util/sm.h"

MP_SM_TABLE(sm, "hold", MP_HOLD_MAP, NULL);

void mp_txn_hold(struct mp_txn *txn, enum mp_hold to) {
  (void)mp_sm_may(&sm, txn->hold, to); /* reported */
  txn->hold = to;
  if (to != MP_HOLD_OWNED && to != MP_HOLD_BORROWED) txn->lease.conn = NULL;
  /* The time for a cancel, a rollback, COMMIT: with the connection it is over. */
  if (to == MP_HOLD_NONE) mp_timer_stop(&txn->cleanup);
}

bool mp_txn_holds(const struct mp_txn *txn) {
  return (txn->hold == MP_HOLD_OWNED || txn->hold == MP_HOLD_BORROWED) && txn->lease.conn;
}

unsigned mp_txn_backend(const struct mp_txn *txn) {
  return mp_txn_holds(txn) ? (unsigned)mp_conn_backend_pid(txn->lease.conn) : 0;
}

/* ---- waiting for one ---- */

static void on_grant(struct mp_lease *lease) {
  struct mp_txn *txn = lease->data;
  mp_txn_hold(txn, MP_HOLD_OWNED);
  mp_stmt_scratch_free(txn->host); /* no Lua runs now */
  txn->discard = txn->discard_after = txn->release_wanted = txn->lock_held = false;
  txn->lock_inherited = txn->misplaced = false;
  txn->chain = 0;
  mp_txn_note(txn, MP_NOTE_CONNECTED, mp_txn_backend(txn), NULL);
  mp_txn_act(txn, mp_tx_granted(&txn->tx));
}

static void on_not_granted(struct mp_lease *lease, const struct mp_err *err) {
  struct mp_txn *txn = lease->data;
  mp_txn_hold(txn, MP_HOLD_NONE);
  mp_txn_act(txn, mp_tx_not_granted(&txn->tx, err, mp_txn_now(txn)));
}

void mp_txn_acquire(struct mp_txn *txn) {
  struct mp_err err;
  uint64_t until_ms = mp_tx_until_ms(&txn->tx, mp_loop_now_ms(txn->host->loop));
  txn->lease = (struct mp_lease){
      .deadline_ms = until_ms, .data = txn, .on_grant = on_grant, .on_fail = on_not_granted};
  mp_list_init(&txn->lease.node);
  mp_copy_text(txn->lease.where, sizeof txn->lease.where, txn->m->name);
  mp_txn_note(txn, MP_NOTE_WAITS, 0, NULL);
  bool refused = mp_pool_acquire(txn->options.pool, &txn->lease, &err) != 0;
  mp_txn_hold(txn, refused ? MP_HOLD_REFUSED : MP_HOLD_WAITING);
  if (!refused) return;
  txn->frame_err = err; /* told on the next turn: nobody is called back before his call returns */
  mp_timer_start(&txn->wait, 0);
}

void mp_txn_stop_waiting(struct mp_txn *txn) {
  switch (txn->hold) {
    case MP_HOLD_WAITING: mp_pool_abandon(&txn->lease); break;
    case MP_HOLD_REFUSED: mp_timer_stop(&txn->wait); break;
    case MP_HOLD_NONE:
    case MP_HOLD_BORROWED:
    case MP_HOLD_BEREFT:
    case MP_HOLD_OWNED: return;
  }
  mp_txn_hold(txn, MP_HOLD_NONE);
}

/* ---- using it ---- */

/* Never while what is canceled may be another's: one who waits behind us, or in front. */
void mp_txn_cancel(struct mp_txn *txn) {
  struct mp_err err;
  txn->cancel_wanted = txn->hold == MP_HOLD_BORROWED;
  if (txn->cancel_wanted || txn->behind || !mp_txn_holds(txn)) return;
  if (!mp_conn_alive(txn->lease.conn)) return; /* its end is told next */
  if (mp_conn_cancel(txn->lease.conn, &err))
    mp_log_on(mp_txn_about(txn), MP_LOG_WARN, "pool", "%s: %s", txn->m->name, err.msg);
}

void mp_txn_break(struct mp_txn *txn, const struct mp_err *why) {
  txn->discard = txn->release_wanted = true;
  if (txn->hold == MP_HOLD_OWNED && txn->lease.conn) mp_conn_break(txn->lease.conn, why);
}

void mp_txn_reap(struct mp_txn *txn, const struct mp_err *lost) {
  if (lost->sqlstate[0] || txn->hold != MP_HOLD_OWNED || !txn->lease.conn) return;
  if (txn->tx.state == MP_TX_COMMITTING && txn->tx.options.witness) return; /* who resolves does */
  mp_reap(txn->options.pool, txn->host->loop, mp_conn_backend_pid(txn->lease.conn),
          mp_conn_opened_ms(txn->lease.conn));
}

/* ---- giving it back ---- */

void mp_txn_release_when_quiet(struct mp_txn *txn) {
  struct mp_err err;
  if (txn->syncs_open) {
    if (!txn->release_wanted || !txn->discard) return;
    mp_err_set(&err, MP_ECONN, "nobody waits for the answer of the database any more");
    err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
    mp_txn_break(txn, &err);
    return;
  }
  if (txn->hold == MP_HOLD_BEREFT) mp_txn_hold(txn, MP_HOLD_NONE);
  if (txn->hold != MP_HOLD_OWNED || !txn->release_wanted) return;
  mp_pool_release(&txn->lease, txn->discard || txn->lock_held || txn->discard_after);
  mp_txn_hold(txn, MP_HOLD_NONE);
}
