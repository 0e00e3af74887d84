#include "rules/lane.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "util/attr.h"
#include "util/hash.h"

struct mp_lane {
  UT_hash_handle hh;
  uint64_t order;        /* from the key: the same on every host */
  struct mp_list passes; /* the first holds the lane, the others wait in order */
  char key[];
};

struct mp_lanes {
  struct mp_lane *by_key;
  size_t limit, waiting;
};

int mp_lanes_new(struct mp_lanes **out, size_t limit, struct mp_err *err) {
  struct mp_lanes *lanes = calloc(1, sizeof *lanes);
  if (!lanes) return mp_err_set(err, MP_ENOMEM, "no memory for the lanes of operations");
  lanes->limit = limit;
  *out = lanes;
  return 0;
}

static void lane_free(struct mp_lanes *lanes, struct mp_lane *lane) {
  HASH_DEL(lanes->by_key, lane); /* NOLINT(clang-analyzer-core.NullDereference): uthash */
  MP_FREE_LISTED(lane);
}

void mp_lanes_unref(struct mp_lanes *lanes) {
  if (!lanes) return;
  struct mp_lane *lane, *next;
  HASH_ITER(hh, lanes->by_key, lane, next) { lane_free(lanes, lane); }
  free(lanes);
}

/* Keys come from callers. A caller whose keys collide on purpose only slows down its own waiting,
 * because the number of waiting calls is limited. */
static uint64_t order_of(const char *key, size_t len) {
  uint64_t hash = mp_hash(MP_HASH_START, key, len);
  return hash ^ hash >> 32;
}

static struct mp_lane *lane_find(const struct mp_lanes *lanes, uint64_t order, const char *key,
                                 size_t len) {
  struct mp_lane *lane;
  HASH_FIND_BYHASHVALUE(hh, lanes->by_key, key, len, (unsigned)order, lane);
  return lane;
}

static struct mp_lane *lane_new(struct mp_lanes *lanes, uint64_t order, const char *key,
                                size_t len) {
  struct mp_lane *lane = calloc(1, sizeof *lane + len);
  if (!lane) return NULL;
  lane->order = order;
  memcpy(lane->key, key, len);
  mp_list_init(&lane->passes);
  HASH_ADD_KEYPTR_BYHASHVALUE(hh, lanes->by_key, lane->key, len, (unsigned)order, lane);
  if (lane->hh.tbl) return lane;
  free(lane);
  return NULL;
}

int mp_lanes_wait(struct mp_lanes *lanes, struct mp_err *err) {
  if (lanes->waiting >= lanes->limit)
    return mp_err_set(
        err, MP_EBUSY,
        "%zu calls already wait in lanes, which is the limit (MOONPOOL_LANE_LIMIT); try again "
        "later",
        lanes->waiting);
  lanes->waiting++;
  return 0;
}

void mp_lanes_waited(struct mp_lanes *lanes) { lanes->waiting--; }

int mp_lane_enter(struct mp_lanes *lanes, const char *key, size_t len, struct mp_lane_pass *pass,
                  struct mp_err *err) {
  uint64_t order = order_of(key, len);
  struct mp_lane *lane = lane_find(lanes, order, key, len);
  bool granted = !lane;
  if (!granted) {
    int rv = mp_lanes_wait(lanes, err);
    if (rv) return rv;
  }
  if (!lane) lane = lane_new(lanes, order, key, len);
  if (!lane) return mp_err_set(err, MP_ENOMEM, "no memory for a lane");
  *pass = (struct mp_lane_pass){.lane = lane, .granted = granted};
  mp_list_push_back(&lane->passes, &pass->node);
  return 0;
}

struct mp_lane_pass *mp_lane_leave(struct mp_lanes *lanes, struct mp_lane_pass *pass) {
  struct mp_lane *lane = pass->lane;
  if (!lane) return NULL;
  bool held = pass->granted;
  pass->lane = NULL;
  pass->granted = false;
  mp_list_remove(&pass->node);
  if (!held) {
    lanes->waiting--;
    return NULL;
  }
  if (mp_list_empty(&lane->passes)) {
    lane_free(lanes, lane);
    return NULL;
  }
  struct mp_lane_pass *next = MP_LIST_ENTRY(lane->passes.next, struct mp_lane_pass, node);
  if (next->granted) return NULL;
  next->granted = true;
  lanes->waiting--;
  return next;
}

const struct mp_lane_pass *mp_lane_holder(const struct mp_lane_pass *pass) {
  return MP_LIST_ENTRY(pass->lane->passes.next, struct mp_lane_pass, node);
}

bool mp_lane_leads(const struct mp_lane_pass *pass) {
  return !pass->lane || pass->lane->passes.next == &pass->node;
}

struct mp_lane_pass *mp_lane_behind(const struct mp_lane_pass *pass) {
  if (!pass->lane || !pass->granted) return NULL;
  for (struct mp_list *node = pass->node.next; node != &pass->lane->passes; node = node->next) {
    struct mp_lane_pass *behind = MP_LIST_ENTRY(node, struct mp_lane_pass, node);
    if (!behind->granted) return behind;
  }
  return NULL;
}

void mp_lane_join(struct mp_lanes *lanes, struct mp_lane_pass *pass) {
  pass->granted = true;
  lanes->waiting--;
}

void mp_lane_wait_again(struct mp_lanes *lanes, struct mp_lane_pass *pass) {
  pass->granted = false;
  lanes->waiting++;
}

uint64_t mp_lane_order(const struct mp_lane_pass *pass) {
  return pass->lane ? pass->lane->order : 0;
}

size_t mp_lanes_waiting(const struct mp_lanes *lanes) { return lanes->waiting; }
size_t mp_lanes_active(const struct mp_lanes *lanes) { return HASH_COUNT(lanes->by_key); }
