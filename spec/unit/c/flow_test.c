/* flow_test.c: lanes with a width, a rate, a limit, priorities, several for one call: never more
 * calls than the terms allow, never none where one could run, and no deadlock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "rules/lane.h"

enum { CALLS = 40, KEYS = 4, SEATS = 3 };

#define MS UINT64_C(1000000)

static struct mp_lanes *lanes;
static struct mp_lane_seat seats[SEATS];
static unsigned woken;

static void wake(struct mp_lane_seat *seat) { woken |= 1U << (seat - seats); }

static void begin(size_t limit) {
  struct mp_err err;
  if (mp_lanes_new(&lanes, limit, &err)) exit(1);
  for (int i = 0; i < SEATS; i++) mp_lane_seat_init(&seats[i], lanes, wake);
  woken = 0;
}

static void end(void) {
  CHECK(!mp_lanes_waiting(lanes) && !mp_lanes_active(lanes));
  mp_lanes_unref(lanes);
}

static const char *names[KEYS] = {"a", "b", "c", "d"};

static struct mp_lane_want want(int key, unsigned width) {
  return (struct mp_lane_want){.key = names[key], .len = 1, .terms = {.width = width, .burst = 1}};
}

static int enter(const struct mp_lane_want *wants, unsigned n, int priority, uint64_t now,
                 struct mp_lane_pass *pass) {
  struct mp_err err;
  return mp_lane_enter(&seats[0], wants, n, priority, now, pass, &err);
}

static void width(void) {
  struct mp_lane_pass p[5];
  struct mp_lane_want w = want(0, 2);
  begin(10);
  for (int i = 0; i < 5; i++) CHECK(!enter(&w, 1, 0, 0, &p[i]) && p[i].granted == (i < 2));
  mp_lane_leave(&p[1], 0);
  CHECK(mp_lane_next(&seats[0]) == &p[2] && !mp_lane_next(&seats[0]));
  w.terms.width = 4; /* wider from the next call on: two more begin, in their order */
  CHECK(!enter(&w, 1, 0, 0, &p[1]) && !p[1].granted);
  CHECK(mp_lane_next(&seats[0]) == &p[3] && mp_lane_next(&seats[0]) == &p[4]);
  for (int i = 0; i < 5; i++) mp_lane_leave(&p[i], 0);
  end();
}

static void priority(void) {
  struct mp_lane_pass p[4];
  const struct mp_lane_want w = want(0, 1);
  static const int priorities[] = {0, 5, -5, 0};
  begin(10);
  for (int i = 0; i < 4; i++) CHECK(!enter(&w, 1, priorities[i], 0, &p[i]));
  static const int order[] = {2, 3, 1};
  mp_lane_leave(&p[0], 0);
  for (int i = 0; i < 3; i++) {
    CHECK(mp_lane_next(&seats[0]) == &p[order[i]]);
    mp_lane_leave(&p[order[i]], 0);
  }
  end();
}

static void rate(void) {
  struct mp_lane_pass p[6];
  struct mp_lane_want w = want(0, 100);
  w.terms.interval_ns = 10 * MS;
  w.terms.burst = 2;
  begin(10);
  for (int i = 0; i < 5; i++) CHECK(!enter(&w, 1, 0, 100 * MS, &p[i]) && p[i].granted == (i < 2));
  CHECK(mp_lanes_tick(&seats[0], 105 * MS) == 110 * MS && !mp_lane_next(&seats[0]));
  CHECK(mp_lanes_tick(&seats[0], 110 * MS) == 120 * MS && mp_lane_next(&seats[0]) == &p[2]);
  CHECK(!mp_lane_next(&seats[0]));
  mp_lane_leave(&p[3], 111 * MS); /* it has not begun: its turn is not used up */
  for (int i = 0; i < 3; i++) mp_lane_leave(&p[i], 112 * MS);
  CHECK(!enter(&w, 1, 0, 112 * MS, &p[5]) && !p[5].granted); /* the lane remembers */
  mp_lanes_tick(&seats[0], 120 * MS);
  CHECK(mp_lane_next(&seats[0]) == &p[4] && !mp_lane_next(&seats[0]));
  mp_lanes_tick(&seats[0], 130 * MS);
  CHECK(mp_lane_next(&seats[0]) == &p[5]);
  mp_lane_leave(&p[4], 130 * MS);
  mp_lane_leave(&p[5], 130 * MS);
  CHECK(mp_lanes_tick(&seats[0], 1000 * MS) == UINT64_MAX);
  end();
}

static void limit(void) {
  struct mp_lane_pass p[4];
  struct mp_lane_want w = want(0, 1);
  struct mp_err err;
  w.terms.limit = 2;
  begin(10);
  for (int i = 0; i < 3; i++) CHECK(!enter(&w, 1, 0, 0, &p[i]));
  CHECK(mp_lane_enter(&seats[0], &w, 1, 0, 0, &p[3], &err) == -MP_EBUSY && !mp_lane_in(&p[3]));
  CHECK(strstr(err.msg, "number 3") && strstr(err.msg, "lane a"));
  struct mp_lane_report told;
  CHECK(mp_lane_report(&p[2], 0, &told) && told.place == 2 && told.waiting == 2);
  CHECK(told.first_of_seat == &p[0] && !mp_lane_report(&p[0], 0, &told));
  for (int i = 0; i < 3; i++) {
    mp_lane_leave(&p[i], 0);
    mp_lane_next(&seats[0]);
  }
  end();
}

/* Each keeps its first place and waits for the other's: the older call takes it over. */
static void crossed(void) {
  struct mp_lane_pass x, y, on_a, on_b;
  const struct mp_lane_want a = want(0, 1), b = want(1, 1);
  const struct mp_lane_want ab[] = {a, b}, ba[] = {b, a};
  begin(10);
  CHECK(!enter(&b, 1, 0, 0, &on_b) && !enter(&a, 1, 0, 0, &on_a));
  CHECK(!enter(ab, 2, 0, 0, &x) && !enter(ba, 2, 0, 0, &y));
  mp_lane_leave(&on_a, 0); /* x reserves a */
  CHECK(!mp_lane_next(&seats[0]));
  mp_lane_leave(&on_b, 0);
  CHECK(mp_lane_next(&seats[0]) == &x && !mp_lane_next(&seats[0]));
  mp_lane_leave(&x, 0);
  CHECK(mp_lane_next(&seats[0]) == &y);
  mp_lane_leave(&y, 0);
  CHECK(!enter((const struct mp_lane_want[]){a, a}, 2, 0, 0, &x) && x.granted); /* counts once */
  mp_lane_leave(&x, 0);
  end();
}

static void workers(void) {
  struct mp_lane_pass p[3];
  const struct mp_lane_want w = want(0, 1);
  struct mp_err err;
  begin(10);
  for (int i = 0; i < 3; i++) CHECK(!mp_lane_enter(&seats[i % 2], &w, 1, 0, 0, &p[i], &err));
  CHECK(!mp_lane_behind(&p[0], 0)); /* the next is another worker's */
  mp_lane_leave(&p[0], 0);
  CHECK(!mp_lane_next(&seats[0]) && woken == 2 && !p[1].granted);
  mp_lane_leave(&p[1], 0); /* it leaves before it hears of its turn */
  CHECK(!mp_lane_next(&seats[1]) && woken == 3 && mp_lane_next(&seats[0]) == &p[2]);
  mp_lane_leave(&p[2], 0);
  end();
}

/* ---- at random ---- */

struct one {
  struct mp_lane_pass pass;
  unsigned keys; /* a bit for each */
  bool in;
};

static struct one ones[CALLS];
static unsigned widths[KEYS];
static uint64_t interval, started, first_start, now_ns;

static void started_one(struct one *one) {
  (void)one;
  if (!started++) first_start = now_ns;
  if (interval) CHECK(started <= 2 + (now_ns - first_start) / interval);
}

static void check(void) {
  unsigned running[KEYS] = {0};
  for (int i = 0; i < CALLS; i++)
    for (int k = 0; k < KEYS; k++)
      if (ones[i].in && ones[i].pass.granted && ones[i].keys & 1U << k) running[k]++;
  for (int k = 0; k < KEYS; k++) CHECK(running[k] <= widths[k]);
}

static void take_out(void) {
  struct mp_lane_pass *pass;
  for (int s = 0; s < SEATS; s++) {
    mp_lane_woken(&seats[s]);
    while ((pass = mp_lane_next(&seats[s]))) {
      CHECK(pass->seat == &seats[s]);
      started_one(MP_CONTAINER_OF(pass, struct one, pass));
    }
  }
  check();
}

static void come(struct one *one) {
  struct mp_lane_want wants[KEYS];
  struct mp_err err;
  unsigned count = 0, want_count = 1 + draw(3);
  one->keys = 0;
  while (count < want_count) {
    int key = interval && !count ? 0 : (int)draw(KEYS);
    wants[count] = want(key, widths[key]);
    if (key == 0 && interval) {
      wants[count].terms.interval_ns = interval;
      wants[count].terms.burst = 2;
    }
    one->keys |= 1U << key;
    count++;
  }
  CHECK(!mp_lane_enter(&seats[draw(SEATS)], wants, count, (int)draw(3), now_ns, &one->pass, &err));
  one->in = true;
  if (one->pass.granted) started_one(one);
}

static void go(struct one *one) {
  mp_lane_leave(&one->pass, now_ns);
  one->in = false;
}

/* Whoever runs leaves: in the end all have run. */
static void finish(void) {
  for (bool more = true; more && !failures; now_ns += MS) {
    more = false;
    mp_lanes_tick(&seats[0], now_ns);
    take_out();
    bool ran = false;
    for (int i = 0; i < CALLS; i++) {
      more = more || ones[i].in;
      ran = ran || (ones[i].in && ones[i].pass.granted);
    }
    CHECK(!more || ran || interval);
    for (int i = 0; i < CALLS; i++)
      if (ones[i].in && ones[i].pass.granted) go(&ones[i]);
    take_out();
  }
}

static void model(void) {
  begin(CALLS);
  memset(ones, 0, sizeof ones);
  for (int k = 0; k < KEYS; k++) widths[k] = 1 + draw(3);
  interval = draw(2) ? 0 : (1 + draw(5)) * MS;
  started = 0;
  now_ns = 1000 * MS;
  for (; step_now < 300 && !failures; step_now++) {
    struct one *one = &ones[draw(CALLS)];
    now_ns += draw(2) * MS / 2;
    if (one->in)
      go(one);
    else
      come(one);
    if (draw(2)) mp_lanes_tick(&seats[draw(SEATS)], now_ns);
    take_out();
  }
  finish();
  now_ns += 10000 * MS;
  mp_lanes_tick(&seats[0], now_ns);
  if (!failures) end();
}

int main(void) {
  width();
  priority();
  rate();
  limit();
  crossed();
  workers();
  run_seeds(model, 1000);
  return failures ? 1 : 0;
}
