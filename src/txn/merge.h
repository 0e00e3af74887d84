/* merge.h: queued inserts into one table, with the same columns and one behind the other, go as one
 * statement of many rows (sql/many.h); each insert gets its row of the result.
 *
 * A merged statement either does what the inserts do one by one, or it undoes its attempt: if the
 * server refuses it, if the catalog says that its rows would see each other, or if its rows are not
 * those that were sent, then the attempt starts again, costs the call nothing, and sends each
 * statement by itself (work->merging). So a failure has the line, the constraint and the message
 * that it always has. */
#ifndef MP_MERGE_H
#define MP_MERGE_H

#include "sql/stmt.h"

struct mp_work;

/* Is it an insert that may go together with others? */
bool mp_merge_may(const struct mp_work *work, const struct mp_stmt *stmt);
/* How many statements at the head of the queue go as one: 1, or a power of two. */
unsigned mp_merge_count(const struct mp_work *work, const struct mp_list *queue);
/* Sends `n` statements, which lie behind one another in a batch, as one, in the segment `number`
 * (see mp_vouch_demand). False: no memory, and they are not sent. */
bool mp_merge_send(struct mp_work *work, struct mp_conn *conn, struct mp_stmt *first, unsigned n,
                   uint64_t number, struct mp_err *fault);

#endif
