#include "txn/work.h"

#include "rules/budget.h"

enum { QUESTION_MS = 2000, QUESTION_LEAST_MS = 250 };

uint64_t mp_work_purse(const struct mp_txn_options *options) {
  return options->purse ? options->purse
                        : mp_budget_key(options->name ? options->name : "", options->tenant);
}

static enum mp_tx_retries retries_left(const struct mp_work *work) {
  switch (mp_budget_left(work->host->shared->retries, work->purse)) {
    case MP_BUDGET_OWN_SPENT: return MP_TX_OWN_RETRIES_SPENT;
    case MP_BUDGET_HOST_SPENT: return MP_TX_HOST_RETRIES_SPENT;
    case MP_BUDGET_LEFT: break;
  }
  return MP_TX_MAY_RETRY;
}

struct mp_wal_flush *mp_work_wal_flush(const struct mp_work *work) {
  return work->options.pool == work->host->pool ? work->host->shared->wal_flush : NULL;
}

struct mp_tx_now mp_work_now(const struct mp_work *work) {
  struct mp_tx_now n = {.ms = mp_work_now_ms(work),
                        .retries = retries_left(work),
                        .unflushed = mp_wal_flush_pending(mp_work_wal_flush(work))};
  mp_loop_random(work->host->loop, &n.random, sizeof n.random);
  return n;
}

uint64_t mp_work_question_ms(const struct mp_work *work) {
  uint64_t now_ms = mp_work_now_ms(work), until_ms = mp_tx_until_ms(&work->tx, now_ms);
  uint64_t share_ms = until_ms > now_ms ? (until_ms - now_ms) / 3 : 0;
  if (share_ms < QUESTION_LEAST_MS) share_ms = QUESTION_LEAST_MS;
  return share_ms < QUESTION_MS ? share_ms : QUESTION_MS;
}

void mp_work_forgive(struct mp_work *work) {
  mp_failure_clear(&work->failed.failure);
  work->failed = (struct mp_work_failure){0};
}
