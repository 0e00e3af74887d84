#include "rules/brake.h"

#include <stdlib.h>

/* uthash must not end the process when memory is short */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "util/attr.h"

#define MEMORY 0.9    /* of the moving average of conflicts: about the last ten transactions */
#define TOO_MANY 0.25 /* of them */
#define INCREASE 0.1  /* of the limit, for each transaction without a conflict */
#define LIMIT_MOST 64 /* beyond it the brake goes away */
#define BRAKES_MOST 10000

struct mp_brake {
  UT_hash_handle hh;
  uint64_t key;
  struct mp_list waiting; /* struct mp_brake_pass */
  size_t running;
  double limit;   /* 0: none yet */
  double average; /* share of the last transactions that met a conflict */
  double settled; /* transactions that ended since the limit was halved */
};

static struct mp_brake *find(const struct mp_brakes *brakes, uint64_t key) {
  struct mp_brake *brake = NULL;
  if (brakes->by_key) HASH_FIND(hh, brakes->by_key, &key, sizeof key, brake);
  return brake;
}

static struct mp_brake *make(struct mp_brakes *brakes, uint64_t key) {
  if (HASH_COUNT(brakes->by_key) >= BRAKES_MOST) return NULL;
  struct mp_brake *brake = calloc(1, sizeof *brake);
  if (!brake) return NULL;
  brake->key = key;
  mp_list_init(&brake->waiting);
  HASH_ADD(hh, brakes->by_key, key, sizeof brake->key, brake);
  if (brake->hh.tbl) return brake;
  free(brake); /* no memory for the table */
  return NULL;
}

static bool full(const struct mp_brake *brake) {
  return brake->limit > 0 && (double)brake->running + 1 > brake->limit;
}

int mp_brake_enter(struct mp_brakes *brakes, uint64_t key, struct mp_brake_pass *pass,
                   struct mp_err *err) {
  struct mp_brake *brake = find(brakes, key);
  *pass = (struct mp_brake_pass){.key = key, .brake = brake};
  mp_list_init(&pass->node);
  if (!brake) return 0;
  if (!full(brake) && mp_list_empty(&brake->waiting)) {
    brake->running++;
    return 0;
  }
  int rv = mp_lanes_wait(brakes->lanes, err);
  if (rv) {
    pass->key = 0;
    return rv;
  }
  pass->waiting = true;
  mp_list_push_back(&brake->waiting, &pass->node);
  return 0;
}

/* A transaction has ended. */
static void learn(struct mp_brake *brake, bool conflict) {
  brake->average = brake->average * MEMORY + (conflict ? 1 - MEMORY : 0);
  brake->settled++;
  if (!conflict) {
    if (brake->limit > 0) brake->limit += INCREASE;
    return;
  }
  double now = brake->limit > 0 ? brake->limit : (double)brake->running + 1;
  if (brake->average < TOO_MANY || brake->settled < now) return;
  brake->limit = now / 2 > 1 ? now / 2 : 1;
  brake->settled = 0;
}

static void free_if_done(struct mp_brakes *brakes, struct mp_brake *brake) {
  bool needed = brake->limit > 0 ? brake->limit <= LIMIT_MOST : brake->average > (1 - MEMORY) / 2;
  if (needed || brake->running || !mp_list_empty(&brake->waiting)) return;
  HASH_DEL(brakes->by_key, brake);
  free(brake);
}

static void stop_waiting(struct mp_brakes *brakes, struct mp_brake_pass *pass) {
  mp_list_remove(&pass->node);
  pass->waiting = false;
  mp_lanes_waited(brakes->lanes);
}

uint64_t mp_brake_leave(struct mp_brakes *brakes, struct mp_brake_pass *pass, bool ended,
                        unsigned conflicts) {
  uint64_t key = pass->key;
  struct mp_brake *brake = pass->brake;
  if (!key) return 0;
  if (brake && pass->waiting)
    stop_waiting(brakes, pass);
  else if (brake)
    brake->running--;
  *pass = (struct mp_brake_pass){.key = 0};
  if (!brake) brake = find(brakes, key);
  if (!brake && ended && conflicts) brake = make(brakes, key);
  if (brake && ended) learn(brake, conflicts > 0);
  if (brake) free_if_done(brakes, brake);
  return key;
}

struct mp_brake_pass *mp_brake_next(struct mp_brakes *brakes, uint64_t key) {
  struct mp_brake *brake = find(brakes, key);
  if (!brake || mp_list_empty(&brake->waiting) || full(brake)) return NULL;
  struct mp_brake_pass *pass = MP_LIST_ENTRY(brake->waiting.next, struct mp_brake_pass, node);
  stop_waiting(brakes, pass);
  brake->running++;
  return pass;
}

void mp_brakes_fini(struct mp_brakes *brakes) {
  struct mp_brake *brake, *next;
  HASH_ITER(hh, brakes->by_key, brake, next) {
    HASH_DEL(brakes->by_key, brake);
    MP_FREE_LISTED(brake);
  }
}
