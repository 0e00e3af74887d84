/* fault.h: what specs order of the host (moonpool.test): a transaction whose n-th statement fails
 * with a chosen SQLSTATE, draws that are the same in each run; and a log of what transactions sent.
 *
 * A failure happens on the server: in front of the statement travels one of the host's own that
 * raises it (by a function that `moonpool spec` makes), or that ends the backend. What it sets off
 * is what it would set off anyway; only the budget for retries is not charged.
 *
 * Transactions are numbered from the moment of the order. In a group each call has a number of its
 * own. Owner: struct mp_txns. It exists from the first order on; until then txns->fault
 * is NULL, and no hook is called. */
#ifndef MP_FAULT_H
#define MP_FAULT_H

#include <lua.h>

#include "sql/stmt.h"

struct mp_budget;
struct mp_fault;

/* host.fault = { order, report, fix, memory }: see fault.c. The table of the host is on top. `own`:
 * where this VM keeps its faults. */
void mp_fault_open(lua_State *L, struct mp_fault **own);
void mp_fault_free(struct mp_fault *fault); /* may be NULL */

/* ---- hooks of the driver ---- */

/* Number of a call's transaction, and of the statements that it has sent. */
struct mp_fault_mark {
  unsigned number, sent; /* number 0: it began before the first order */
};

/* A call begins its transaction: gets its number, and its draws where they are fixed. */
void mp_fault_begin(struct mp_fault *fault, struct mp_fault_mark *mark, unsigned char seed[32],
                    uint64_t *started_us);
/* A new attempt begins. */
void mp_fault_restart(struct mp_fault *fault, struct mp_fault_mark *mark);
/* `stmt` (NULL: COMMIT) of the call is about to be sent, at its attempt `attempt`: notes it. True:
 * the failure is due in front of it. */
bool mp_fault_due(struct mp_fault *fault, struct mp_fault_mark *mark, const struct mp_stmt *stmt,
                  unsigned attempt);
/* The order of statements counts: a failure is ordered, or they are noted. */
bool mp_fault_counts(const struct mp_fault *fault);
/* Would it be due in front of the statement that follows `ahead` others of the call? */
bool mp_fault_comes(const struct mp_fault *fault, const struct mp_fault_mark *mark, unsigned ahead,
                    unsigned attempt);
/* Sends the failure. `owner`: the transaction; `retries` and `purse`: the budget that is not
 * charged. */
void mp_fault_send(struct mp_fault *fault, const void *owner, const struct mp_stmt *stmt,
                   struct mp_conn *conn, struct mp_budget *retries, uint64_t purse);
/* `stmt` (NULL: COMMIT) was answered. If the server has skipped it because of the failure in front,
 * that failure is the answer. */
void mp_fault_answer(struct mp_fault *fault, const void *owner, const struct mp_stmt *stmt,
                     struct mp_result **result, const struct mp_err **err);

#endif
