/* group.h: several calls in one transaction, one after another, for the price of one COMMIT.
 *
 * Each member works in a savepoint of its own, so that its failure undoes it alone. What a member
 * left queued travels with the next member's first statements. If one of those left-over statements
 * fails, the earlier member is undone, and the later one, of which the server has done nothing,
 * starts again. All answers are in before COMMIT, which then counts for all members.
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
/* The running member's script returned, or the flush that its end required was answered. */
unsigned mp_group_returned(struct mp_group *group);
/* The running member's script raised, or one of its statements failed. */
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
