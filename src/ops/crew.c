#include "ops/crew.h"

#include <stdlib.h>
#include <string.h>

#include "util/hash.h"

struct crew_member {
  struct mp_mail *mail;
  struct mp_generations *set;
  size_t calls; /* handed to it and not answered; the front counts */
};

struct mp_crew {
  unsigned count, last; /* last: chosen last */
  struct crew_member workers[];
};

int mp_crew_new(struct mp_crew **out, struct mp_loop *front, unsigned workers, struct mp_err *err) {
  struct mp_crew *crew = calloc(1, sizeof *crew + workers * sizeof *crew->workers);
  if (!crew) return mp_err_set(err, MP_ENOMEM, "no memory for workers");
  crew->count = workers;
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

/* Equal ones take turns. */
unsigned mp_crew_choose(struct mp_crew *crew) {
  unsigned best = (crew->last + 1) % crew->count;
  for (unsigned i = 2; i <= crew->count; i++) {
    unsigned worker = (crew->last + i) % crew->count;
    if (crew->workers[worker].calls < crew->workers[best].calls) best = worker;
  }
  crew->last = best;
  mp_crew_take(crew, best);
  return best;
}

void mp_crew_take(struct mp_crew *crew, unsigned worker) { crew->workers[worker].calls++; }

void mp_crew_done(struct mp_crew *crew, unsigned worker) { crew->workers[worker].calls--; }

int mp_crew_join(struct mp_crew *crew, unsigned worker, struct mp_loop *loop,
                 struct mp_generations *set, struct mp_err *err) {
  crew->workers[worker].set = set;
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
