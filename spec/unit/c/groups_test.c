/* groups_test.c: how many groups of an operation run at a time, and in what order they take along
 * who waits. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "rules/groups.h"

static struct mp_lanes *lanes;
static struct mp_groups groups;

static void begin(unsigned width, size_t limit) {
  struct mp_err err;
  if (mp_lanes_new(&lanes, limit, &err)) exit(1);
  mp_groups_init(&groups, lanes, width);
}

static void end(void) {
  CHECK(!groups.open && mp_list_empty(&groups.waiting) && !mp_lanes_waiting(lanes));
  mp_lanes_unref(lanes);
}

static int enter(uint64_t order, struct mp_groups_pass *pass) {
  struct mp_err err;
  return mp_groups_enter(&groups, order, pass, &err);
}

static void width(void) {
  struct mp_groups_pass a, b, c;
  begin(2, 10);
  CHECK(!enter(5, &a) && a.leads);
  CHECK(!enter(5, &b) && b.leads);
  CHECK(!enter(1, &c) && !c.leads && mp_lanes_waiting(lanes) == 1);
  CHECK(mp_groups_leave(&a) == &c && c.leads && !mp_lanes_waiting(lanes));
  CHECK(!mp_groups_leave(&a)); /* twice is harmless */
  CHECK(!mp_groups_leave(&b) && groups.open == 1);
  CHECK(!mp_groups_leave(&c));
  end();
}

static void ascending(void) {
  struct mp_groups_pass leader, p[4];
  const uint64_t orders[] = {30, 10, 20, 10};
  begin(1, 10);
  CHECK(!enter(15, &leader));
  for (int i = 0; i < 4; i++) CHECK(!enter(orders[i], &p[i]));
  CHECK(mp_groups_above(&groups, 15) == &p[2]);
  mp_groups_join(&p[2]);
  CHECK(mp_groups_above(&groups, 20) == &p[0]);
  mp_groups_join(&p[0]);
  CHECK(!mp_groups_above(&groups, 30)); /* the two below wait for the next group */
  CHECK(!mp_groups_leave(&p[2]));       /* who came along holds no place */
  CHECK(!mp_groups_leave(&p[0]));
  CHECK(mp_groups_leave(&leader) == &p[1]); /* round again; equal ones as they came */
  CHECK(mp_groups_leave(&p[1]) == &p[3]);
  CHECK(!mp_groups_leave(&p[3]));
  end();
}

static void next_leader_goes_on(void) {
  struct mp_groups_pass leader, low, high;
  begin(1, 10);
  CHECK(!enter(15, &leader) && !enter(10, &low) && !enter(20, &high));
  CHECK(mp_groups_leave(&leader) ==
        &high); /* not the lowest: it would be passed over while low ones come */
  CHECK(mp_groups_leave(&high) == &low);
  CHECK(!mp_groups_leave(&low));
  end();
}

static void limit(void) {
  struct mp_groups_pass leader, waits, refused = {.groups = NULL};
  begin(1, 1);
  CHECK(!enter(1, &leader) && !enter(2, &waits));
  CHECK(enter(3, &refused) == -MP_EBUSY && !refused.groups);
  CHECK(!mp_groups_leave(&waits)); /* it gave up */
  CHECK(!enter(3, &refused) && refused.waiting);
  CHECK(mp_groups_leave(&leader) == &refused);
  CHECK(!mp_groups_leave(&refused));
  end();
}

/* Whatever comes and goes: never more leaders than places, none idle while somebody waits, and
 * whoever goes round long enough is served. */
static void model(void) {
  enum { PASSES = 30 };
  struct mp_groups_pass passes[PASSES];
  memset(passes, 0, sizeof passes);
  unsigned wide = 1 + draw(4);
  begin(wide, PASSES);
  for (; step_now < 600 && !failures; step_now++) {
    struct mp_groups_pass *pass = &passes[draw(PASSES)];
    if (!pass->groups) {
      CHECK(!enter(draw(8), pass));
    } else if (pass->leads && draw(2)) {
      struct mp_groups_pass *other = mp_groups_above(&groups, pass->order);
      if (other) {
        CHECK(other->waiting && other->order > pass->order);
        mp_groups_join(other);
      }
    } else {
      struct mp_groups_pass *next = mp_groups_leave(pass);
      CHECK(!next || (next->leads && !next->waiting));
    }
    unsigned leading = 0, waiting = 0;
    for (int i = 0; i < PASSES; i++) {
      leading += passes[i].groups && passes[i].leads;
      waiting += passes[i].groups && passes[i].waiting;
    }
    CHECK(leading == groups.open && leading <= wide && waiting == mp_lanes_waiting(lanes));
    CHECK(!waiting || leading == wide);
  }
  for (int rounds = 0; rounds < PASSES; rounds++)
    for (int i = 0; i < PASSES; i++)
      if (passes[i].leads || !passes[i].waiting) mp_groups_leave(&passes[i]);
  end();
}

int main(void) {
  width();
  ascending();
  next_leader_goes_on();
  limit();
  run_seeds(model, 500);
  return failures ? 1 : 0;
}
