/* call.h: one call of an operation: lane, transaction with its attempts, answer. The input is
 * already checked, and lane and tenant are known, by lua/moonpool. */
#ifndef MP_CALL_H
#define MP_CALL_H

#include <lua.h>

#include "rules/brake.h"
#include "sql/state.h"

struct mp_turns;

struct mp_ops {
  struct mp_host *host;
  const struct mp_crew *crew; /* NULL, or the workers of the host (crew.h) ... */
  unsigned worker;            /* ... and which one of them this is */
  struct mp_turns *turns;     /* the lanes */
  struct mp_brakes brakes;
  size_t live_calls;
  uint64_t calls; /* ever */
  bool draining;  /* no new calls */
};

void mp_ops_fini(struct mp_ops *ops); /* no call may be left */

/* A turn in the lanes has come: for turns.h. */
void mp_ops_turn(struct mp_lane_pass *pass);

/* Adds `transact` to the table of "moonpool.host", as the C side of moonpool.call. Raises. */
void mp_ops_open(struct mp_ops *ops, lua_State *L);

#endif
