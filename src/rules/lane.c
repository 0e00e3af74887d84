#include "rules/lane.h"

#include <stdlib.h>
#include <string.h>

struct mp_lane {
  struct mp_lane *next; /* of its bucket */
  uint64_t hash;
  struct mp_list passes; /* the first holds the lane, the others wait in order */
  size_t len;
  char key[];
};

struct mp_lanes {
  struct mp_lane **buckets;
  size_t size; /* a power of two */
  size_t limit, waiting, active;
};

/* Keys come from callers. A caller whose keys collide on purpose only slows down its own waiting,
 * because the number of waiting calls is limited. */
static uint64_t hash_key(const char *key, size_t len) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < len; i++) hash = (hash ^ (unsigned char)key[i]) * 1099511628211u;
  return hash ^ hash >> 32;
}

static struct mp_lane **bucket(const struct mp_lanes *lanes, uint64_t hash) {
  return &lanes->buckets[hash & (lanes->size - 1)];
}

int mp_lanes_new(struct mp_lanes **out, size_t limit, struct mp_err *err) {
  struct mp_lanes *lanes = calloc(1, sizeof *lanes);
  if (lanes) {
    lanes->size = 64;
    lanes->limit = limit;
    lanes->buckets = calloc(lanes->size, sizeof *lanes->buckets);
  }
  if (!lanes || !lanes->buckets) {
    free(lanes);
    return mp_err_set(err, MP_ENOMEM, "no memory for the lanes of operations");
  }
  *out = lanes;
  return 0;
}

void mp_lanes_unref(struct mp_lanes *lanes) {
  if (!lanes) return;
  for (size_t i = 0; i < lanes->size; i++) {
    for (struct mp_lane *lane = lanes->buckets[i]; lane;) {
      struct mp_lane *next = lane->next;
      free(lane);
      lane = next;
    }
  }
  free(lanes->buckets);
  free(lanes);
}

/* Failing to grow costs time only: the chains get longer. */
static void grow(struct mp_lanes *lanes) {
  struct mp_lanes wider = {.size = lanes->size * 2};
  wider.buckets = calloc(wider.size, sizeof *wider.buckets);
  if (!wider.buckets) return;
  for (size_t i = 0; i < lanes->size; i++) {
    for (struct mp_lane *lane = lanes->buckets[i], *next; lane; lane = next) {
      next = lane->next;
      struct mp_lane **to = bucket(&wider, lane->hash);
      lane->next = *to;
      *to = lane;
    }
  }
  free(lanes->buckets);
  lanes->buckets = wider.buckets;
  lanes->size = wider.size;
}

static struct mp_lane *lane_find(const struct mp_lanes *lanes, uint64_t hash, const char *key,
                                 size_t len) {
  for (struct mp_lane *lane = *bucket(lanes, hash); lane; lane = lane->next)
    if (lane->hash == hash && lane->len == len && !memcmp(lane->key, key, len)) return lane;
  return NULL;
}

static struct mp_lane *lane_new(struct mp_lanes *lanes, uint64_t hash, const char *key,
                                size_t len) {
  struct mp_lane *lane = malloc(sizeof *lane + len);
  if (!lane) return NULL;
  lane->hash = hash;
  lane->len = len;
  memcpy(lane->key, key, len);
  mp_list_init(&lane->passes);
  if (lanes->active >= lanes->size) grow(lanes);
  struct mp_lane **to = bucket(lanes, hash);
  lane->next = *to;
  *to = lane;
  lanes->active++;
  return lane;
}

static void lane_free(struct mp_lanes *lanes, struct mp_lane *lane) {
  struct mp_lane **at = bucket(lanes, lane->hash);
  while (*at != lane) at = &(*at)->next;
  *at = lane->next;
  lanes->active--;
  free(lane);
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
  uint64_t hash = hash_key(key, len);
  struct mp_lane *lane = lane_find(lanes, hash, key, len);
  bool granted = !lane;
  if (!granted) {
    int rv = mp_lanes_wait(lanes, err);
    if (rv) return rv;
  }
  if (!lane) lane = lane_new(lanes, hash, key, len);
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
  return pass->lane ? pass->lane->hash : 0;
}

size_t mp_lanes_waiting(const struct mp_lanes *lanes) { return lanes->waiting; }
size_t mp_lanes_active(const struct mp_lanes *lanes) { return lanes->active; }
