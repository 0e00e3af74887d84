/* policy_test.c: single rules of the pool's decisions. */
#include <stdlib.h>

#include "check.h"
#include "pool/policy.h"
#include "util/log.h"

static struct mp_policy *policy_of(unsigned min, unsigned max) {
  struct mp_policy_options opt = {.min = min, .max = max, .queue_limit = 10};
  struct mp_policy *policy = NULL;
  struct mp_err err;
  if (mp_policy_new(&policy, &opt, 0, &err)) exit(1);
  return policy;
}

static unsigned next_slot(struct mp_policy *policy, enum mp_action_kind kind) {
  struct mp_action action = {.kind = MP_ACTION_DRAINED};
  CHECK(mp_policy_next(policy, &action) && action.kind == kind);
  return action.slot;
}

static unsigned ask(struct mp_policy *policy, uint64_t now, int *tag) {
  unsigned ticket = 0;
  struct mp_err err;
  CHECK(!mp_policy_acquire(policy, now, tag, 0, now + 1000, false, &ticket, &err));
  return ticket;
}

static unsigned got(struct mp_policy *policy, uint64_t now, const int *tag) {
  struct mp_delivery d = {.code = MP_EINTERNAL};
  CHECK(mp_policy_deliver(policy, now, &d) && d.code == MP_OK && d.tag == tag);
  return d.slot;
}

static void latest_idle_first(void) {
  struct mp_policy *policy = policy_of(2, 2);
  int a, b;
  unsigned one = next_slot(policy, MP_ACTION_OPEN), two = next_slot(policy, MP_ACTION_OPEN);
  mp_policy_connected(policy, 1, one, 0);
  mp_policy_connected(policy, 2, two, 0);
  ask(policy, 3, &a);
  CHECK(got(policy, 3, &a) == two);
  ask(policy, 4, &b);
  CHECK(got(policy, 4, &b) == one);
  mp_policy_release(policy, 5, two, MP_RELEASE_REUSE);
  mp_policy_release(policy, 6, one, MP_RELEASE_REUSE);
  ask(policy, 7, &a);
  CHECK(got(policy, 7, &a) == one);
  mp_policy_unref(policy);
}

/* The slot of a planned grant breaks: the order of arrival stays. */
static void planned_grant_breaks(void) {
  struct mp_policy *policy = policy_of(2, 2);
  int a, b;
  unsigned one = next_slot(policy, MP_ACTION_OPEN), two = next_slot(policy, MP_ACTION_OPEN);
  mp_policy_connected(policy, 1, one, 0);
  mp_policy_connected(policy, 1, two, 0);
  ask(policy, 2, &a); /* is to get `two` */
  ask(policy, 2, &b);
  mp_policy_lost(policy, 3, two);
  CHECK(next_slot(policy, MP_ACTION_CLOSE) == two);
  CHECK(got(policy, 3, &a) == one);
  struct mp_delivery d;
  CHECK(!mp_policy_deliver(policy, 3, &d));
  mp_policy_release(policy, 4, one, MP_RELEASE_REUSE);
  CHECK(got(policy, 4, &b) == one);
  mp_policy_unref(policy);
}

static void timeout_after_plan(void) {
  struct mp_policy *policy = policy_of(1, 1);
  int a, b;
  unsigned one = next_slot(policy, MP_ACTION_OPEN);
  ask(policy, 0, &a); /* until 1000 */
  mp_policy_connected(policy, 500, one, 0);
  ask(policy, 600, &b);
  struct mp_delivery d = {.code = MP_OK};
  CHECK(mp_policy_deliver(policy, 1000, &d) && d.code == MP_ETIMEOUT && d.tag == &a);
  CHECK(got(policy, 1000, &b) == one);
  mp_policy_unref(policy);
}

static void pauses_double(void) {
  struct mp_policy *policy = policy_of(1, 1);
  uint64_t now = 0;
  for (int i = 0; i < 12; i++) {
    unsigned slot = next_slot(policy, MP_ACTION_OPEN);
    uint64_t ceiling = 50u << (i < 8 ? i : 8);
    if (ceiling > 5000) ceiling = 5000;
    mp_policy_connect_failed(policy, now, slot, ceiling - 1); /* the longest that can be drawn */
    CHECK(next_slot(policy, MP_ACTION_CLOSE) == slot);
    mp_policy_closed(policy, now, slot);
    struct mp_action action;
    CHECK(!mp_policy_next(policy, &action));
    CHECK(mp_policy_wake_ms(policy) == now + ceiling);
    now += ceiling;
    mp_policy_tick(policy, now);
  }
  mp_policy_connected(policy, now, next_slot(policy, MP_ACTION_OPEN), 0);
  mp_policy_lost(policy, now, 0);
  next_slot(policy, MP_ACTION_CLOSE);
  mp_policy_closed(policy, now, 0);
  next_slot(policy, MP_ACTION_OPEN); /* success ended the pauses */
  mp_policy_unref(policy);
}

/* A cancel that does not end costs its connection, after a while. */
static void parked_for_long(void) {
  struct mp_policy *policy = policy_of(0, 1);
  int a;
  ask(policy, 0, &a);
  unsigned one = next_slot(policy, MP_ACTION_OPEN);
  mp_policy_connected(policy, 1, one, 0);
  CHECK(got(policy, 1, &a) == one);
  mp_policy_tick(policy, 1);
  mp_policy_release(policy, 2, one, MP_RELEASE_PARK);
  uint64_t wake = mp_policy_wake_ms(policy);
  CHECK(wake == 2 + MP_POLICY_PARK_MS && mp_policy_state(policy, one) == MP_SLOT_PARKED);
  mp_policy_tick(policy, wake);
  CHECK(next_slot(policy, MP_ACTION_CLOSE) == one);
  mp_policy_unref(policy);
}

/* A fault of ours about one connection costs that one, and nothing else. */
static void forbidden_move(void) {
  struct mp_policy *policy = policy_of(2, 2);
  unsigned one = next_slot(policy, MP_ACTION_OPEN), two = next_slot(policy, MP_ACTION_OPEN);
  mp_policy_connected(policy, 1, one, 0);
  mp_policy_connected(policy, 1, two, 0);
  mp_policy_release(policy, 2, one, MP_RELEASE_REUSE); /* nobody has it */
  struct mp_policy_counts c;
  mp_policy_counts(policy, &c);
  CHECK(c.faults == 1 && c.slots[MP_SLOT_IDLE] == 1 &&
        mp_policy_state(policy, two) == MP_SLOT_IDLE);
  CHECK(next_slot(policy, MP_ACTION_CLOSE) == one);
  mp_policy_closed(policy, 3, one);
  CHECK(next_slot(policy, MP_ACTION_OPEN) == one);
  mp_policy_unref(policy);
}

/* In front of those that came before, behind urgent ones that did, and also where the queue is
 * full.
 */
static void urgent_first(void) {
  struct mp_policy *policy = policy_of(1, 1);
  struct mp_err err;
  unsigned one = next_slot(policy, MP_ACTION_OPEN), ticket;
  int holder, a, b, c, left = 0;
  mp_policy_connected(policy, 1, one, 0);
  ask(policy, 1, &holder);
  CHECK(got(policy, 1, &holder) == one);
  ask(policy, 2, &a);
  while (!mp_policy_acquire(policy, 2, &left, 0, 1000, false, &ticket, &err)) left++;
  CHECK(err.code == MP_EBUSY);
  CHECK(!mp_policy_acquire(policy, 4, &b, 0, 1000, true, &ticket, &err));
  CHECK(!mp_policy_acquire(policy, 4, &c, 0, 1000, true, &ticket, &err));
  const int *order[] = {&b, &c, &a};
  for (int i = 0; i < 3; i++) {
    mp_policy_release(policy, 5, one, MP_RELEASE_REUSE);
    CHECK(got(policy, 5, order[i]) == one);
  }
  mp_policy_unref(policy);
}

static void sizes_refused(void) {
  struct mp_policy *policy = policy_of(0, 1);
  struct mp_err err = {.code = MP_OK};
  CHECK(mp_policy_resize(policy, 0, 2, 1, &err) == -MP_EINVAL && err.code == MP_EINVAL);
  CHECK(mp_policy_resize(policy, 0, 0, 0, &err) == -MP_EINVAL);
  mp_policy_unref(policy);
}

static unsigned ask_as(struct mp_policy *policy, int *tag, uint64_t user) {
  unsigned ticket = 0;
  struct mp_err err;
  CHECK(!mp_policy_acquire(policy, 2, tag, user, 1000, false, &ticket, &err));
  return ticket;
}

/* One connection; user 1 asks for all places of the queue, then user 2 for one. */
static void users_take_turns(void) {
  struct mp_policy *policy = policy_of(1, 1);
  int held, noisy[10], calm, late;
  unsigned slot = next_slot(policy, MP_ACTION_OPEN);
  mp_policy_connected(policy, 1, slot, 0);
  ask_as(policy, &held, 1);
  got(policy, 2, &held);
  for (int i = 0; i < 10; i++) ask_as(policy, &noisy[i], 1);
  CHECK(mp_policy_oldest(policy) == &noisy[0]);
  /* The queue is full: one more of user 1 is refused; for user 2 the last of user 1 makes room. */
  unsigned ticket = 0;
  struct mp_err err;
  struct mp_delivery d;
  CHECK(mp_policy_acquire(policy, 2, &late, 1, 1000, false, &ticket, &err) == -MP_EBUSY);
  ask_as(policy, &calm, 2);
  CHECK(mp_policy_deliver(policy, 2, &d) && d.code == MP_EBUSY && d.tag == &noisy[9]);
  const int *order[] = {&calm, &noisy[0], &noisy[1], &noisy[2]};
  for (int i = 0; i < 4; i++) {
    mp_policy_release(policy, 3, slot, MP_RELEASE_REUSE);
    CHECK(got(policy, 3, order[i]) == slot);
  }
  /* User 2 asks again and again: he waits for one turn of user 1 at most. */
  for (int i = 3; i < 9; i++) {
    ask_as(policy, &calm, 2);
    mp_policy_release(policy, 3, slot, MP_RELEASE_REUSE);
    CHECK(got(policy, 3, &calm) == slot);
    if (i == 8) break;
    mp_policy_release(policy, 3, slot, MP_RELEASE_REUSE);
    CHECK(got(policy, 3, &noisy[i]) == slot);
  }
  mp_policy_unref(policy);
}

/* Turns that a user gives up are not held against him. */
static void given_up_turns(void) {
  struct mp_policy *policy = policy_of(1, 1);
  int held, gone[8], a, b;
  unsigned tickets[8], slot = next_slot(policy, MP_ACTION_OPEN);
  mp_policy_connected(policy, 1, slot, 0);
  ask_as(policy, &held, 1);
  got(policy, 2, &held);
  for (int i = 0; i < 8; i++) tickets[i] = ask_as(policy, &gone[i], 1);
  for (int i = 0; i < 8; i++) mp_policy_abandon(policy, 2, tickets[i]);
  ask_as(policy, &held, 2);
  ask_as(policy, &a, 1);
  ask_as(policy, &b, 2);
  mp_policy_release(policy, 3, slot, MP_RELEASE_REUSE);
  CHECK(got(policy, 3, &held) == slot);
  mp_policy_release(policy, 3, slot, MP_RELEASE_REUSE);
  CHECK(got(policy, 3, &a) == slot);
  mp_policy_unref(policy);
}

static void silent(enum mp_log_level level, const char *topic, const char *text,
                   const struct mp_log_about *about, void *data) {
  (void)about;
  (void)level, (void)topic, (void)text, (void)data;
}

int main(void) {
  mp_log_set_sink(silent, NULL); /* the forbidden move is reported there */
  latest_idle_first();
  planned_grant_breaks();
  timeout_after_plan();
  pauses_double();
  parked_for_long();
  forbidden_move();
  urgent_first();
  sizes_refused();
  users_take_turns();
  given_up_turns();
  return failures ? 1 : 0;
}
