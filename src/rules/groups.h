/* groups.h: how many transactions of one operation run at a time. Who comes while all are at work
 * waits until one of them takes it along, as a member of its group, or ends.
 *
 * Groups take those who wait in ascending order of their `order`, which is that of their lanes and
 * the same on every host: two groups that need the same rows need them in the same order and cannot
 * lock each other out. Who leads next is found in that order too, going round, so that nobody is
 * passed over for ever.
 *
 * Pure: no I/O, no clock (the caller keeps the deadlines). Owner: the operation. */
#ifndef MP_GROUPS_H
#define MP_GROUPS_H

#include <stdbool.h>
#include <stdint.h>

#include "rules/lane.h"
#include "util/err.h"
#include "util/list.h"

struct mp_groups {
  struct mp_lanes *lanes; /* whose limit of those who wait counts here too */
  unsigned width, open;
  uint64_t at;            /* the order of the one that was taken last */
  struct mp_list waiting; /* by order */
};

/* A place; a value in the caller's memory from enter to leave. */
struct mp_groups_pass {
  struct mp_list node;
  struct mp_groups *groups; /* NULL: not at any */
  uint64_t order;
  bool waiting;
  bool leads; /* one of `width`; else it has come along */
};

void mp_groups_init(struct mp_groups *groups, struct mp_lanes *lanes, unsigned width);

/* 0: pass->leads, or it waits until another's mp_groups_leave makes it lead or mp_groups_join takes
 * it along. -MP_EBUSY: too many wait. */
int mp_groups_enter(struct mp_groups *groups, uint64_t order, struct mp_groups_pass *pass,
                    struct mp_err *err) MP_MUST_CHECK;
/* The one who waits with the lowest order above `order`, or NULL. */
struct mp_groups_pass *mp_groups_above(const struct mp_groups *groups, uint64_t order);
/* It comes along with a group; it waits. */
void mp_groups_join(struct mp_groups_pass *pass);
/* Leaves, in whatever state; harmless when it is at no groups. Returns who leads now (tell its
 * owner), or NULL. */
struct mp_groups_pass *mp_groups_leave(struct mp_groups_pass *pass);

#endif
