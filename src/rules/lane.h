/* lane.h: flow control by key. A lane is a text; calls whose lanes are equal share its places. A
 * lane has a width (how many calls may hold it at a time) and perhaps a rate (how many may begin in
 * a time) and a limit of those who wait. A call has up to MP_LANES_OF_CALL lanes and begins when it
 * holds a place in each. Waiting costs no connection and no thread.
 *
 *   call:  WAITING --> ADMITTED --> (gone)        waits in one lane, or holds all
 *   place: OUT --> WAITING --> HELD --> OUT       OUT: of a lane that the call has not come to
 *           ^         |  ^       |                HELD, call not admitted: reserved; may be taken
 *           |         v  \-------/                by an older call, then it waits again
 *           \------ SHARED                        SHARED: together with the call in front of it
 *
 * Order: in a lane, calls with a lower priority number come first, then those that entered first.
 * No call overtakes another in the same lane, so no call of a key waits for calls of other keys.
 *
 * Several lanes: a call takes them in the order in which it names them and keeps a reserved place
 * while it waits in the next lane. So a lane that is named first (of a tenant) bounds how many
 * calls wait in one that is named later (of a supplier). Nothing runs in a reserved place, so it
 * can be given up: a call that finds a lane full takes the place of the youngest call of lower rank
 * that only reserves it. The call of the highest rank therefore always goes on, whatever orders
 * operations name their lanes in: there is no deadlock and no starvation (wound-wait).
 *
 * Groups and hand-over: a call that waits in its only lane may join one that holds it and shares
 * its place; the place is free when the last of them has left.
 *
 * Rate: one call each `interval_ns`, and `burst` at once after a pause (GCRA): in any time t at
 * most burst + t / interval_ns calls begin. A call that leaves without having begun gives its turn
 * back.
 *
 * Threads: the lanes belong to the host and its workers share them, under one lock. A pass belongs
 * to the worker of its seat. Whoever frees a place admits the next calls: those of another worker
 * are put into its seat, which is woken and takes them out itself. So no worker ever touches a call
 * of another.
 *
 * Pure: no I/O, no clock. `now_ns` never goes back. Owner: the front's runtime. */
#ifndef MP_LANE_H
#define MP_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"
#include "util/list.h"

enum { MP_LANES_OF_CALL = 4, MP_LANE_WIDTH_MAX = 100000 };

struct mp_lanes;
struct mp_lane;
struct mp_lane_pass;

struct mp_lane_terms {
  unsigned width;       /* at least 1 */
  unsigned burst;       /* of the rate, at least 1 */
  uint64_t interval_ns; /* of the rate; 0: there is none */
  size_t limit;         /* calls that may wait in this lane; 0: no limit of its own */
};

/* What a call asks for. The terms hold for the lane from now on. */
struct mp_lane_want {
  const char *key;
  size_t len;
  struct mp_lane_terms terms;
};

/* Where the calls of one worker are admitted; in the worker's memory. */
struct mp_lane_seat {
  struct mp_lanes *lanes;
  struct mp_list ready; /* admitted, not taken out yet */
  bool woken;           /* until mp_lane_woken */
  /* There is something to take out. From another thread, under the lock: it only sends a signal. */
  void (*wake)(struct mp_lane_seat *seat);
};

enum mp_lane_place_state { MP_PLACE_OUT, MP_PLACE_WAITING, MP_PLACE_HELD, MP_PLACE_SHARED };

struct mp_lane_place {
  struct mp_list node;
  struct mp_lane *lane;
  struct mp_lane_pass *pass;
  enum mp_lane_place_state state;
  bool paid; /* it has its turn of the rate */
};

/* A call's places; a value in the caller's memory from enter to leave. */
struct mp_lane_pass {
  struct mp_lane_seat *seat;
  struct mp_list node; /* of seat->ready, if `offered` */
  uint64_t order;
  int priority;
  unsigned count, held; /* lanes; so many of them, from the first, are held */
  bool offered;
  bool granted; /* the call may run, and its worker knows it */
  struct mp_lane_place places[MP_LANES_OF_CALL];
};

/* `limit`: calls that may wait, over all lanes. */
int mp_lanes_new(struct mp_lanes **out, size_t limit, struct mp_err *err) MP_MUST_CHECK;
void mp_lanes_unref(struct mp_lanes *lanes); /* no call may be in a lane any more */
void mp_lane_seat_init(struct mp_lane_seat *seat, struct mp_lanes *lanes,
                       void (*wake)(struct mp_lane_seat *seat));

/* Enters `count` lanes (1 to MP_LANES_OF_CALL; a key that is named twice counts once). 0: see
 * pass->granted; if false the call waits until mp_lane_next gives it. -MP_EBUSY: too many wait, in
 * one of the lanes or altogether. `priority`: 0 is the most urgent. */
int mp_lane_enter(struct mp_lane_seat *seat, const struct mp_lane_want *wants, unsigned count,
                  int priority, uint64_t now_ns, struct mp_lane_pass *pass,
                  struct mp_err *err) MP_MUST_CHECK;
/* Leaves, holding or waiting; does nothing on a pass that is in no lane.
 * After this, and after mp_lane_enter, mp_lane_join and mp_lane_wait_again, calls of the seat may
 * have been admitted without that it is woken: take them out. */
void mp_lane_leave(struct mp_lane_pass *pass, uint64_t now_ns);
/* The signal of `wake` has come: it may be woken again. Then call mp_lane_next. */
void mp_lane_woken(struct mp_lane_seat *seat);
/* The next call of this worker that may run now (marked granted; tell its owner), or NULL. */
struct mp_lane_pass *mp_lane_next(struct mp_lane_seat *seat);
/* Admits calls whose turn of a rate has come; they are with mp_lane_next. Returns when it wants to
 * be called again, UINT64_MAX: nobody waits for a rate. */
uint64_t mp_lanes_tick(struct mp_lane_seat *seat, uint64_t now_ns);

static inline bool mp_lane_in(const struct mp_lane_pass *pass) { return pass->count > 0; }
/* Whether the place that it holds is its own, or it is in no lane at all. */
bool mp_lane_leads(const struct mp_lane_pass *pass);
/* The first call that waits in the only lane of `pass`, if it may join: it is of the same worker,
 * is in no other lane, and has its turn of the rate. Else NULL. */
struct mp_lane_pass *mp_lane_behind(const struct mp_lane_pass *pass, uint64_t now_ns);
/* The call that mp_lane_behind gave shares the place of `pass` from now on. False: it has got a
 * place of its own in between; mp_lane_next gives it. */
bool mp_lane_join(struct mp_lane_pass *pass, struct mp_lane_pass *behind, uint64_t now_ns);
/* The group was dissolved: a pass that shares a place waits again, where it was. Then call
 * mp_lane_next. */
void mp_lane_wait_again(struct mp_lane_pass *pass, uint64_t now_ns);

/* The order of its first lane, by which groups sort calls; the same on every host. 0: in no lane.
 */
uint64_t mp_lane_order(const struct mp_lane_pass *pass);

/* What a waiting call waits for. */
struct mp_lane_report {
  char key[80];
  size_t place, waiting;                    /* 1: it is the next; how many wait there */
  unsigned held, width;                     /* places */
  uint64_t expected_ms;                     /* by how fast calls have left the lane; 0: not known */
  bool rated;                               /* it waits for its turn of the rate */
  const struct mp_lane_pass *first_of_seat; /* the first of this worker that holds it, or NULL */
};
/* False: it does not wait. */
bool mp_lane_report(const struct mp_lane_pass *pass, uint64_t now_ns, struct mp_lane_report *out);

/* A call begins, or ends, to wait elsewhere (groups.h) under the same limit. -MP_EBUSY: the limit
 * is reached. */
int mp_lanes_wait(struct mp_lanes *lanes, struct mp_err *err) MP_MUST_CHECK;
void mp_lanes_waited(struct mp_lanes *lanes);

size_t mp_lanes_waiting(struct mp_lanes *lanes);
size_t mp_lanes_active(struct mp_lanes *lanes); /* lanes that are held or waited for */

#endif
