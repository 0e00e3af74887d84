/* sm.h: a table of allowed moves for each state machine, checked in every build.
 *
 * A machine lists its states once, by X-macro: X(NAME, mask of the states it may move to), in the
 * order of its enum. MP_SM_TABLE makes the table of it. One function of the machine changes the
 * state: it asks mp_sm_may before, and mp_sm_sound when the rest of the object fits the new state.
 * If either says no, that function closes this one object; all others go on. */
#ifndef MP_SM_H
#define MP_SM_H

#include <stdbool.h>

#include "util/attr.h"

#define MP_TO(state) (1u << (state))

struct mp_sm {
  const char *name; /* of the machine, for reports */
  const char *const *state_names;
  const unsigned *moves; /* allowed target states, by state */
  /* NULL, or the invariant: returns what in `object` does not fit its state; NULL: all fits. */
  const char *(*unsound)(const void *object);
};

/* The table `sm` of the machine that reports call `label`. */
#define MP_SM_TABLE(sm, label, MAP, unsound)                        \
  static const char *const sm##_state_names[] = {MAP(MP_SM_NAME_)}; \
  static const unsigned sm##_state_moves[] = {MAP(MP_SM_MOVES_)};   \
  static const struct mp_sm sm = {label, sm##_state_names, sm##_state_moves, unsound}
#define MP_SM_NAME_(name, to) #name,
#define MP_SM_MOVES_(name, to) (to),

/* True if `from` may become `to`; else it reports the forbidden move to the log. */
bool mp_sm_may(const struct mp_sm *sm, unsigned from, unsigned to);

/* True if `object`, which is in `state`, keeps the machine's invariant; else it reports what is
 * wrong to the log. */
MP_MUST_CHECK bool mp_sm_sound(const struct mp_sm *sm, const void *object, unsigned state);

#endif
