/* turns.h: the lanes as one worker sees them: its seat, and the timer for rates. Tells the worker's
 * calls, on its own thread, that their turn has come.
 *
 * Owner: the runtime. All functions run on the worker's thread. */
#ifndef MP_TURNS_H
#define MP_TURNS_H

#include "loop/loop.h"
#include "loop/mail.h"
#include "rules/lane.h"

struct mp_turns {
  struct mp_lane_seat seat;
  struct mp_loop *loop;
  void (*on_turn)(struct mp_lane_pass *pass);
  struct mp_mail *mail; /* NULL: the host has one worker */
  struct mp_letter letter;
  struct mp_timer timer; /* of rates */
  bool serving;
};

/* `shared`: other threads have seats at these lanes too. on_turn may leave and enter lanes. */
int mp_turns_init(struct mp_turns *turns, struct mp_lanes *lanes, struct mp_loop *loop, bool shared,
                  void (*on_turn)(struct mp_lane_pass *pass), struct mp_err *err) MP_MUST_CHECK;
/* No call of the worker may be in a lane. Harmless with a zeroed struct. */
void mp_turns_fini(struct mp_turns *turns);
/* After each function of lane.h that may admit calls: on_turn for those of this worker. */
void mp_turns_serve(struct mp_turns *turns);

static inline uint64_t mp_turns_now(const struct mp_turns *turns) {
  return mp_loop_clock_ns(turns->loop);
}

#endif
