/* gather.h: the numbers of all workers, brought together on the front (watch/metrics.h). */
#ifndef MP_GATHER_H
#define MP_GATHER_H

#include <lua.h>

#include "ops/crew.h"
#include "sql/state.h"

/* Adds `gather` to the table on top, for the front's own modules; `crew` may be NULL:
 *   gather(seconds) -> the number of a worker that did not answer in time, or nil
 *     Afterwards meters, registry and pool numbers are those of all workers. Suspends.
 *   pools() -> the pools of all workers as last gathered (watch/metrics.h)
 *   saturated_elsewhere() -> boolean
 *   workers, how many there are                                                      [-0, +0] */
void mp_gather_lua(lua_State *L, struct mp_crew *crew);

#endif
