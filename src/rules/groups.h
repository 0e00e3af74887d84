/* groups.h: how many transactions of one operation run at a time. A call that arrives while all are
 * busy waits until one of them takes it along as a member of its group, or ends. A group takes
 * waiting calls in ascending `order`, which comes from their lanes and is the same on every host.
 * Two groups that need the same rows therefore lock them in the same order and cannot deadlock. The
 * next leader is found in that order too, going round, so that no call waits for ever.
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
  struct mp_lanes *lanes; /* its limit of waiting calls counts here too */
  unsigned width, open;
  uint64_t at;            /* the order of the call that was taken last */
  struct mp_list waiting; /* by order */
};

/* A place; a value in the caller's memory from enter to leave. */
struct mp_groups_pass {
  struct mp_list node;
  struct mp_groups *groups; /* NULL: not at any */
  uint64_t order;
  bool waiting;
  bool leads; /* it is one of the `width` leaders; else a member or waiting */
};

void mp_groups_init(struct mp_groups *groups, struct mp_lanes *lanes, unsigned width);

/* 0: pass->leads, or the call waits until mp_groups_leave of another makes it lead or
 * mp_groups_join takes it along. -MP_EBUSY: too many calls wait. */
int mp_groups_enter(struct mp_groups *groups, uint64_t order, struct mp_groups_pass *pass,
                    struct mp_err *err) MP_MUST_CHECK;
/* The waiting call with the lowest order above `order`, or NULL. */
struct mp_groups_pass *mp_groups_above(const struct mp_groups *groups, uint64_t order);
/* A waiting call joins a group as a member. */
void mp_groups_join(struct mp_groups_pass *pass);
/* Leaves, in any state; does nothing if it is not in. Returns the call that leads now (tell its
 * owner), or NULL. */
struct mp_groups_pass *mp_groups_leave(struct mp_groups_pass *pass);

#endif
