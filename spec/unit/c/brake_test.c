/* brake_test.c: how many transactions run at a time while they conflict. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "rules/brake.h"

enum { CALLS = 20, KEY = 7 };

static struct mp_lanes *lanes;
static struct mp_brakes brakes;
static struct mp_brake_pass passes[CALLS];
static size_t running, most;

static void begin(size_t limit) {
  struct mp_err err;
  if (mp_lanes_new(&lanes, limit, &err)) exit(1);
  brakes = (struct mp_brakes){.lanes = lanes};
  running = most = 0;
}

static void end(void) {
  CHECK(!running && !mp_lanes_waiting(lanes));
  mp_brakes_fini(&brakes);
  mp_lanes_unref(lanes);
}

static void started(void) {
  if (++running > most) most = running;
}

static int enter(unsigned i) {
  struct mp_err err;
  int rv = mp_brake_enter(&brakes, KEY, &passes[i], &err);
  if (!rv && !passes[i].waiting) started();
  return rv;
}

/* The call ends; those that may run now do. */
static void leave(unsigned i, unsigned conflicts) {
  if (!passes[i].waiting) running--;
  uint64_t key = mp_brake_leave(&brakes, &passes[i], true, conflicts);
  CHECK(key == KEY && !mp_brake_leave(&brakes, &passes[i], true, 1)); /* twice is harmless */
  while (mp_brake_next(&brakes, key)) started();
}

/* All callers call again and again; whether a call conflicts is told by how many run beside it. */
static void work(unsigned rounds, size_t conflict_from) {
  for (unsigned i = 0; i < CALLS; i++) enter(i);
  for (unsigned n = 0; n < rounds; n++)
    for (unsigned i = 0; i < CALLS; i++) {
      if (passes[i].waiting) continue;
      if (passes[i].key) leave(i, running >= conflict_from);
      enter(i);
    }
  for (unsigned n = 0; n < CALLS; n++)
    for (unsigned i = 0; i < CALLS; i++)
      if (passes[i].key && !passes[i].waiting) leave(i, 0);
}

/* Without conflicts there is no brake, and nobody waits. */
static void none(void) {
  begin(100);
  work(100, CALLS + 1);
  CHECK(most == CALLS && !brakes.by_key);
  end();
}

/* Any two that run together conflict: soon they run one by one, or nearly so. */
static void storm(void) {
  begin(100);
  work(100, 2);
  most = running = 0;
  work(100, 2);
  CHECK(most <= 4);
  end();
}

/* When the conflicts end the limit grows until the brake is gone. */
static void goes_away(void) {
  begin(100);
  work(100, 2);
  CHECK(brakes.by_key);
  work(2000, CALLS + 1);
  CHECK(most == CALLS);
  for (unsigned i = 0; i < CALLS && brakes.by_key; i++) work(500, CALLS + 1);
  CHECK(!brakes.by_key);
  end();
}

/* Who waits may leave; too many that wait are refused. */
static void waiting(void) {
  begin(2);
  work(100, 2);
  unsigned i = 0;
  while (i < CALLS && !enter(i) && mp_lanes_waiting(lanes) < 2) i++;
  CHECK(mp_lanes_waiting(lanes) == 2 && enter(i + 1) == -MP_EBUSY && !passes[i + 1].key);
  uint64_t key = mp_brake_leave(&brakes, &passes[i], false, 0);
  CHECK(key == KEY && mp_lanes_waiting(lanes) == 1);
  for (unsigned k = 0; k < i; k++)
    if (!passes[k].waiting) leave(k, 0);
  for (unsigned k = 0; k < i; k++)
    if (passes[k].key) leave(k, 0);
  end();
}

int main(void) {
  none();
  storm();
  goes_away();
  waiting();
  return failures ? 1 : 0;
}
