/* health_test.c: which state follows from which facts: each look with each set of facts, by the
 * ladder of health.h. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "pool/health.h"

static const struct mp_health_facts well = {.pool_full_ms = 0};

static enum mp_health_state after(enum mp_look look, struct mp_health_facts facts) {
  struct mp_health health;
  mp_health_init(&health, 0);
  mp_health_looked(&health, 1, look, NULL, &facts);
  return health.state;
}

static void the_ladder(void) {
  struct mp_health_facts full = {.pool_full_ms = MP_HEALTH_FULL_MS};
  struct mp_health_facts nearly = {.pool_full_ms = MP_HEALTH_FULL_MS - 1};
  struct mp_health_facts down = {.pool_down = true};
  struct mp_health_facts all = {.draining = true, .pool_down = true, .pool_full_ms = 9999};
  CHECK(after(MP_LOOK_NONE, well) == MP_HEALTH_HEALTHY);
  CHECK(after(MP_LOOK_WRITABLE, well) == MP_HEALTH_HEALTHY);
  CHECK(after(MP_LOOK_WRITABLE, nearly) == MP_HEALTH_HEALTHY);
  CHECK(after(MP_LOOK_WRITABLE, full) == MP_HEALTH_SATURATED);
  CHECK(after(MP_LOOK_FULL, well) == MP_HEALTH_SATURATED);
  CHECK(after(MP_LOOK_FULL, down) == MP_HEALTH_SATURATED);
  CHECK(after(MP_LOOK_READ_ONLY, well) == MP_HEALTH_READ_ONLY);
  CHECK(after(MP_LOOK_READ_ONLY, full) == MP_HEALTH_READ_ONLY);
  CHECK(after(MP_LOOK_FAILED, full) == MP_HEALTH_UNREACHABLE);
  CHECK(after(MP_LOOK_WRITABLE, down) == MP_HEALTH_UNREACHABLE);
  for (int look = MP_LOOK_NONE; look <= MP_LOOK_FAILED; look++)
    CHECK(after((enum mp_look)look, all) == MP_HEALTH_DRAINING);
}

static void since(void) {
  struct mp_health health;
  struct mp_health_facts full = {.pool_full_ms = 5000};
  mp_health_init(&health, 10);
  mp_health_looked(&health, 20, MP_LOOK_WRITABLE, NULL, &well);
  CHECK(health.since_ms == 10);
  CHECK(mp_health_judge(&health, 30, &full) && health.since_ms == 30);
  CHECK(!mp_health_judge(&health, 40, &full) && health.since_ms == 30);
  CHECK(mp_health_judge(&health, 50, &well) && health.state == MP_HEALTH_HEALTHY);
}

static void failures_in_a_row(void) {
  struct mp_health health;
  struct mp_err err;
  mp_health_init(&health, 0);
  mp_err_set(&err, MP_ENODB, "refused\nby whom");
  strcpy(err.sqlstate, "28P01");
  for (unsigned i = 1; i <= 3; i++) {
    mp_health_looked(&health, i, MP_LOOK_FAILED, &err, &well);
    CHECK(health.failures == i);
  }
  CHECK(!strcmp(health.reason, "refused") && !strcmp(health.sqlstate, "28P01"));
  mp_health_looked(&health, 4, MP_LOOK_READ_ONLY, NULL, &well);
  CHECK(!health.failures && !*health.reason && !*health.sqlstate);
}

static void what_is_told(void) {
  CHECK(mp_health_works(MP_HEALTH_SATURATED) && mp_health_sound(MP_HEALTH_SATURATED));
  CHECK(mp_health_works(MP_HEALTH_READ_ONLY) && !mp_health_sound(MP_HEALTH_READ_ONLY));
  CHECK(!mp_health_works(MP_HEALTH_UNREACHABLE) && !mp_health_works(MP_HEALTH_DRAINING));
  CHECK(!strcmp(mp_health_name(MP_HEALTH_READ_ONLY), "read_only"));
}

int main(void) {
  the_ladder();
  since();
  failures_in_a_row();
  what_is_told();
  if (failures) printf("%d checks failed\n", failures);
  return failures != 0;
}
