/* lane.h: calls whose lane is equal run one at a time, in the order in which they came; or several
 * of them together, as a group that one of them leads: those who wait right behind join and hold
 * the lane too.
 * A lane exists while a call holds it or waits for it. Waiting costs no connection and no thread.
 * Pure: no I/O, no clock (the caller keeps the deadlines). Owner: the runtime. */
#ifndef MP_LANE_H
#define MP_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"
#include "util/list.h"

struct mp_lanes;
struct mp_lane;

/* A place in a lane; a value in the caller's memory from enter to leave. */
struct mp_lane_pass {
  struct mp_list node;
  struct mp_lane *lane; /* NULL: not in any */
  bool granted;
};

/* `limit`: calls that may wait, over all lanes. */
int mp_lanes_new(struct mp_lanes **out, size_t limit, struct mp_err *err) MP_MUST_CHECK;
void mp_lanes_unref(struct mp_lanes *lanes); /* no call may be in a lane any more */

/* Takes a place in the lane named `key`. 0: see pass->granted; if false the caller waits until
 * a mp_lane_leave of another hands it over. -MP_EBUSY: the limit is reached. */
int mp_lane_enter(struct mp_lanes *lanes, const char *key, size_t len, struct mp_lane_pass *pass,
                  struct mp_err *err) MP_MUST_CHECK;
/* Leaves, holding or waiting. Returns the pass that now holds the lane (it is marked granted; tell
 * its owner), or NULL: others of the group still hold the lane, or no call waits. Does nothing on a
 * pass that is in no lane. */
struct mp_lane_pass *mp_lane_leave(struct mp_lanes *lanes, struct mp_lane_pass *pass);

/* The pass that holds the lane, or leads the group that holds it. The pass must be in a lane. */
const struct mp_lane_pass *mp_lane_holder(const struct mp_lane_pass *pass);
/* Whether it is the first that holds the lane, or in no lane at all. */
bool mp_lane_leads(const struct mp_lane_pass *pass);
/* The first pass that waits behind `pass` and its group, or NULL. */
struct mp_lane_pass *mp_lane_behind(const struct mp_lane_pass *pass);
/* The first waiting pass joins: it holds the lane from now on, together with the passes in front of
 * it. */
void mp_lane_join(struct mp_lanes *lanes, struct mp_lane_pass *pass);
/* The group was dissolved: the pass waits again at its old place. Not for the leader. */
void mp_lane_wait_again(struct mp_lanes *lanes, struct mp_lane_pass *pass);

/* The order of the lane, by which groups sort calls; the same on every host. 0: in no lane. */
uint64_t mp_lane_order(const struct mp_lane_pass *pass);

/* A call begins, or ends, to wait elsewhere (groups.h) under the same limit. -MP_EBUSY: the limit
 * is reached. */
int mp_lanes_wait(struct mp_lanes *lanes, struct mp_err *err) MP_MUST_CHECK;
void mp_lanes_waited(struct mp_lanes *lanes);

size_t mp_lanes_waiting(const struct mp_lanes *lanes);
size_t mp_lanes_active(const struct mp_lanes *lanes); /* lanes that are held or waited for */

#endif
