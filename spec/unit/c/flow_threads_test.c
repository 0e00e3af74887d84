/* flow_threads_test.c: the workers of a host share its lanes: threads enter and leave at random.
 * Never more calls than a lane is wide, no call is lost, and a data race is found by `make tsan`.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "check.h"
#include "rules/lane.h"

enum { WORKERS = 3, CALLS = 12, KEYS = 3, TURNS = 20000 };

static const unsigned widths[KEYS] = {1, 2, 3};

struct one {
  struct mp_lane_pass pass;
  unsigned keys; /* a bit for each */
  bool in;
};

struct worker {
  struct mp_lane_seat seat;
  pthread_t thread;
  atomic_bool woken;
  unsigned long long random;
  struct one ones[CALLS];
};

static struct worker workers[WORKERS];
static atomic_uint inside[KEYS], too_many, refused;

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static unsigned pick(struct worker *worker, unsigned n) {
  worker->random = worker->random * 6364136223846793005U + 1442695040888963407U;
  return (unsigned)(worker->random >> 33) % n;
}

static void wake(struct mp_lane_seat *seat) {
  atomic_store(&MP_CONTAINER_OF(seat, struct worker, seat)->woken, true);
}

static void began(const struct one *one) {
  for (unsigned k = 0; k < KEYS; k++)
    if (one->keys & 1U << k && atomic_fetch_add(&inside[k], 1) >= widths[k])
      atomic_fetch_add(&too_many, 1);
}

static void go(struct one *one) {
  for (unsigned k = 0; k < KEYS; k++)
    if (one->pass.granted && one->keys & 1U << k) atomic_fetch_sub(&inside[k], 1);
  mp_lane_leave(&one->pass, now_ns());
  one->in = false;
}

static void come(struct worker *worker, struct one *one) {
  struct mp_lane_want wants[KEYS];
  struct mp_err err;
  unsigned count = 1 + pick(worker, KEYS);
  one->keys = 0;
  for (unsigned i = 0; i < count; i++) {
    unsigned k = pick(worker, KEYS);
    one->keys |= 1U << k;
    wants[i] = (struct mp_lane_want){
        .key = &"abc"[k], .len = 1, .terms = {.width = widths[k], .burst = 1}};
    if (k == 2) wants[i].terms.interval_ns = 1000;
  }
  one->in = !mp_lane_enter(&worker->seat, wants, count, 0, now_ns(), &one->pass, &err);
  if (!one->in)
    atomic_fetch_add(&refused, 1);
  else if (one->pass.granted)
    began(one);
}

static void serve(struct worker *worker) {
  struct mp_lane_pass *pass;
  if (atomic_exchange(&worker->woken, false)) mp_lane_woken(&worker->seat);
  mp_lanes_tick(&worker->seat, now_ns());
  while ((pass = mp_lane_next(&worker->seat))) began(MP_CONTAINER_OF(pass, struct one, pass));
}

static void *run(void *data) {
  struct worker *worker = data;
  for (unsigned done = 0; done < TURNS;) {
    struct one *one = &worker->ones[pick(worker, CALLS)];
    serve(worker);
    if (!one->in) {
      come(worker, one);
    } else if (one->pass.granted || !pick(worker, 50)) {
      go(one);
      done++;
    }
  }
  for (unsigned i = 0; i < CALLS; i++)
    if (worker->ones[i].in) go(&worker->ones[i]);
  return NULL;
}

int main(void) {
  struct mp_lanes *lanes;
  struct mp_err err;
  if (mp_lanes_new(&lanes, (size_t)WORKERS * CALLS, &err)) return 1;
  for (unsigned i = 0; i < WORKERS; i++) {
    workers[i].random = i + 1;
    mp_lane_seat_init(&workers[i].seat, lanes, wake);
    if (pthread_create(&workers[i].thread, NULL, run, &workers[i])) return 1;
  }
  for (unsigned i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  mp_lanes_tick(&workers[0].seat, UINT64_MAX - 1);
  CHECK(!too_many && !refused);
  CHECK(!mp_lanes_waiting(lanes) && !mp_lanes_active(lanes));
  mp_lanes_unref(lanes);
  return failures ? 1 : 0;
}
