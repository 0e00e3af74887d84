#include <stdlib.h>
#include <string.h>

#include "rules/lane_priv.h"
#include "util/hash.h"

int mp_lanes_new(struct mp_lanes **out, size_t limit, struct mp_err *err) {
  struct mp_lanes *lanes = calloc(1, sizeof *lanes);
  if (!lanes) return mp_err_set(err, MP_ENOMEM, "no memory for the lanes of operations");
  lanes->limit = limit;
  lanes->due_ns = UINT64_MAX;
  mp_list_init(&lanes->dirty);
  mp_list_init(&lanes->timed);
  pthread_mutex_init(&lanes->lock, NULL);
  *out = lanes;
  return 0;
}

static void lane_free(struct mp_lanes *lanes, struct mp_lane *lane) {
  mp_list_remove(&lane->dirty);
  mp_list_remove(&lane->timed);
  HASH_DEL(lanes->by_key, lane); /* NOLINT(clang-analyzer-core.NullDereference): uthash */
  MP_FREE_LISTED(lane);
}

void mp_lanes_unref(struct mp_lanes *lanes) {
  if (!lanes) return;
  struct mp_lane *lane, *next;
  HASH_ITER(hh, lanes->by_key, lane, next) { lane_free(lanes, lane); }
  pthread_mutex_destroy(&lanes->lock);
  free(lanes);
}

void mp_lane_seat_init(struct mp_lane_seat *seat, struct mp_lanes *lanes,
                       void (*wake)(struct mp_lane_seat *seat)) {
  *seat = (struct mp_lane_seat){.lanes = lanes, .wake = wake};
  mp_list_init(&seat->ready);
}

/* ---- finding a lane ---- */

/* Keys come from callers. A caller whose keys collide on purpose only slows down its own waiting,
 * because the number of waiting calls is limited. */
static uint64_t order_of(const char *key, size_t len) {
  uint64_t hash = mp_hash(MP_HASH_START, key, len);
  return hash ^ hash >> 32;
}

static struct mp_lane *lane_of(struct mp_lanes *lanes, const struct mp_lane_want *want) {
  struct mp_lane *lane;
  uint64_t order = order_of(want->key, want->len);
  HASH_FIND_BYHASHVALUE(hh, lanes->by_key, want->key, want->len, (unsigned)order, lane);
  if (lane) return lane;
  lane = calloc(1, sizeof *lane + want->len + 1);
  if (!lane) return NULL;
  lane->order = order;
  lane->len = want->len;
  memcpy(lane->key, want->key, want->len);
  mp_list_init(&lane->held);
  mp_list_init(&lane->queue);
  mp_list_init(&lane->dirty);
  mp_list_init(&lane->timed);
  HASH_ADD_KEYPTR_BYHASHVALUE(hh, lanes->by_key, lane->key, want->len, (unsigned)order, lane);
  if (lane->hh.tbl) return lane;
  free(lane);
  return NULL;
}

static void dirty(struct mp_lanes *lanes, struct mp_lane *lane) {
  if (mp_list_empty(&lane->dirty)) mp_list_push_back(&lanes->dirty, &lane->dirty);
}

static void wake_at(struct mp_lanes *lanes, struct mp_lane *lane, uint64_t due_ns) {
  lane->due_ns = due_ns;
  if (mp_list_empty(&lane->timed)) mp_list_push_back(&lanes->timed, &lane->timed);
  if (due_ns < lanes->due_ns) lanes->due_ns = due_ns;
}

/* ---- the rate ---- */

static void pay(struct mp_lane_place *place, uint64_t now_ns) {
  struct mp_lane *lane = place->lane;
  if (place->paid || !lane->terms.interval_ns) return;
  lane->tat_ns = (lane->tat_ns > now_ns ? lane->tat_ns : now_ns) + lane->terms.interval_ns;
  place->paid = true;
}

static void pay_back(struct mp_lane_place *place) {
  struct mp_lane *lane = place->lane;
  if (!place->paid) return;
  place->paid = false;
  lane->tat_ns -= lane->tat_ns < lane->terms.interval_ns ? lane->tat_ns : lane->terms.interval_ns;
}

/* A lane in which no call is may still owe time to its rate. */
static void lane_unref(struct mp_lanes *lanes, struct mp_lane *lane, uint64_t now_ns) {
  if (--lane->refs) return;
  lanes->active--;
  if (lane->tat_ns <= now_ns)
    lane_free(lanes, lane);
  else
    wake_at(lanes, lane, lane->tat_ns);
}

/* ---- a place ---- */

static struct mp_lane_place *first_of(const struct mp_list *list) {
  return mp_list_empty(list) ? NULL : mp_lane_place_at(list->next);
}

static bool before(const struct mp_lane_pass *a, const struct mp_lane_pass *b) {
  return a->priority != b->priority ? a->priority < b->priority : a->order < b->order;
}

static void queue_up(struct mp_lane_place *place) {
  struct mp_lane *lane = place->lane;
  struct mp_list *at = lane->queue.prev;
  while (at != &lane->queue && before(place->pass, mp_lane_place_at(at)->pass)) at = at->prev;
  mp_list_push_front(at, &place->node);
  place->state = MP_PLACE_WAITING;
  lane->queued++;
}

static void unqueue(struct mp_lanes *lanes, struct mp_lane_place *place) {
  mp_list_remove(&place->node);
  place->state = MP_PLACE_OUT;
  place->lane->queued--;
  dirty(lanes, place->lane);
}

static void note_left(struct mp_lane *lane, uint64_t now_ns) {
  uint64_t gap = now_ns - lane->left_ns;
  if (lane->left_ns) lane->gap_ns = lane->gap_ns ? (lane->gap_ns * 7 + gap) / 8 : gap;
  lane->left_ns = now_ns;
}

/* Gives a place that is held or shared back. */
static void give_back(struct mp_lanes *lanes, struct mp_lane_place *place, uint64_t now_ns) {
  struct mp_lane *lane = place->lane;
  struct mp_list *next = place->node.next;
  bool own = place->state == MP_PLACE_HELD;
  mp_list_remove(&place->node);
  place->state = MP_PLACE_OUT;
  if (mp_lane_admitted(place->pass))
    note_left(lane, now_ns);
  else
    lane->reserved--;
  if (!own) return;
  if (next != &lane->held && mp_lane_place_at(next)->state == MP_PLACE_SHARED) {
    mp_lane_place_at(next)->state = MP_PLACE_HELD;
    return;
  }
  lane->open--;
  dirty(lanes, lane);
}

/* The youngest call that only reserves a place of the lane, if it ranks behind `pass`. */
static struct mp_lane_place *victim_of(const struct mp_lane *lane,
                                       const struct mp_lane_pass *pass) {
  struct mp_lane_place *victim = NULL;
  if (!lane->reserved) return NULL;
  MP_LIST_EACH(node, &lane->held) {
    struct mp_lane_place *place = mp_lane_place_at(node);
    if (!mp_lane_admitted(place->pass) && before(victim ? victim->pass : pass, place->pass))
      victim = place;
  }
  return victim;
}

/* The call loses its place, with those that it reserved behind it, and waits for it again. */
static void wound(struct mp_lanes *lanes, struct mp_lane_place *place, uint64_t now_ns) {
  struct mp_lane_pass *pass = place->pass;
  unsigned at = (unsigned)(place - pass->places);
  if (pass->places[pass->held].state == MP_PLACE_WAITING) unqueue(lanes, &pass->places[pass->held]);
  for (unsigned i = pass->held; i-- > at;) give_back(lanes, &pass->places[i], now_ns);
  pass->held = at;
  queue_up(place);
}

static bool take(struct mp_lanes *lanes, struct mp_lane_place *place, uint64_t now_ns) {
  struct mp_lane *lane = place->lane;
  struct mp_lane_place *first = first_of(&lane->queue), *victim = NULL;
  if (first && first != place && before(first->pass, place->pass)) return false;
  if (lane->open >= lane->terms.width) {
    victim = victim_of(lane, place->pass);
    if (!victim) return false;
  }
  if (!place->paid && mp_lane_turn(lane) > now_ns) {
    wake_at(lanes, lane, mp_lane_turn(lane));
    return false;
  }
  pay(place, now_ns);
  if (victim) wound(lanes, victim, now_ns);
  if (place->state == MP_PLACE_WAITING) unqueue(lanes, place);
  lane->open++;
  lane->reserved++;
  mp_list_push_back(&lane->held, &place->node);
  place->state = MP_PLACE_HELD;
  return true;
}

/* ---- a call ---- */

/* Takes one lane after another, as far as it can. True: it is admitted. */
static bool go_on(struct mp_lanes *lanes, struct mp_lane_pass *pass, uint64_t now_ns) {
  while (!mp_lane_admitted(pass)) {
    struct mp_lane_place *place = &pass->places[pass->held];
    if (!take(lanes, place, now_ns)) {
      if (place->state == MP_PLACE_OUT) queue_up(place);
      return false;
    }
    pass->held++;
  }
  for (unsigned i = 0; i < pass->count; i++) pass->places[i].lane->reserved--;
  return true;
}

static void offer(struct mp_lanes *lanes, struct mp_lane_pass *pass) {
  struct mp_lane_seat *seat = pass->seat;
  lanes->waiting--;
  mp_list_push_back(&seat->ready, &pass->node);
  pass->offered = true;
  if (seat == lanes->here || seat->woken) return;
  seat->woken = true;
  seat->wake(seat);
}

/* Admits whoever can be: in each lane in which something changed, from the front of its queue. */
static void settle(struct mp_lanes *lanes, uint64_t now_ns) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(&lanes->dirty))) {
    struct mp_lane *lane = MP_LIST_ENTRY(node, struct mp_lane, dirty);
    struct mp_lane_place *first;
    mp_list_init(&lane->dirty);
    while ((first = first_of(&lane->queue))) {
      if (go_on(lanes, first->pass, now_ns)) offer(lanes, first->pass);
      if (first->state == MP_PLACE_WAITING) break;
    }
  }
}

static void leave(struct mp_lanes *lanes, struct mp_lane_pass *pass, uint64_t now_ns) {
  if (pass->offered)
    mp_list_remove(&pass->node);
  else if (!mp_lane_admitted(pass))
    lanes->waiting--;
  for (unsigned i = 0; i < pass->count; i++) {
    struct mp_lane_place *place = &pass->places[i];
    if (place->state == MP_PLACE_WAITING)
      unqueue(lanes, place);
    else if (place->state != MP_PLACE_OUT)
      give_back(lanes, place, now_ns);
    if (!pass->granted) pay_back(place);
  }
  settle(lanes, now_ns);
  for (unsigned i = 0; i < pass->count; i++) lane_unref(lanes, pass->places[i].lane, now_ns);
  pass->count = pass->held = 0;
  pass->granted = pass->offered = false;
}

static bool has_lane(const struct mp_lane_pass *pass, const struct mp_lane *lane) {
  for (unsigned i = 0; i < pass->count; i++)
    if (pass->places[i].lane == lane) return true;
  return false;
}

static bool same_terms(const struct mp_lane_terms *a, const struct mp_lane_terms *b) {
  return a->width == b->width && a->interval_ns == b->interval_ns && a->burst == b->burst &&
         a->limit == b->limit;
}

static int attach(struct mp_lanes *lanes, struct mp_lane_pass *pass,
                  const struct mp_lane_want *wants, unsigned count, struct mp_err *err) {
  for (unsigned i = 0; i < count; i++) {
    struct mp_lane *lane = lane_of(lanes, &wants[i]);
    if (!lane) return mp_err_set(err, MP_ENOMEM, "no memory for a lane");
    if (has_lane(pass, lane)) continue;
    if (lane->refs && !same_terms(&lane->terms, &wants[i].terms)) dirty(lanes, lane);
    lane->terms = wants[i].terms;
    lanes->active += !lane->refs++;
    pass->places[pass->count++] = (struct mp_lane_place){.lane = lane, .pass = pass};
  }
  return 0;
}

/* ---- what callers see ---- */

int mp_lane_enter(struct mp_lane_seat *seat, const struct mp_lane_want *wants, unsigned count,
                  int priority, uint64_t now_ns, struct mp_lane_pass *pass, struct mp_err *err) {
  *pass = (struct mp_lane_pass){.seat = seat, .priority = priority};
  struct mp_lanes *lanes = mp_lanes_lock(seat);
  pass->order = lanes->entered++;
  int rv = attach(lanes, pass, wants, count, err);
  if (!rv) {
    pass->granted = go_on(lanes, pass, now_ns);
    if (!pass->granted) rv = mp_lanes_judge(lanes, pass, now_ns, err);
  }
  lanes->waiting += !mp_lane_admitted(pass);
  if (rv)
    leave(lanes, pass, now_ns);
  else
    settle(lanes, now_ns);
  mp_lanes_unlock(lanes);
  return rv;
}

void mp_lane_leave(struct mp_lane_pass *pass, uint64_t now_ns) {
  if (!mp_lane_in(pass)) return;
  struct mp_lanes *lanes = mp_lanes_lock(pass->seat);
  leave(lanes, pass, now_ns);
  mp_lanes_unlock(lanes);
}

void mp_lane_woken(struct mp_lane_seat *seat) {
  struct mp_lanes *lanes = mp_lanes_lock(seat);
  seat->woken = false;
  mp_lanes_unlock(lanes);
}

struct mp_lane_pass *mp_lane_next(struct mp_lane_seat *seat) {
  struct mp_lane_pass *pass = NULL;
  struct mp_lanes *lanes = mp_lanes_lock(seat);
  struct mp_list *node = mp_list_pop_front(&seat->ready);
  if (node) {
    pass = MP_LIST_ENTRY(node, struct mp_lane_pass, node);
    pass->offered = false;
    pass->granted = true;
  }
  mp_lanes_unlock(lanes);
  return pass;
}

uint64_t mp_lanes_tick(struct mp_lane_seat *seat, uint64_t now_ns) {
  struct mp_lanes *lanes = mp_lanes_lock(seat);
  if (lanes->due_ns <= now_ns) {
    lanes->due_ns = UINT64_MAX;
    struct mp_list *next;
    for (struct mp_list *node = lanes->timed.next; node != &lanes->timed; node = next) {
      struct mp_lane *lane = MP_LIST_ENTRY(node, struct mp_lane, timed);
      next = node->next;
      if (lane->due_ns > now_ns) {
        if (lane->due_ns < lanes->due_ns) lanes->due_ns = lane->due_ns;
        continue;
      }
      mp_list_remove(&lane->timed);
      if (lane->refs)
        dirty(lanes, lane);
      else
        lane_free(lanes, lane);
    }
    settle(lanes, now_ns);
  }
  uint64_t due_ns = lanes->due_ns;
  mp_lanes_unlock(lanes);
  return due_ns;
}

bool mp_lane_leads(const struct mp_lane_pass *pass) {
  if (!mp_lane_in(pass)) return true;
  struct mp_lanes *lanes = mp_lanes_lock(pass->seat);
  bool own = pass->places[0].state == MP_PLACE_HELD;
  mp_lanes_unlock(lanes);
  return own;
}

struct mp_lane_pass *mp_lane_behind(const struct mp_lane_pass *pass, uint64_t now_ns) {
  if (pass->count != 1 || !pass->granted) return NULL;
  struct mp_lanes *lanes = mp_lanes_lock(pass->seat);
  const struct mp_lane *lane = pass->places[0].lane;
  struct mp_lane_place *first = first_of(&lane->queue);
  bool may = first && first->pass->seat == pass->seat && first->pass->count == 1 &&
             (first->paid || mp_lane_turn(lane) <= now_ns);
  struct mp_lane_pass *behind = may ? first->pass : NULL;
  mp_lanes_unlock(lanes);
  return behind;
}

bool mp_lane_join(struct mp_lane_pass *pass, struct mp_lane_pass *behind, uint64_t now_ns) {
  struct mp_lanes *lanes = mp_lanes_lock(pass->seat);
  struct mp_lane_place *place = &behind->places[0];
  bool waits = place->state == MP_PLACE_WAITING;
  if (waits) {
    unqueue(lanes, place);
    pay(place, now_ns);
    mp_list_push_front(&pass->places[0].node, &place->node);
    place->state = MP_PLACE_SHARED;
    behind->held = 1;
    behind->granted = true;
    lanes->waiting--;
    settle(lanes, now_ns);
  }
  mp_lanes_unlock(lanes);
  return waits;
}

void mp_lane_wait_again(struct mp_lane_pass *pass, uint64_t now_ns) {
  struct mp_lanes *lanes = mp_lanes_lock(pass->seat);
  struct mp_lane_place *place = &pass->places[0];
  give_back(lanes, place, now_ns);
  pass->granted = false;
  pass->held = 0;
  lanes->waiting++;
  queue_up(place);
  dirty(lanes, place->lane);
  settle(lanes, now_ns);
  mp_lanes_unlock(lanes);
}

uint64_t mp_lane_order(const struct mp_lane_pass *pass) {
  return mp_lane_in(pass) ? pass->places[0].lane->order : 0;
}
