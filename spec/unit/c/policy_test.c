/* policy_test.c: the pool's decisions against a simulated world with a virtual clock: seeded random
 * events, and after each of them everything that must always hold.
 * MP_SEEDS: how many seeds; MP_SEED: only this one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pool/policy.h"
#include "util/log.h"

enum { SLOTS = 12, WAITERS = 48, EVENTS = 500 };

enum world { NONE, OPENING, OPEN, ENDING };

struct conn { /* what is behind a slot, in truth */
  enum world world;
  int holder; /* a waiter's number, or -1 */
  bool pinged, parked, lost, leak_told, idle;
  bool planned;         /* the last look found it granted, but not delivered */
  uint64_t since, born; /* since: held, pinged, parked or idle */
};

struct waiter {
  bool waits, nodb; /* nodb: a connect failed while it waited, and none had ever succeeded */
  unsigned ticket;
  uint64_t order, deadline;
};

struct sim {
  struct mp_policy *policy;
  struct mp_policy_options opt;
  uint64_t now, random, orders;
  struct conn conns[SLOTS];
  struct waiter waiters[WAITERS];
  bool ever_connected, failing, draining, drained, down;
  uint64_t failed_at, drain_at;
  unsigned waits;
};

static uint64_t draw64(struct sim *s) {
  s->random ^= s->random << 13;
  s->random ^= s->random >> 7;
  s->random ^= s->random << 17;
  return s->random * 0x2545F4914F6CDD1Du;
}
static unsigned draw(struct sim *s, unsigned below) {
  return (unsigned)((draw64(s) >> 33) % below);
}

static struct mp_policy_counts counts_of(struct sim *s) {
  struct mp_policy_counts counts;
  mp_policy_counts(s->policy, &counts);
  return counts;
}

static unsigned alive(const struct mp_policy_counts *c) {
  return c->total - c->slots[MP_SLOT_CLOSING];
}

/* ---- the world does what the policy decides ---- */

static void act(struct sim *s, const struct mp_action *action) {
  struct conn *conn = &s->conns[action->slot];
  struct mp_policy_counts c = counts_of(s);
  switch (action->kind) {
    case MP_ACTION_OPEN:
      CHECK(conn->world == NONE);
      CHECK(c.total <= c.max);
      CHECK(c.slots[MP_SLOT_CONNECTING] <= 4);
      CHECK(!s->failing || c.slots[MP_SLOT_CONNECTING] == 1);
      CHECK(!s->failing || s->now > s->failed_at);
      *conn = (struct conn){.world = OPENING, .holder = -1};
      break;
    case MP_ACTION_CLOSE:
      CHECK(conn->world == OPENING || conn->world == OPEN);
      CHECK(conn->holder < 0 || (s->draining && s->now >= s->drain_at));
      conn->world = ENDING;
      conn->holder = -1;
      break;
    case MP_ACTION_PING:
      CHECK(conn->world == OPEN && conn->idle && !conn->pinged);
      conn->pinged = true;
      conn->since = s->now;
      break;
    case MP_ACTION_LEAK:
      CHECK(conn->holder >= 0 && !conn->leak_told);
      conn->leak_told = true;
      break;
    case MP_ACTION_DRAINED:
      CHECK(s->draining && !s->drained);
      for (int i = 0; i < SLOTS; i++) CHECK(s->conns[i].world == NONE);
      CHECK(!s->waits);
      s->drained = true;
      break;
  }
}

static void pump(struct sim *s) {
  struct mp_action action;
  while (mp_policy_next(s->policy, &action)) act(s, &action);
}

static void deliver(struct sim *s) {
  struct mp_delivery d;
  while (mp_policy_deliver(s->policy, s->now, &d)) {
    struct waiter *w = d.tag;
    CHECK(w->waits); /* each ends once */
    w->waits = false;
    s->waits--;
    if (d.code == MP_ETIMEOUT) {
      CHECK(w->deadline <= s->now);
    } else if (d.code == MP_ENODB) {
      CHECK(w->nodb);
    } else if (d.code == MP_ECLOSED) {
      CHECK(s->draining && s->now >= s->drain_at);
    } else {
      struct conn *conn = &s->conns[d.slot];
      CHECK(d.code == MP_OK && w->deadline > s->now);
      CHECK(conn->world == OPEN && conn->holder < 0 && !conn->pinged && !conn->parked &&
            !conn->lost);
      for (int i = 0; i < WAITERS; i++)
        CHECK(!s->waiters[i].waits || s->waiters[i].order > w->order);
      conn->holder = (int)(w - s->waiters);
      conn->idle = conn->leak_told = false;
      conn->since = s->now;
    }
  }
  pump(s);
}

/* ---- what must always hold ---- */

static void check(struct sim *s, bool delivered) {
  struct mp_policy_counts c = counts_of(s);
  unsigned by_world[4] = {0}, sum = 0;
  for (int i = 0; i < SLOTS; i++) by_world[s->conns[i].world]++;
  for (int i = MP_SLOT_CONNECTING; i < MP_SLOT_STATE_COUNT; i++) sum += c.slots[i];
  CHECK(sum == c.total && c.total == SLOTS - by_world[NONE]);
  CHECK(c.slots[MP_SLOT_CONNECTING] == by_world[OPENING]);
  CHECK(c.slots[MP_SLOT_CLOSING] == by_world[ENDING]);
  CHECK(!c.faults);
  CHECK(!c.waiting || !c.slots[MP_SLOT_IDLE]); /* nobody waits beside an idle connection */
  CHECK(c.waiting <= s->waits);

  /* Whatever the state demands is on its way, or due within a pause. */
  unsigned min = s->draining ? 0 : c.min;
  bool wants = c.waiting > c.slots[MP_SLOT_IDLE] + c.slots[MP_SLOT_CONNECTING] || alive(&c) < min;
  if (wants && c.total < c.max && !c.slots[MP_SLOT_CONNECTING]) {
    CHECK(s->failing && s->now <= s->failed_at + MP_POLICY_BACKOFF_MAX_MS);
    CHECK(mp_policy_wake_ms(s->policy) <= s->failed_at + MP_POLICY_BACKOFF_MAX_MS + 1);
  }
  if (s->draining && !c.waiting) CHECK(!c.slots[MP_SLOT_IDLE] && !c.slots[MP_SLOT_CONNECTING]);

  bool extra = alive(&c) > min;
  for (unsigned i = 0; i < SLOTS; i++) {
    struct conn *conn = &s->conns[i];
    enum mp_slot_state state = i < s->opt.max ? mp_policy_state(s->policy, i) : MP_SLOT_EMPTY;
    if (conn->planned && state == MP_SLOT_IDLE) conn->since = s->now; /* the plan was dropped */
    conn->planned = state == MP_SLOT_BUSY && conn->holder < 0;
    uint64_t age = s->now - conn->since;
    if (state == MP_SLOT_IDLE) {
      CHECK(conn->world == OPEN && conn->holder < 0 && !conn->lost);
      CHECK(!s->opt.max_lifetime_ms || s->now - conn->born < s->opt.max_lifetime_ms);
      CHECK(!extra || !conn->idle || conn->pinged || !s->opt.idle_timeout_ms ||
            age < s->opt.idle_timeout_ms);
      CHECK(c.slots[MP_SLOT_PINGING] == MP_POLICY_PINGS || conn->pinged ||
            !s->opt.health_interval_ms || age < s->opt.health_interval_ms || !conn->idle);
    }
    if (state == MP_SLOT_PINGING) CHECK(age < MP_POLICY_PING_MS);
    if (state == MP_SLOT_PARKED) CHECK(conn->parked && age < MP_POLICY_PARK_MS);
    if (conn->holder >= 0) {
      CHECK(state == MP_SLOT_BUSY);
      CHECK(!s->opt.leak_ms || conn->leak_told || age < s->opt.leak_ms);
    }
  }
  if (!delivered) return;
  for (int i = 0; i < WAITERS; i++) CHECK(!s->waiters[i].waits || s->waiters[i].deadline > s->now);
  CHECK(!mp_policy_has_delivery(s->policy) && c.waiting == s->waits);
  CHECK(!s->draining || s->now < s->drain_at || !alive(&c));
}

/* ---- events ---- */

/* The tick comes when the policy asked for it and not before: what it forgot to ask for is seen. */
static void advance(struct sim *s, uint64_t ms) {
  s->now += ms;
  int ticks = 0;
  for (; mp_policy_wake_ms(s->policy) <= s->now && ticks < 2 * SLOTS; ticks++) {
    mp_policy_tick(s->policy, s->now);
    pump(s);
  }
  CHECK(ticks < 2 * SLOTS); /* it does not spin */
}

static void acquire(struct sim *s) {
  struct waiter *w = &s->waiters[draw(s, WAITERS)];
  if (w->waits) return;
  for (int i = 0; i < SLOTS; i++)
    if (s->conns[i].holder == w - s->waiters) return;
  uint64_t deadline = s->now + draw(s, draw(s, 4) ? 3000 : 3);
  struct mp_err err = {.code = MP_OK};
  int rv = mp_policy_acquire(s->policy, s->now, w, deadline, &w->ticket, &err);
  CHECK((rv == -MP_ECLOSED) == s->draining);
  CHECK(rv != -MP_EBUSY || s->waits >= s->opt.queue_limit);
  CHECK(-rv == (int)err.code);
  if (!rv) {
    w->waits = true;
    w->nodb = false;
    w->order = ++s->orders;
    w->deadline = deadline;
    s->waits++;
  }
}

static void abandon(struct sim *s) {
  struct waiter *w = &s->waiters[draw(s, WAITERS)];
  if (!w->waits) return;
  w->waits = false;
  s->waits--;
  mp_policy_abandon(s->policy, s->now, w->ticket);
}

static void to_idle(struct sim *s, struct conn *conn) {
  conn->pinged = conn->parked = false;
  conn->idle = true;
  conn->since = s->now;
}

static void release(struct sim *s, unsigned slot) {
  struct conn *conn = &s->conns[slot];
  enum mp_release how = draw(s, 8)   ? MP_RELEASE_REUSE
                        : draw(s, 2) ? MP_RELEASE_PARK
                                     : MP_RELEASE_DISCARD;
  conn->holder = -1;
  to_idle(s, conn);
  if (how == MP_RELEASE_PARK) {
    conn->parked = true;
    conn->idle = false;
  }
  mp_policy_release(s->policy, s->now, slot, how);
}

/* Something happens to a random connection. */
static void happen(struct sim *s) {
  unsigned slot = draw(s, SLOTS);
  struct conn *conn = &s->conns[slot];
  switch (conn->world) {
    case NONE: break;
    case OPENING:
      if (s->down || !draw(s, 8)) {
        s->failing = true;
        s->failed_at = s->now;
        for (int i = 0; i < WAITERS; i++) s->waiters[i].nodb = !s->ever_connected;
        mp_policy_connect_failed(s->policy, s->now, slot, draw64(s));
      } else {
        conn->world = OPEN;
        conn->born = s->now;
        to_idle(s, conn);
        s->ever_connected = true;
        s->failing = false;
        mp_policy_connected(s->policy, s->now, slot, draw64(s));
      }
      break;
    case ENDING:
      conn->world = NONE;
      mp_policy_closed(s->policy, s->now, slot);
      break;
    case OPEN:
      if (conn->lost || (!draw(s, s->down ? 2 : 20))) {
        if (!conn->lost) {
          conn->lost = true;
          mp_policy_lost(s->policy, s->now, slot);
        } else if (conn->holder >= 0) {
          release(s, slot);
        }
      } else if (conn->holder >= 0) {
        if (draw(s, 3)) release(s, slot);
      } else if (conn->pinged) {
        bool ok = draw(s, 6) != 0;
        conn->pinged =
            false; /* it keeps its age as an idle one; a later look finds it younger only */
        conn->since = s->now;
        mp_policy_pinged(s->policy, s->now, slot, ok);
      } else if (conn->parked) {
        bool ok = draw(s, 3) != 0;
        to_idle(s, conn);
        mp_policy_unparked(s->policy, s->now, slot, ok);
      }
      break;
  }
}

static void resize(struct sim *s) {
  struct mp_err err;
  unsigned max = 1 + draw(s, SLOTS), min = draw(s, max + 1);
  CHECK(!mp_policy_resize(s->policy, s->now, min, max, &err));
  s->opt.max = max > s->opt.max ? max : s->opt.max; /* the widest it ever was */
}

static void drain(struct sim *s) {
  uint64_t at = s->now + draw(s, 2000);
  if (!s->draining || at < s->drain_at) s->drain_at = at;
  s->draining = true;
  mp_policy_drain(s->policy, s->now, at);
}

static void event(struct sim *s) {
  unsigned what = draw(s, 100);
  if (what < 25)
    acquire(s);
  else if (what < 30)
    abandon(s);
  else if (what < 75)
    happen(s);
  else if (what < 95)
    advance(s, draw(s, draw(s, 20) ? 50 : 12000));
  else if (what < 97)
    s->down = draw(s, 3) == 0;
  else if (what < 98)
    resize(s);
  else if (what < 99)
    mp_policy_tick(s->policy, s->now);
  else if (!draw(s, 6))
    drain(s);
  pump(s);
  advance(s, 0);
}

/* In the end the world gets well: everybody is served or told, the pool fills to its least size,
 * and a drain comes to its end. */
static void recover(struct sim *s) {
  s->down = false;
  for (int i = 0; i < 20000; i++) {
    struct mp_policy_counts c = counts_of(s);
    /* Health checks may be under way at any time. */
    bool quiet = !s->waits && !c.slots[MP_SLOT_BUSY] && !c.slots[MP_SLOT_PARKED];
    if (s->draining ? s->drained : quiet && alive(&c) >= c.min && alive(&c) <= c.max) return;
    if (draw(s, 3))
      happen(s);
    else
      s->now += draw(s, 50);
    pump(s);
    advance(s, 0);
    deliver(s);
    check(s, true);
    if (failures) return;
  }
  bool came_to_rest = false;
  CHECK(came_to_rest);
}

static void simulate(unsigned long long seed) {
  struct sim s = {.random = seed * 0x9E3779B97F4A7C15u + 1, .now = 1000};
  struct mp_err err;
  seed_now = seed;
  s.opt.max = 1 + draw(&s, SLOTS);
  s.opt.min = draw(&s, s.opt.max + 1);
  s.opt.queue_limit = draw(&s, 4) ? 20 : draw(&s, 4);
  s.opt.idle_timeout_ms = draw(&s, 3) ? 200 + draw(&s, 20000) : 0;
  s.opt.max_lifetime_ms = draw(&s, 3) ? 200 + draw(&s, 20000) : 0;
  s.opt.health_interval_ms = draw(&s, 3) ? 50 + draw(&s, 2000) : 0;
  s.opt.leak_ms = draw(&s, 3) ? 50 + draw(&s, 2000) : 0;
  s.down = !draw(&s, 5);
  for (int i = 0; i < SLOTS; i++) s.conns[i].holder = -1;
  if (mp_policy_new(&s.policy, &s.opt, s.now, &err)) {
    printf("cannot make a policy: %s\n", err.msg);
    failures++;
    return;
  }
  pump(&s);
  for (step_now = 0; step_now < EVENTS && !failures; step_now++) {
    event(&s);
    /* Grants stay planned for a while now and then, for something to come between. */
    bool now = draw(&s, 3) != 0;
    if (now) deliver(&s);
    check(&s, now);
  }
  if (!failures) recover(&s);
  mp_policy_unref(s.policy);
}

/* ---- single rules ---- */

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
  CHECK(!mp_policy_acquire(policy, now, tag, now + 1000, &ticket, &err));
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

static void sizes_refused(void) {
  struct mp_policy *policy = policy_of(0, 1);
  struct mp_err err = {.code = MP_OK};
  CHECK(mp_policy_resize(policy, 0, 2, 1, &err) == -MP_EINVAL && err.code == MP_EINVAL);
  CHECK(mp_policy_resize(policy, 0, 0, 0, &err) == -MP_EINVAL);
  mp_policy_unref(policy);
}

static void silent(enum mp_log_level level, const char *topic, const char *text,
                   const struct mp_log_about *about, void *data) {
  (void)about;
  (void)level, (void)topic, (void)text, (void)data;
}

int main(void) {
  const char *seeds = getenv("MP_SEEDS"), *only = getenv("MP_SEED");
  mp_log_set_sink(silent, NULL); /* the forbidden move is reported there */
  latest_idle_first();
  planned_grant_breaks();
  timeout_after_plan();
  pauses_double();
  parked_for_long();
  forbidden_move();
  sizes_refused();
  if (only) {
    simulate(strtoull(only, NULL, 10));
  } else {
    unsigned long long n = seeds ? strtoull(seeds, NULL, 10) : 2000;
    for (unsigned long long i = 1; i <= n && !failures; i++) simulate(i);
  }
  return failures ? 1 : 0;
}
