/* vouch.h: asks the catalog about the table of an insert (sql/facts.h), in the segment that goes
 * out. */
#ifndef MP_VOUCH_H
#define MP_VOUCH_H

#include "sql/text.h"
#include "txn/work.h"

/* For statements that are sent behind it: if what is known of the insert's table does not hold, its
 * answer fails and the attempt starts again with merging off. Nothing is asked where it is fresh or
 * was asked in the segment of this `number`. `fault` gets the failure; both live until the segment
 * has ended. False: no memory, nothing is asked. */
bool mp_vouch_demand(struct mp_work *work, struct mp_conn *conn, struct mp_text *text,
                     uint64_t number, struct mp_err *fault);
/* For later: nothing fails, whatever the answer is. Only where nothing is known. */
void mp_vouch_ask(struct mp_work *work, struct mp_conn *conn, struct mp_text *text,
                  struct mp_err *fault);
/* The database of the transaction is the one that is known about. */
void mp_vouch_in(const struct mp_work *work, struct mp_text *text);

/* Whether the server has refused a statement that does not stand where the script wrote it, so that
 * the attempt must start again with merging off: then `again` is set. */
bool mp_vouch_again(struct mp_work *work, const struct mp_err *err, struct mp_err *again);

#endif
