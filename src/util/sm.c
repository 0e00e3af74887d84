#include "util/sm.h"

#include "util/log.h"

bool mp_sm_may(const struct mp_sm *sm, unsigned from, unsigned to) {
  if (sm->moves[from] & MP_TO(to)) return true;
  mp_log(MP_LOG_ERROR, sm->name, "fault of the host: no move from %s to %s", sm->state_names[from],
         sm->state_names[to]);
  return false;
}

bool mp_sm_sound(const struct mp_sm *sm, const void *object, unsigned state) {
  const char *wrong = sm->unsound ? sm->unsound(object) : NULL;
  if (!wrong) return true;
  mp_log(MP_LOG_ERROR, sm->name, "fault of the host: in state %s, %s", sm->state_names[state],
         wrong);
  return false;
}
