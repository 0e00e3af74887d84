/* witness.h: what an attempt stores beside its work, so that it can be found out whether the work
 * is committed.
 *
 * A transaction that changes something stores a row with it, its witness, under an id that the host
 * chose; outcome.h tells what for. A key's row is the same with an id made from the key: claimed in
 * front of the attempt's statements, it makes a second call under the key wait, and it keeps the
 * result.
 *
 * Owner: the segment that they travel in. */
#ifndef MP_WITNESS_H
#define MP_WITNESS_H

#include "pg/conn.h"
#include "txn/work.h"

struct mp_witness {
  const struct mp_work *work;
  struct mp_req row, ask, set_key, claim;
  char id[37]; /* of this attempt; in a group: one of them, since all are stored, or none */
  const char *values[3], *claim_values[4];
  /* One of the requests above failed, and with it the transaction. */
  void (*on_failed)(struct mp_witness *witness, const struct mp_err *err);
};

/* Does the server say that there is no such table, or that it may not be used? */
bool mp_witness_table_gone(const struct mp_err *err);
/* Must it be asked whether there is a table for witnesses? It must be known before COMMIT. */
bool mp_witness_unknown(const struct mp_work *work);
bool mp_witness_there(const struct mp_work *work); /* changes get a witness */

void mp_witness_ask(struct mp_witness *witness, struct mp_conn *conn);
void mp_witness_send(struct mp_witness *witness, struct mp_conn *conn);
void mp_witness_claim_key(struct mp_witness *witness, struct mp_conn *conn);

#endif
