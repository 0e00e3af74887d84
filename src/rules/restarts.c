/* restarts.c: what leads an attempt back to an earlier point and costs no attempt: restarts from
 * the top, savepoints; and how an attempt begins on the server. */
#include "rules/attempts_priv.h"

unsigned mp_tx_restart(struct mp_tx *tx, const struct mp_err *why) {
  tx->err = *why;
  tx->err.flags = 0;
  tx->retry = true;
  switch (tx->state) {
    case MP_TX_FRESH:
      mp_tx_move(tx, MP_TX_BACKOFF);
      tx->delay_ms = 0;
      return MP_TX_DO_KILL | MP_TX_DO_RELEASE | MP_TX_DO_WAIT;
    case MP_TX_OPEN:
    case MP_TX_FAILED:
      if (!tx->in_flight) return MP_TX_DO_KILL | mp_tx_roll_back(tx);
      mp_tx_move(tx, MP_TX_CANCELING);
      return MP_TX_DO_KILL | MP_TX_DO_CANCEL;
    case MP_TX_START:
    case MP_TX_WAITING:
    case MP_TX_COMMITTING:
    case MP_TX_ROLLING_BACK:
    case MP_TX_CANCELING:
    case MP_TX_BACKOFF:
    case MP_TX_RESOLVING:
    case MP_TX_UNFLUSHED:
    case MP_TX_HELD:
    case MP_TX_ENDED: break;
  }
  return 0;
}

unsigned mp_tx_not_run(struct mp_tx *tx, const struct mp_err *why) {
  tx->in_flight = false;
  switch (tx->state) {
    case MP_TX_FRESH: tx->attempt--; return mp_tx_restart(tx, why);
    case MP_TX_OPEN:
    case MP_TX_COMMITTING:
      tx->err = tx->overdue ? tx->late : *why;
      tx->err.flags = 0;
      tx->retry = !tx->overdue;
      tx->attempt--;
      return MP_TX_DO_KILL | mp_tx_roll_back(tx) |
             (tx->overdue ? mp_tx_answer(tx, MP_TX_ROLLED_BACK) : 0);
    case MP_TX_CANCELING: return mp_tx_roll_back(tx);
    case MP_TX_START:
    case MP_TX_WAITING:
    case MP_TX_FAILED:
    case MP_TX_ROLLING_BACK:
    case MP_TX_BACKOFF:
    case MP_TX_RESOLVING:
    case MP_TX_UNFLUSHED:
    case MP_TX_HELD:
    case MP_TX_ENDED: break;
  }
  return 0;
}

void mp_tx_savepoint(struct mp_tx *tx) { tx->savepoints++; }
void mp_tx_savepoint_released(struct mp_tx *tx) { tx->savepoints--; }

void mp_tx_savepoint_undone(struct mp_tx *tx) {
  if (tx->state == MP_TX_FAILED && tx->failed_at >= tx->savepoints) {
    tx->err = (struct mp_err){0};
    mp_tx_move(tx, MP_TX_OPEN);
  }
  tx->savepoints--;
}

void mp_tx_rewound(struct mp_tx *tx) {
  if (tx->state == MP_TX_FAILED) {
    tx->err = (struct mp_err){0};
    mp_tx_move(tx, MP_TX_OPEN);
  }
  tx->savepoints = 0;
}

const char *mp_tx_begin_sql(const struct mp_tx_options *o) {
#define LEVEL(level)                                                                     \
  (o->read_only ? o->deferrable ? "BEGIN ISOLATION LEVEL " level " READ ONLY DEFERRABLE" \
                                : "BEGIN ISOLATION LEVEL " level " READ ONLY"            \
                : "BEGIN ISOLATION LEVEL " level)
  switch (o->isolation) {
    case MP_READ_COMMITTED: return LEVEL("READ COMMITTED");
    case MP_REPEATABLE_READ: return LEVEL("REPEATABLE READ");
    case MP_SERIALIZABLE: return LEVEL("SERIALIZABLE");
  }
#undef LEVEL
  return "BEGIN";
}
