#include "ops/crew.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "util/hash.h"

enum { WEIGH_MS = 20, WEIGHT_MAX = 64 };

struct crew_member {
  struct mp_loop *loop;
  uint64_t idle_ns; /* of its loop, when it was last weighed */
  struct mp_mail *mail;
  struct mp_generations *set;
  atomic_size_t calls; /* that it has been given and has not answered */
};

struct mp_crew {
  unsigned count, last; /* last: chosen last */
  size_t weight;        /* what HTTP costs the front, in calls */
  uint64_t weighed_ms;
  struct crew_member workers[];
};

int mp_crew_new(struct mp_crew **out, struct mp_loop *front, unsigned workers, struct mp_err *err) {
  struct mp_crew *crew = calloc(1, sizeof *crew + workers * sizeof *crew->workers);
  if (!crew) return mp_err_set(err, MP_ENOMEM, "no memory for workers");
  crew->count = workers;
  crew->workers[0].loop = front;
  int rv = mp_mail_open(&crew->workers[0].mail, front, err);
  if (rv)
    free(crew);
  else
    *out = crew;
  return rv;
}

void mp_crew_free(struct mp_crew *crew) {
  if (!crew) return;
  mp_mail_close(crew->workers[0].mail);
  free(crew);
}

unsigned mp_crew_workers(const struct mp_crew *crew) { return crew->count; }

unsigned mp_crew_owner(const struct mp_crew *crew, const char *lane, size_t len) {
  uint64_t hash = mp_hash(MP_HASH_START, lane, len);
  /* The last bytes of a text have changed the low half of its hash only. */
  hash = (hash ^ hash >> 32) * UINT64_C(0x9E3779B97F4A7C15);
  return (unsigned)((hash >> 32) % crew->count);
}

/* Only a number: nothing else is read because of it. */
static size_t calls_of(struct mp_crew *crew, unsigned worker) {
  size_t calls = atomic_load_explicit(&crew->workers[worker].calls, memory_order_relaxed);
  return worker ? calls : calls + crew->weight;
}

static uint64_t waited_ns(struct crew_member *member) {
  uint64_t before = member->idle_ns;
  member->idle_ns = mp_loop_idle_ns(member->loop);
  return member->idle_ns - before;
}

/* While the front has no time to wait and others have, it takes fewer calls. */
static void weigh_front(struct mp_crew *crew) {
  uint64_t now_ms = mp_loop_now_ms(crew->workers[0].loop), passed_ms = now_ms - crew->weighed_ms;
  if (passed_ms < WEIGH_MS) return;
  crew->weighed_ms = now_ms;
  uint64_t own_ns = waited_ns(&crew->workers[0]), others_ns = 0;
  for (unsigned i = 1; i < crew->count; i++) others_ns += waited_ns(&crew->workers[i]);
  if (own_ns < others_ns / (crew->count - 1) && own_ns < passed_ms * 1000000 / 4) {
    if (crew->weight < WEIGHT_MAX) crew->weight++;
  } else if (crew->weight) {
    crew->weight--;
  }
}

/* Equal ones take turns. */
unsigned mp_crew_choose(struct mp_crew *crew) {
  weigh_front(crew);
  unsigned best = (crew->last + 1) % crew->count;
  size_t least = calls_of(crew, best);
  for (unsigned i = 2; i <= crew->count; i++) {
    unsigned worker = (crew->last + i) % crew->count;
    size_t calls = calls_of(crew, worker);
    if (calls >= least) continue;
    best = worker;
    least = calls;
  }
  crew->last = best;
  return best;
}

void mp_crew_take(struct mp_crew *crew, unsigned worker) {
  atomic_fetch_add_explicit(&crew->workers[worker].calls, 1, memory_order_relaxed);
}

void mp_crew_done(struct mp_crew *crew, unsigned worker) {
  atomic_fetch_sub_explicit(&crew->workers[worker].calls, 1, memory_order_relaxed);
}

int mp_crew_join(struct mp_crew *crew, unsigned worker, struct mp_loop *loop,
                 struct mp_generations *set, struct mp_err *err) {
  crew->workers[worker].set = set;
  crew->workers[worker].loop = loop;
  return mp_mail_open(&crew->workers[worker].mail, loop, err);
}

void mp_crew_leave(struct mp_crew *crew, unsigned worker) {
  mp_mail_close(crew->workers[worker].mail);
  crew->workers[worker].mail = NULL;
}

struct mp_generations *mp_crew_generations(struct mp_crew *crew, unsigned worker) {
  return crew->workers[worker].set;
}

void mp_crew_hold(struct mp_crew *crew, unsigned worker, bool hold) {
  mp_mail_hold(crew->workers[worker].mail, hold);
}

void mp_crew_send(struct mp_crew *crew, unsigned worker, struct mp_letter *letter) {
  mp_mail_send(crew->workers[worker].mail, letter);
}
