/* lane_test.c: calls in one lane run one at a time and in order, whatever comes between. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "rules/lane.h"

static struct mp_lanes *lanes_of(size_t limit) {
  struct mp_lanes *lanes = NULL;
  struct mp_err err;
  if (mp_lanes_new(&lanes, limit, &err)) {
    printf("cannot make lanes: %s\n", err.msg);
    exit(1);
  }
  return lanes;
}

static struct mp_lane_seat seat;

static void end(struct mp_lanes *lanes) {
  mp_lanes_unref(lanes);
  seat.lanes = NULL;
}

static int enter_bytes(struct mp_lanes *lanes, const char *key, size_t len,
                       struct mp_lane_pass *pass) {
  const struct mp_lane_want want = {.key = key, .len = len, .terms = {.width = 1, .burst = 1}};
  struct mp_err err;
  if (seat.lanes != lanes) mp_lane_seat_init(&seat, lanes, NULL);
  return mp_lane_enter(&seat, &want, 1, 0, 0, pass, &err);
}

static int enter(struct mp_lanes *lanes, const char *key, struct mp_lane_pass *pass) {
  return enter_bytes(lanes, key, strlen(key), pass);
}

/* Leaves; the call that is admitted by that, or NULL. */
static struct mp_lane_pass *leave(struct mp_lanes *lanes, struct mp_lane_pass *pass) {
  (void)lanes;
  mp_lane_leave(pass, 0);
  struct mp_lane_pass *next = mp_lane_next(&seat);
  CHECK(!next || !mp_lane_next(&seat));
  return next;
}

static void in_order(void) {
  struct mp_lanes *lanes = lanes_of(10);
  struct mp_lane_pass a, b, c, other;
  CHECK(!enter(lanes, "deal:1", &a) && a.granted);
  CHECK(!enter(lanes, "deal:1", &b) && !b.granted);
  CHECK(!enter(lanes, "deal:1", &c) && !c.granted);
  CHECK(!enter(lanes, "deal:2", &other) && other.granted);
  CHECK(mp_lanes_active(lanes) == 2 && mp_lanes_waiting(lanes) == 2);
  CHECK(leave(lanes, &a) == &b && b.granted && !c.granted);
  CHECK(!mp_lane_in(&a) && !leave(lanes, &a)); /* twice is harmless */
  CHECK(b.granted && mp_lanes_waiting(lanes) == 1);
  CHECK(leave(lanes, &b) == &c && c.granted);
  CHECK(!leave(lanes, &c));
  CHECK(!leave(lanes, &other));
  CHECK(!mp_lanes_active(lanes) && !mp_lanes_waiting(lanes));
  end(lanes);
}

static void leave_while_waiting(void) {
  struct mp_lanes *lanes = lanes_of(10);
  struct mp_lane_pass a = {0}, b = {0}, c = {0};
  CHECK(!enter(lanes, "k", &a) && !enter(lanes, "k", &b) && !enter(lanes, "k", &c));
  CHECK(!leave(lanes, &b) && !mp_lane_in(&b)); /* nobody's turn comes by that */
  CHECK(a.granted && !c.granted && mp_lanes_waiting(lanes) == 1);
  CHECK(leave(lanes, &a) == &c);
  CHECK(!leave(lanes, &c) && !mp_lanes_active(lanes));
  end(lanes);
}

static void limit(void) {
  struct mp_lanes *lanes = lanes_of(1);
  struct mp_lane_pass a, b, c = {.count = 0}, d;
  CHECK(!enter(lanes, "k", &a) && !enter(lanes, "k", &b));
  CHECK(enter(lanes, "k", &c) == -MP_EBUSY);
  CHECK(!mp_lane_in(&c) && mp_lanes_waiting(lanes) == 1);
  CHECK(!leave(lanes, &c));
  CHECK(!enter(lanes, "free", &d) && d.granted); /* who need not wait is not bound by the limit */
  CHECK(leave(lanes, &a) == &b);
  CHECK(!enter(lanes, "k", &c) && !c.granted); /* and there is room again */
  CHECK(leave(lanes, &b) == &c);
  leave(lanes, &c);
  leave(lanes, &d);
  CHECK(!mp_lanes_active(lanes));
  end(lanes);
}

static void keys(void) {
  enum { N = 5000 };
  struct mp_lanes *lanes = lanes_of(N);
  struct mp_lane_pass *passes = calloc(N + 2, sizeof *passes);
  if (!passes) exit(1);
  /* Bytes count, not text: these two differ behind a zero byte, and one is empty. */
  CHECK(!enter_bytes(lanes, "a\0b", 3, &passes[N]) && passes[N].granted);
  CHECK(!enter_bytes(lanes, "a\0c", 3, &passes[N + 1]) && passes[N + 1].granted);
  leave(lanes, &passes[N]);
  CHECK(!enter_bytes(lanes, "", 0, &passes[N]) && passes[N].granted);
  for (int i = 0; i < N; i++) {
    char key[24];
    snprintf(key, sizeof key, "%d", i);
    CHECK(!enter(lanes, key, &passes[i]) && passes[i].granted);
  }
  CHECK(mp_lanes_active(lanes) == N + 2);
  for (int i = 0; i < N + 2; i++) CHECK(!leave(lanes, &passes[(i * 7) % (N + 2)]));
  CHECK(!mp_lanes_active(lanes));
  end(lanes);
  free(passes);
}

/* Against a model: the lane's order is the order of entry, and its first one holds it. */
static void model(void) {
  enum { PASSES = 40, KEYS = 5 };
  size_t most = draw(20);
  struct mp_lanes *lanes = lanes_of(most);
  struct mp_lane_pass passes[PASSES];
  memset(passes, 0, sizeof passes);
  int queue[KEYS][PASSES], len[KEYS] = {0}, key_of[PASSES];
  for (int i = 0; i < PASSES; i++) key_of[i] = -1;
  for (; step_now < 400 && !failures; step_now++) {
    unsigned i = draw(PASSES);
    size_t waiting = 0, active = 0;
    for (int k = 0; k < KEYS; k++) {
      waiting += len[k] ? (size_t)len[k] - 1 : 0;
      active += len[k] != 0;
    }
    if (key_of[i] < 0) {
      unsigned k = draw(KEYS);
      char key[8];
      snprintf(key, sizeof key, "k%u", k);
      int rv = enter(lanes, key, &passes[i]);
      bool full = len[k] && waiting >= most;
      CHECK(rv == (full ? -MP_EBUSY : 0));
      if (rv) continue;
      CHECK(passes[i].granted == !len[k]);
      key_of[i] = (int)k;
      queue[k][len[k]++] = (int)i;
      waiting += len[k] > 1;
      active += len[k] == 1;
    } else {
      int k = key_of[i], at = 0;
      while (queue[k][at] != (int)i) at++;
      memmove(&queue[k][at], &queue[k][at + 1], sizeof queue[k][0] * (size_t)(len[k] - at - 1));
      len[k]--;
      struct mp_lane_pass *next = leave(lanes, &passes[i]);
      CHECK(next == (!at && len[k] ? &passes[queue[k][0]] : NULL));
      key_of[i] = -1;
      if (at || len[k]) waiting--;
      if (!len[k]) active--;
    }
    CHECK(mp_lanes_waiting(lanes) == waiting && mp_lanes_active(lanes) == active);
    for (int k = 0; k < KEYS; k++)
      for (int at = 0; at < len[k]; at++) CHECK(passes[queue[k][at]].granted == !at);
  }
  for (int i = 0; i < PASSES; i++) leave(lanes, &passes[i]);
  if (!failures) CHECK(!mp_lanes_active(lanes) && !mp_lanes_waiting(lanes));
  end(lanes);
}

int main(void) {
  in_order();
  leave_while_waiting();
  limit();
  keys();
  run_seeds(model, 500);
  return failures ? 1 : 0;
}
