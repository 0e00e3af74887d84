/* advance.h: queued inserts move forward to others of their table and columns, past inserts into
 * other tables that can neither see them nor be seen by them (sql/facts.h), so that they go as one
 * statement (merge.h). Where anything is in doubt nothing moves: past a statement of another kind,
 * a savepoint, another call's statement; or where the catalog was not asked yet. If a statement is
 * refused after some have moved, the attempt starts again in the order of the script: what failed,
 * and what had been done by then, is always the same. */
#ifndef MP_ADVANCE_H
#define MP_ADVANCE_H

#include "txn/work.h"

struct mp_conn;

/* Orders the queue of the segment `number`, which is about to be sent; see mp_vouch_demand. */
void mp_advance(struct mp_work *work, struct mp_conn *conn, struct mp_list *queue, uint64_t number,
                struct mp_err *fault);

#endif
