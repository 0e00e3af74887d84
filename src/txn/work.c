#include "txn/work.h"

#include "rules/budget.h"

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

struct mp_tx_now mp_work_now(const struct mp_work *work) {
  struct mp_tx_now n = {.ms = mp_work_now_ms(work), .retries = retries_left(work)};
  mp_loop_random(work->host->loop, &n.random, sizeof n.random);
  return n;
}

void mp_work_forgive(struct mp_work *work) {
  mp_failure_clear(&work->failed.failure);
  work->failed = (struct mp_work_failure){0};
}
