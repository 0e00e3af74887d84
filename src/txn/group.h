/* group.h: several calls in one transaction, one after another, for the price of one COMMIT.
 *
 * Each member works in a savepoint of its own, so that its failure undoes it alone. What a member
 * left unseen travels with the next one's first statements; if it fails there, the next one, which
 * has not happened for the server, starts again behind it. All is seen before COMMIT, which then
 * stands for all of them.
 *
 * Its states: work.h. Owner: the transaction. What returns `unsigned` returns MP_TX_DO_* bits,
 * which the driver carries out. */
#ifndef MP_GROUP_H
#define MP_GROUP_H

#include "txn/member.h"
#include "txn/segment.h"

struct mp_group {
  struct mp_work *work;
  struct mp_segment *segment;
  uint64_t until_ms;           /* no call joins later */
  const char *tenant_in_force; /* a member's set_tenant_sql; borrowed */
};

/* The first script of an attempt starts; of a transaction for one call, too. False: no memory. */
bool mp_group_start(struct mp_group *group);
/* The script whose turn it is returned, or what it had queued has been seen since. */
unsigned mp_group_returned(struct mp_group *group);
/* It raised, or its statement failed. */
unsigned mp_group_failed(struct mp_group *group);
/* An earlier member's statement failed while another's script was at work. */
unsigned mp_group_earlier_failed(struct mp_group *group);
/* The member's caller does not wait any more. The others go on, from the top if the member had
 * begun. */
unsigned mp_group_drop(struct mp_group *group, struct mp_member *member, const struct mp_err *err);
/* It failed for a reason that may be one member's alone: each call is done again, without a group.
 */
bool mp_group_retries_ungrouped(const struct mp_group *group);

#endif
