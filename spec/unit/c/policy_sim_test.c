/* policy_sim_test.c: the pool's decisions against a simulated world with a virtual clock: seeded
 * random events, and after each of them everything that must always hold. */
#include "pool/policy.h"
#include "random.h"

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
  uint64_t now, orders;
  struct conn conns[SLOTS];
  struct waiter waiters[WAITERS];
  bool ever_connected, failing, draining, drained, down;
  uint64_t failed_at, drain_at;
  unsigned waits;
};

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
  struct waiter *w = &s->waiters[draw(WAITERS)];
  if (w->waits) return;
  for (int i = 0; i < SLOTS; i++)
    if (s->conns[i].holder == w - s->waiters) return;
  uint64_t deadline = s->now + draw(draw(4) ? 3000 : 3);
  struct mp_err err = {.code = MP_OK};
  int rv = mp_policy_acquire(s->policy, s->now, w, 0, deadline, false, &w->ticket, &err);
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
  struct waiter *w = &s->waiters[draw(WAITERS)];
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
  enum mp_release how = draw(8) ? MP_RELEASE_REUSE : draw(2) ? MP_RELEASE_PARK : MP_RELEASE_DISCARD;
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
  unsigned slot = draw(SLOTS);
  struct conn *conn = &s->conns[slot];
  switch (conn->world) {
    case NONE: break;
    case OPENING:
      if (s->down || !draw(8)) {
        s->failing = true;
        s->failed_at = s->now;
        for (int i = 0; i < WAITERS; i++) s->waiters[i].nodb = !s->ever_connected;
        mp_policy_connect_failed(s->policy, s->now, slot, draw64());
      } else {
        conn->world = OPEN;
        conn->born = s->now;
        to_idle(s, conn);
        s->ever_connected = true;
        s->failing = false;
        mp_policy_connected(s->policy, s->now, slot, draw64());
      }
      break;
    case ENDING:
      conn->world = NONE;
      mp_policy_closed(s->policy, s->now, slot);
      break;
    case OPEN:
      if (conn->lost || (!draw(s->down ? 2 : 20))) {
        if (!conn->lost) {
          conn->lost = true;
          mp_policy_lost(s->policy, s->now, slot);
        } else if (conn->holder >= 0) {
          release(s, slot);
        }
      } else if (conn->holder >= 0) {
        if (draw(3)) release(s, slot);
      } else if (conn->pinged) {
        bool ok = draw(6) != 0;
        conn->pinged =
            false; /* it keeps its age as an idle one; a later look finds it younger only */
        conn->since = s->now;
        mp_policy_pinged(s->policy, s->now, slot, ok);
      } else if (conn->parked) {
        bool ok = draw(3) != 0;
        to_idle(s, conn);
        mp_policy_unparked(s->policy, s->now, slot, ok);
      }
      break;
  }
}

static void resize(struct sim *s) {
  struct mp_err err;
  unsigned max = 1 + draw(SLOTS), min = draw(max + 1);
  CHECK(!mp_policy_resize(s->policy, s->now, min, max, &err));
  s->opt.max = max > s->opt.max ? max : s->opt.max; /* the widest it ever was */
}

static void drain(struct sim *s) {
  uint64_t at = s->now + draw(2000);
  if (!s->draining || at < s->drain_at) s->drain_at = at;
  s->draining = true;
  mp_policy_drain(s->policy, s->now, at);
}

static void event(struct sim *s) {
  unsigned what = draw(100);
  if (what < 25)
    acquire(s);
  else if (what < 30)
    abandon(s);
  else if (what < 75)
    happen(s);
  else if (what < 95)
    advance(s, draw(draw(20) ? 50 : 12000));
  else if (what < 97)
    s->down = draw(3) == 0;
  else if (what < 98)
    resize(s);
  else if (what < 99)
    mp_policy_tick(s->policy, s->now);
  else if (!draw(6))
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
    if (draw(3))
      happen(s);
    else
      s->now += draw(50);
    pump(s);
    advance(s, 0);
    deliver(s);
    check(s, true);
    if (failures) return;
  }
  bool came_to_rest = false;
  CHECK(came_to_rest);
}

static void simulate(void) {
  struct sim s = {.now = 1000};
  struct mp_err err;
  s.opt.max = 1 + draw(SLOTS);
  s.opt.min = draw(s.opt.max + 1);
  s.opt.queue_limit = draw(4) ? 20 : draw(4);
  s.opt.idle_timeout_ms = draw(3) ? 200 + draw(20000) : 0;
  s.opt.max_lifetime_ms = draw(3) ? 200 + draw(20000) : 0;
  s.opt.health_interval_ms = draw(3) ? 50 + draw(2000) : 0;
  s.opt.leak_ms = draw(3) ? 50 + draw(2000) : 0;
  s.down = !draw(5);
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
    bool now = draw(3) != 0;
    if (now) deliver(&s);
    check(&s, now);
  }
  if (!failures) recover(&s);
  mp_policy_unref(s.policy);
}

int main(void) {
  run_seeds(simulate, 2000);
  return failures ? 1 : 0;
}
