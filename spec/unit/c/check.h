/* check.h: what C unit tests share: a check that says where it failed, and the exit code. A test
 * of seeded events sets seed_now and step_now (a number or a virtual time), which are said too. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

#include "util/attr.h"

static int failures;
static MP_UNUSED unsigned long long seed_now; /* 0: the test has no seeds */
static MP_UNUSED int step_now;

/* Goes on after a failure; the first twenty are told. */
#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))

static void check_failed(const char *file, int line, const char *text) {
  if (failures++ >= 20) return;
  if (seed_now)
    printf("%s:%d: seed %llu at %d: not so: %s\n", file, line, seed_now, step_now, text);
  else
    printf("%s:%d: not so: %s\n", file, line, text);
}

#endif
