/* attempts_priv.h: what attempts.c, retries.c and restarts.c have of each other. */
#ifndef MP_ATTEMPTS_PRIV_H
#define MP_ATTEMPTS_PRIV_H

#include "rules/attempts.h"

/* False: a forbidden move, a fault of the host: this one transaction ends, its connection with
 * it. */
bool mp_tx_move(struct mp_tx *tx, enum mp_tx_state to);
/* MP_TX_DO_* bits, as the events. */
unsigned mp_tx_answer(struct mp_tx *tx, enum mp_tx_outcome outcome);
unsigned mp_tx_roll_back(struct mp_tx *tx);

/* A random pause that doubles with each one, up to the cap of the options. */
uint64_t mp_tx_backoff(const struct mp_tx *tx, uint32_t random);
/* The pause before the next attempt. */
uint64_t mp_tx_pause(const struct mp_tx *tx, struct mp_tx_now now);
/* By its kind: deadlock, connection, serialization. */
void mp_tx_count_retry(struct mp_tx *tx);
/* Into the history of failed attempts. */
void mp_tx_note_failure(struct mp_tx *tx, uint64_t delay_ms);

#endif
