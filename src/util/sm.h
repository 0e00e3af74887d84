/* sm.h: a table of allowed moves for each state machine, checked in every build.
 *
 * A machine lists its states once, by X-macro: X(NAME, mask of the states it may move to). */
#ifndef MP_SM_H
#define MP_SM_H

#include <stdbool.h>

#define MP_TO(state) (1u << (state))

struct mp_sm {
  const char *name; /* of the machine, for reports */
  const char *const *state_names;
  const unsigned *moves; /* allowed target states, by state */
};

/* True if `from` may become `to`; else it reports the forbidden move to the log, and the caller
 * closes the one object concerned. */
bool mp_sm_may(const struct mp_sm *sm, unsigned from, unsigned to);

#endif
