/* outcome.h: is the work committed already? Asked when the answer to COMMIT was lost, and before
 * each attempt under an idempotency key.
 *
 * When the answer to COMMIT is lost, another connection inserts a row with the id of the attempt's
 * witness (witness.h) that says "void", in a transaction of its own: the unique index waits for the
 * lost transaction if that still runs, and then the id belongs to one of the two for ever. The
 * row that is there tells which. pg_xact_status could not: after a crash the server gives numbers
 * of lost transactions again.
 *
 *   IDLE --> ASKING --> READING --> IDLE     ASKING: the witness, the key's row, or both
 *                 \------------------^       READING: committed; lost rows are read again
 *
 * Owner: the transaction. */
#ifndef MP_OUTCOME_H
#define MP_OUTCOME_H

#include "txn/link.h"
#include "txn/witness.h"

#define MP_OUTCOME_MAP(X)                                       \
  X(IDLE, MP_TO(MP_OUTCOME_ASKING))                             \
  X(ASKING, MP_TO(MP_OUTCOME_READING) | MP_TO(MP_OUTCOME_IDLE)) \
  X(READING, MP_TO(MP_OUTCOME_IDLE))

enum mp_outcome_state {
#define X(name, to) MP_OUTCOME_##name,
  MP_OUTCOME_MAP(X)
#undef X
};

struct mp_outcome_end {
  enum {
    MP_OUTCOME_KNOWN, /* see `verdict`; `err` if that is MP_TX_REFUSED */
    MP_OUTCOME_LOST,  /* the question failed, or its connection was lost: `err` */
  } how;
  enum mp_tx_verdict verdict;
  struct mp_err err;
};

struct mp_question;

struct mp_outcome {
  struct mp_work *work;
  struct mp_link *link;
  const struct mp_witness *witness;
  void (*on_end)(struct mp_outcome *outcome, const struct mp_outcome_end *end);
  enum mp_outcome_state state;
  struct mp_list lost; /* statements whose answers were lost with COMMIT's */
  int old_backend;     /* the backend that may still work on COMMIT; 0: none */
  uint64_t old_opened_ms;
  struct mp_question *question;
};

void mp_outcome_init(struct mp_outcome *outcome, struct mp_work *work, struct mp_link *link,
                     const struct mp_witness *witness,
                     void (*on_end)(struct mp_outcome *outcome, const struct mp_outcome_end *end));
void mp_outcome_fini(struct mp_outcome *outcome);

/* COMMIT is about to be sent: notes its backend, which a later question ends. */
void mp_outcome_note_connection(struct mp_outcome *outcome);
/* COMMIT was answered: its backend has other work now. */
void mp_outcome_forget_connection(struct mp_outcome *outcome);
/* Statements (struct mp_stmt) whose rows a script holds are kept until the outcome is known; the
 * others are let go of. */
void mp_outcome_keep(struct mp_outcome *outcome, struct mp_list *statements);
void mp_outcome_forget(struct mp_outcome *outcome); /* what was kept */
/* Asks; on_end follows. -MP_ENOMEM. */
int mp_outcome_ask(struct mp_outcome *outcome, struct mp_err *err) MP_MUST_CHECK;

#endif
