/* answer.h: what one call's caller is told at the end, what is counted of it, and the hooks that
 * its script has left. */
#ifndef MP_ANSWER_H
#define MP_ANSWER_H

#include "txn/member.h"

/* Tells the caller; `err` unless committed. */
void mp_member_answer(struct mp_member *member, enum mp_tx_outcome outcome,
                      const struct mp_err *err);
/* All that have no answer yet; `ungrouped`: each is to be done again, without a group. */
void mp_members_answer(struct mp_work *work, bool ungrouped);
/* Sets error_ref to what the caller shall hear: the script's own error if there is one, else
 * `err`. */
void mp_member_make_error(struct mp_member *member, const struct mp_err *err);

#endif
