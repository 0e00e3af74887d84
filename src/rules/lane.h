/* lane.h: calls whose lane is equal run one at a time, in the order in which they came; or several
 * of them together, as a group that one of them leads: those who wait right behind join and hold
 * the lane too.
 *
 * A lane exists while somebody holds it or waits for it. Waiting costs no connection and no thread.
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
void mp_lanes_unref(struct mp_lanes *lanes); /* nobody may be in a lane any more */

/* Takes a place in the lane named `key`. 0: see pass->granted; if false the caller waits until
 * a mp_lane_leave of another hands it over. -MP_EBUSY: the limit is reached. */
int mp_lane_enter(struct mp_lanes *lanes, const char *key, size_t len, struct mp_lane_pass *pass,
                  struct mp_err *err) MP_MUST_CHECK;
/* Leaves, holding or waiting. Returns the pass that now holds the lane (it is marked granted; tell
 * its owner), or NULL when nobody's turn has come: others of the group hold it still, or nobody is
 * there. Harmless on a pass that is in no lane. */
struct mp_lane_pass *mp_lane_leave(struct mp_lanes *lanes, struct mp_lane_pass *pass);

/* Who holds the lane, the first of a group; not for a pass that is in none. */
const struct mp_lane_pass *mp_lane_holder(const struct mp_lane_pass *pass);
/* Is it the first of those who hold the lane, or in no lane at all? */
bool mp_lane_leads(const struct mp_lane_pass *pass);
/* Who waits right behind `pass` and those in its group; NULL: nobody. */
struct mp_lane_pass *mp_lane_behind(const struct mp_lane_pass *pass);
/* It holds the lane from now on, together with those in front of it; it must be the first who
 * waits. */
void mp_lane_join(struct mp_lanes *lanes, struct mp_lane_pass *pass);
/* The group came to nothing: it waits again, at its old place. Not the one who leads. */
void mp_lane_wait_again(struct mp_lanes *lanes, struct mp_lane_pass *pass);

/* What groups of calls are put in order by; the same on every host. 0: in no lane. */
uint64_t mp_lane_order(const struct mp_lane_pass *pass);

/* One more waits somewhere else for its turn (groups.h), under the same limit: -MP_EBUSY; or no
 * more. */
int mp_lanes_wait(struct mp_lanes *lanes, struct mp_err *err) MP_MUST_CHECK;
void mp_lanes_waited(struct mp_lanes *lanes);

size_t mp_lanes_waiting(const struct mp_lanes *lanes);
size_t mp_lanes_active(const struct mp_lanes *lanes); /* lanes somebody is in */

#endif
