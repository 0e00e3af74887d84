/* lane_priv.h: the lanes from inside, for lane.c, which moves calls, and lane_report.c, which tells
 * of them. */
#ifndef MP_LANE_PRIV_H
#define MP_LANE_PRIV_H

#include <pthread.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "rules/lane.h"
#include "util/attr.h"

struct mp_lane {
  UT_hash_handle hh;
  uint64_t order; /* from the key: the same on every host */
  struct mp_lane_terms terms;
  unsigned refs;            /* places of calls, in any state */
  unsigned open;            /* places that are held */
  unsigned reserved;        /* ... by calls that are not admitted */
  size_t queued;            /* calls that wait here */
  struct mp_list held;      /* a shared place is behind the one that it shares */
  struct mp_list queue;     /* by rank */
  struct mp_list dirty;     /* of mp_lanes.dirty, or linked to itself */
  struct mp_list timed;     /* of mp_lanes.timed, or linked to itself */
  uint64_t due_ns;          /* while it is timed */
  uint64_t tat_ns;          /* of the rate: when the last turn that was given out would be due */
  uint64_t left_ns, gap_ns; /* when a call left last; the mean time between two */
  size_t len;
  char key[];
};

struct mp_lanes {
  pthread_mutex_t lock; /* of all that follows, of the lanes and of the passes in them */
  struct mp_lane *by_key;
  struct mp_list dirty;            /* lanes in which a call may be admitted */
  struct mp_list timed;            /* lanes that a time changes */
  uint64_t due_ns;                 /* the first of these times, or earlier */
  uint64_t entered;                /* calls ever */
  const struct mp_lane_seat *here; /* of the worker that has the lock; it is not woken */
  size_t limit, waiting, active;
};

static inline struct mp_lanes *mp_lanes_lock(const struct mp_lane_seat *seat) {
  pthread_mutex_lock(&seat->lanes->lock);
  seat->lanes->here = seat;
  return seat->lanes;
}

static inline void mp_lanes_unlock(struct mp_lanes *lanes) { pthread_mutex_unlock(&lanes->lock); }

static inline struct mp_lane_place *mp_lane_place_at(struct mp_list *node) {
  return MP_LIST_ENTRY(node, struct mp_lane_place, node);
}

static inline bool mp_lane_admitted(const struct mp_lane_pass *pass) {
  return pass->held == pass->count;
}

/* When the next turn is due: the past or now, if it can be had at once. */
static inline uint64_t mp_lane_turn(const struct mp_lane *lane) {
  uint64_t ahead = (lane->terms.burst - 1) * lane->terms.interval_ns;
  return !lane->terms.interval_ns || lane->tat_ns < ahead ? 0 : lane->tat_ns - ahead;
}

/* May the call, which is in its queue, wait there? Else -MP_EBUSY. */
int mp_lanes_judge(const struct mp_lanes *lanes, const struct mp_lane_pass *pass, uint64_t now_ns,
                   struct mp_err *err) MP_MUST_CHECK;

#endif
