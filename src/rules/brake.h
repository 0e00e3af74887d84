/* brake.h: how many transactions of one operation and tenant run at a time while they conflict with
 * each other (40001, 40P01): running fewer of them at once gets more of them done.
 *
 * There is no brake as long as conflicts are rare. It comes with the first conflict and counts.
 * When too large a share of the last transactions met a conflict, its limit is halved
 * (multiplicative decrease); each transaction without a conflict raises it a little (additive
 * increase), until it goes away. Calls beyond the limit wait in the order in which they came,
 * holding no connection.
 *
 * Pure: no I/O, no clock (the caller keeps the deadlines). Owner: the operations of a generation.
 */
#ifndef MP_BRAKE_H
#define MP_BRAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rules/lane.h"

struct mp_brake;
struct mp_brakes {
  struct mp_brake *by_key; /* a hash; NULL: none */
  struct mp_lanes *lanes;  /* its limit of waiting calls counts here too */
};

/* A place; a value in the caller's memory from enter to leave. */
struct mp_brake_pass {
  struct mp_list node;
  uint64_t key;           /* of operation and tenant; 0: not at any brake */
  struct mp_brake *brake; /* NULL: there was none when it entered */
  bool waiting;
};

/* 0: the call may run, or waits (pass->waiting) until mp_brake_next gives it. `key` is not 0.
 * -MP_EBUSY: too many calls wait. */
int mp_brake_enter(struct mp_brakes *brakes, uint64_t key, struct mp_brake_pass *pass,
                   struct mp_err *err);
/* Leaves, running or waiting; does nothing with a zeroed pass. `ended`: its transaction has ended,
 * after `conflicts` of its attempts met one. Gives the key; call mp_brake_next with it until that
 * gives NULL. */
uint64_t mp_brake_leave(struct mp_brakes *brakes, struct mp_brake_pass *pass, bool ended,
                        unsigned conflicts);
/* The next waiting call of the key that may run now (tell its owner), or NULL. */
struct mp_brake_pass *mp_brake_next(struct mp_brakes *brakes, uint64_t key);
/* Frees all; no call may be at a brake any more. */
void mp_brakes_fini(struct mp_brakes *brakes);

#endif
