/* lane_report.c: what waiting calls wait for, and whether one more may wait. */
#include "rules/lane_priv.h"
#include "util/buf.h"

static void report(const struct mp_lane_pass *pass, uint64_t now_ns, struct mp_lane_report *out) {
  const struct mp_lane_place *place = &pass->places[pass->held];
  const struct mp_lane *lane = place->lane;
  uint64_t gap = lane->gap_ns, turn = mp_lane_turn(lane);
  *out = (struct mp_lane_report){.waiting = lane->queued,
                                 .place = lane->queued,
                                 .held = lane->open,
                                 .width = lane->terms.width,
                                 .rated = lane->open < lane->terms.width && turn > now_ns};
  mp_copy_text(out->key, lane->len < sizeof out->key ? lane->len + 1 : sizeof out->key, lane->key);
  for (struct mp_list *node = place->node.next; node != &lane->queue; node = node->next)
    out->place--;
  if (lane->terms.interval_ns > gap) gap = lane->terms.interval_ns;
  out->expected_ms = (out->place * gap + 999999) / 1000000;
  MP_LIST_EACH(node, &lane->held) {
    if (mp_lane_place_at(node)->pass->seat != pass->seat) continue;
    out->first_of_seat = mp_lane_place_at(node)->pass;
    break;
  }
}

bool mp_lane_report(const struct mp_lane_pass *pass, uint64_t now_ns, struct mp_lane_report *out) {
  if (!mp_lane_in(pass)) return false;
  struct mp_lanes *lanes = mp_lanes_lock(pass->seat);
  bool waits = !mp_lane_admitted(pass);
  if (waits) report(pass, now_ns, out);
  mp_lanes_unlock(lanes);
  return waits;
}

static int too_many(const struct mp_lanes *lanes, struct mp_err *err) {
  return mp_err_set(
      err, MP_EBUSY,
      "%zu calls already wait in lanes, which is the limit (MOONPOOL_LANE_LIMIT); try again "
      "later",
      lanes->waiting);
}

int mp_lanes_judge(const struct mp_lanes *lanes, const struct mp_lane_pass *pass, uint64_t now_ns,
                   struct mp_err *err) {
  const struct mp_lane *lane = pass->places[pass->held].lane;
  struct mp_lane_report told;
  if (lanes->waiting >= lanes->limit) return too_many(lanes, err);
  if (!lane->terms.limit || lane->queued <= lane->terms.limit) return 0;
  report(pass, now_ns, &told);
  mp_err_set(err, MP_EBUSY,
             "%zu calls already wait in lane %s, which is its limit; it has %u place%s; this call "
             "would be number %zu and wait for about %.1f s; try again later",
             told.waiting - 1, told.key, told.width, told.width == 1 ? "" : "s", told.place,
             (double)told.expected_ms / 1000);
  return -MP_EBUSY;
}

int mp_lanes_wait(struct mp_lanes *lanes, struct mp_err *err) {
  pthread_mutex_lock(&lanes->lock);
  int rv = lanes->waiting >= lanes->limit ? too_many(lanes, err) : 0;
  lanes->waiting += !rv;
  mp_lanes_unlock(lanes);
  return rv;
}

void mp_lanes_waited(struct mp_lanes *lanes) {
  pthread_mutex_lock(&lanes->lock);
  lanes->waiting--;
  mp_lanes_unlock(lanes);
}

size_t mp_lanes_waiting(struct mp_lanes *lanes) {
  pthread_mutex_lock(&lanes->lock);
  size_t waiting = lanes->waiting;
  mp_lanes_unlock(lanes);
  return waiting;
}

size_t mp_lanes_active(struct mp_lanes *lanes) {
  pthread_mutex_lock(&lanes->lock);
  size_t active = lanes->active;
  mp_lanes_unlock(lanes);
  return active;
}
