/* fault.h: what specs order of the host (moonpool.test): a transaction whose n-th statement fails
 * with a chosen SQLSTATE, draws that are the same in each run; and a log of what transactions sent.
 *
 * A failure happens on the server: in front of the statement travels one of the host's own that
 * raises it (by a function that `moonpool spec` makes), or that ends the backend. What it sets off
 * is what it would set off anyway; only the budget for retries is not charged.
 *
 * Transactions are numbered from the moment of the order. In a group each call has a number of its
 * own. Owner: struct mp_txns. It is there from the first order on; txns->fault is NULL for
 * everybody else, and no hook is called then. */
#ifndef MP_FAULT_H
#define MP_FAULT_H

#include "txn/txn_priv.h"

/* host.fault = { order, report, fix, memory }: see fault.c. The table of the host is on top. */
void mp_fault_open(lua_State *L);
void mp_fault_fini(struct mp_txns *txns);

/* ---- hooks of the driver ---- */

/* A call begins its transaction: gets its number, and its draws where they are fixed. */
void mp_fault_begin(struct mp_member *member);
/* Its script will start anew. */
void mp_fault_restart(struct mp_member *member);
/* `stmt` (NULL: COMMIT) is about to be sent: notes it, and sends the failure if it is due. */
void mp_fault_before(struct mp_txn *txn, struct mp_stmt *stmt);
/* `stmt` (NULL: COMMIT) was answered. If the server has skipped it because of the failure in front,
 * that failure is the answer. */
void mp_fault_answer(struct mp_txn *txn, const struct mp_stmt *stmt, struct mp_result **result,
                     const struct mp_err **err);

#endif
