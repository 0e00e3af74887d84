#include "util/sm.h"

#include "util/log.h"

bool mp_sm_may(const struct mp_sm *sm, unsigned from, unsigned to) {
  if (sm->moves[from] & MP_TO(to)) return true;
  mp_log(MP_LOG_ERROR, sm->name, "fault of the host: no move from %s to %s", sm->state_names[from],
         sm->state_names[to]);
  return false;
}
