/* retries.c: whether a failure is worth a retry, how long to wait before it, and what is counted of
 * it. */
#include <string.h>

#include "rules/attempts_priv.h"

#define DEADLOCK_MS 5 /* the pause after a deadlock */

/* A random part of a limit that doubles `doubled` times: exponential back-off with full jitter. */
static uint64_t jitter(const struct mp_tx *tx, uint64_t limit, unsigned doubled, uint32_t random) {
  uint64_t cap = tx->options.backoff_cap_ms;
  for (; doubled > 0 && limit > 0 && limit < cap; doubled--) limit *= 2;
  return (limit < cap ? limit : cap) * random / UINT32_MAX;
}

uint64_t mp_tx_backoff(const struct mp_tx *tx, uint32_t random) {
  unsigned pauses = tx->attempt + tx->waits; /* this one included */
  return jitter(tx, tx->options.backoff_ms, pauses ? pauses - 1 : 0, random);
}

bool mp_tx_conflict(const struct mp_err *err) {
  return !strcmp(err->sqlstate, "40001") || !strcmp(err->sqlstate, "40P01");
}

bool mp_tx_charged(const struct mp_tx *tx) {
  unsigned flags = tx->err.flags & (MP_ERRF_RETRYABLE | MP_ERRF_STALE);
  return !tx->in_doubt && flags == MP_ERRF_RETRYABLE && !mp_tx_conflict(&tx->err);
}

/* The pause before the next attempt. After a serialization failure the first retry is immediate:
 * the other transaction has committed, and the retry cannot meet it again. After a deadlock the
 * survivor must first wake up and take the lock, or the retry takes it and both deadlock again.
 * Later retries wait in proportion to the time that an attempt takes, because that is how long the
 * others need. */
uint64_t mp_tx_pause(const struct mp_tx *tx, struct mp_tx_now now) {
  if (!mp_tx_conflict(&tx->err)) return mp_tx_backoff(tx, now.random);
  if (tx->attempt <= 1) return strcmp(tx->err.sqlstate, "40P01") ? 0 : DEADLOCK_MS;
  return jitter(tx, now.ms - tx->began_ms + 1, tx->attempt - 2, now.random);
}

void mp_tx_count_retry(struct mp_tx *tx) {
  if (!strcmp(tx->err.sqlstate, "40P01"))
    tx->retries_deadlock++;
  else if (tx->err.flags & MP_ERRF_CONN_DEAD || tx->err.code == MP_ECONN)
    tx->retries_connection++;
  else
    tx->retries_serialization++;
}

void mp_tx_note_failure(struct mp_tx *tx, uint64_t delay_ms) {
  struct mp_tx_retry *entry = &tx->history[tx->failed_attempts++ % MP_TX_HISTORY];
  memcpy(entry->sqlstate, tx->err.sqlstate, sizeof entry->sqlstate);
  entry->code = tx->err.code;
  entry->delay_ms = (uint32_t)delay_ms;
}
