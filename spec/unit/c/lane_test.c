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

static int enter(struct mp_lanes *lanes, const char *key, struct mp_lane_pass *pass) {
  struct mp_err err;
  return mp_lane_enter(lanes, key, strlen(key), pass, &err);
}

static void in_order(void) {
  struct mp_lanes *lanes = lanes_of(10);
  struct mp_lane_pass a, b, c, other;
  CHECK(!enter(lanes, "deal:1", &a) && a.granted);
  CHECK(!enter(lanes, "deal:1", &b) && !b.granted);
  CHECK(!enter(lanes, "deal:1", &c) && !c.granted);
  CHECK(!enter(lanes, "deal:2", &other) && other.granted);
  CHECK(mp_lanes_active(lanes) == 2 && mp_lanes_waiting(lanes) == 2);
  CHECK(mp_lane_leave(lanes, &a) == &b && b.granted && !c.granted);
  CHECK(!a.lane && !mp_lane_leave(lanes, &a)); /* twice is harmless */
  CHECK(b.granted && mp_lanes_waiting(lanes) == 1);
  CHECK(mp_lane_leave(lanes, &b) == &c && c.granted);
  CHECK(!mp_lane_leave(lanes, &c));
  CHECK(!mp_lane_leave(lanes, &other));
  CHECK(!mp_lanes_active(lanes) && !mp_lanes_waiting(lanes));
  mp_lanes_unref(lanes);
}

static void leave_while_waiting(void) {
  struct mp_lanes *lanes = lanes_of(10);
  struct mp_lane_pass a = {0}, b = {0}, c = {0};
  CHECK(!enter(lanes, "k", &a) && !enter(lanes, "k", &b) && !enter(lanes, "k", &c));
  CHECK(!mp_lane_leave(lanes, &b) && !b.lane); /* nobody's turn comes by that */
  CHECK(a.granted && !c.granted && mp_lanes_waiting(lanes) == 1);
  CHECK(mp_lane_leave(lanes, &a) == &c);
  CHECK(!mp_lane_leave(lanes, &c) && !mp_lanes_active(lanes));
  mp_lanes_unref(lanes);
}

static void limit(void) {
  struct mp_lanes *lanes = lanes_of(1);
  struct mp_lane_pass a, b, c = {.granted = false}, d;
  struct mp_err err = {.code = MP_OK};
  CHECK(!enter(lanes, "k", &a) && !enter(lanes, "k", &b));
  CHECK(mp_lane_enter(lanes, "k", 1, &c, &err) == -MP_EBUSY && err.code == MP_EBUSY);
  CHECK(!c.lane && mp_lanes_waiting(lanes) == 1);
  CHECK(!mp_lane_leave(lanes, &c));
  CHECK(!enter(lanes, "free", &d) && d.granted); /* who need not wait is not bound by the limit */
  CHECK(mp_lane_leave(lanes, &a) == &b);
  CHECK(!enter(lanes, "k", &c) && !c.granted); /* and there is room again */
  CHECK(mp_lane_leave(lanes, &b) == &c);
  mp_lane_leave(lanes, &c);
  mp_lane_leave(lanes, &d);
  CHECK(!mp_lanes_active(lanes));
  mp_lanes_unref(lanes);
}

static void keys(void) {
  enum { N = 5000 };
  struct mp_lanes *lanes = lanes_of(N);
  struct mp_lane_pass *passes = calloc(N + 2, sizeof *passes);
  struct mp_err err;
  if (!passes) exit(1);
  /* Bytes count, not text: these two differ behind a zero byte, and one is empty. */
  CHECK(!mp_lane_enter(lanes, "a\0b", 3, &passes[N], &err) && passes[N].granted);
  CHECK(!mp_lane_enter(lanes, "a\0c", 3, &passes[N + 1], &err) && passes[N + 1].granted);
  mp_lane_leave(lanes, &passes[N]);
  CHECK(!mp_lane_enter(lanes, "", 0, &passes[N], &err) && passes[N].granted);
  for (int i = 0; i < N; i++) {
    char key[24];
    snprintf(key, sizeof key, "%d", i);
    CHECK(!enter(lanes, key, &passes[i]) && passes[i].granted);
  }
  CHECK(mp_lanes_active(lanes) == N + 2);
  for (int i = 0; i < N + 2; i++) CHECK(!mp_lane_leave(lanes, &passes[(i * 7) % (N + 2)]));
  CHECK(!mp_lanes_active(lanes));
  mp_lanes_unref(lanes);
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
      struct mp_lane_pass *next = mp_lane_leave(lanes, &passes[i]);
      CHECK(next == (!at && len[k] ? &passes[queue[k][0]] : NULL));
      key_of[i] = -1;
      if (at || len[k]) waiting--;
      if (!len[k]) active--;
    }
    CHECK(mp_lanes_waiting(lanes) == waiting && mp_lanes_active(lanes) == active);
    for (int k = 0; k < KEYS; k++)
      for (int at = 0; at < len[k]; at++) CHECK(passes[queue[k][at]].granted == !at);
  }
  for (int i = 0; i < PASSES; i++) mp_lane_leave(lanes, &passes[i]);
  if (!failures) CHECK(!mp_lanes_active(lanes) && !mp_lanes_waiting(lanes));
  mp_lanes_unref(lanes);
}

int main(void) {
  in_order();
  leave_while_waiting();
  limit();
  keys();
  run_seeds(model, 500);
  return failures ? 1 : 0;
}
