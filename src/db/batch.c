#include "db/batch.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "util/pre.h"

enum {
  SEATS = 16,
  LEAST = 4,
  CONNECTIONS = 2,
  STALL_MS = 5,      /* twice that long without an answer, and the others go alone */
  ALONE_MS = 2000,   /* how long a slow text does not share */
  LATE_NS = 1000000, /* between two answers of a segment */
  LATE_COST = 8,     /* of a late answer, and each other answer pays 1 back */
  STALL_COST = 16,
  LATE_LIMIT = 64,
};

struct mp_batch_place {
  struct mp_batch *batch;
  struct mp_req req;          /* a copy: the connection needs it when the reader may be gone */
  struct mp_text *text;       /* of the request */
  struct mp_batch_seat *seat; /* NULL: its reader is gone */
  struct mp_result *result;
};

struct mp_batch {
  struct mp_loop *loop;
  struct mp_lease lease;
  struct mp_sync sync;
  struct mp_timer stall;
  bool stalled;                        /* STALL_MS have passed since the last answer */
  uint64_t answered_ns;                /* the last answer; 0: none yet */
  unsigned n, live;                    /* places; readers */
  struct mp_batch_place *next;         /* the next to be answered */
  const struct mp_batch_place *failed; /* the one with whose failure the segment ends */
  struct mp_err err;                   /* that failure */
  struct mp_batch_place at[SEATS];
};

/* ---- slow texts ---- */

bool mp_batch_takes(const struct mp_text *text, uint64_t now_ms) {
  return text->shares && now_ms >= text->pace.alone_until_ms;
}

static void judge(struct mp_batch *batch, struct mp_text *text, unsigned cost) {
  if (cost)
    text->pace.late += cost;
  else if (text->pace.late)
    text->pace.late--;
  if (text->pace.late < LATE_LIMIT) return;
  text->pace.late = 0;
  text->pace.alone_until_ms = mp_loop_now_ms(batch->loop) + ALONE_MS;
}

/* ---- seats ---- */

static struct mp_batch_seat *vacate(struct mp_batch_place *place) {
  struct mp_batch_seat *seat = place->seat;
  if (!seat) return NULL;
  place->seat = NULL;
  seat->place = NULL;
  place->batch->live--;
  return seat;
}

static void disperse(struct mp_batch *batch, const struct mp_batch_place *keep) {
  for (struct mp_batch_place *place = batch->at; place < batch->at + batch->n; place++) {
    struct mp_batch_seat *seat = place == keep ? NULL : vacate(place);
    if (seat) seat->events->on_alone(seat);
  }
}

static void batch_free(struct mp_batch *batch) {
  mp_timer_stop(&batch->stall);
  for (struct mp_batch_place *place = batch->at; place < batch->at + batch->n; place++) {
    mp_text_unref(place->text);
    mp_result_unref(place->result);
  }
  free(batch);
}

void mp_batch_disperse(struct mp_batch_seat *seat) { disperse(seat->place->batch, seat->place); }

bool mp_batch_leave(struct mp_batch_seat *seat) {
  if (seat->place->batch->live == 1) return false;
  vacate(seat->place);
  return true;
}

/* ---- the segment ---- */

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_batch *batch = MP_CONTAINER_OF(sync, struct mp_batch, sync);
  bool all = !batch->failed && !err, sole = batch->live == 1;
  for (struct mp_batch_place *place = batch->at; place < batch->at + batch->n; place++) {
    struct mp_batch_seat *seat = vacate(place);
    if (!seat) continue;
    if (sole && (!batch->failed || batch->failed == place)) {
      const struct mp_batch_end end = {.result = place->result,
                                       .sync_result = result,
                                       .err = batch->failed ? &batch->err : NULL,
                                       .sync_err = err};
      seat->events->on_last(seat, &batch->lease, &end);
    } else if (all) {
      seat->events->on_answer(seat, place->result);
    } else {
      seat->events->on_alone(seat);
    }
  }
  mp_pool_release(&batch->lease, false); /* unless the last reader has taken it over */
  batch_free(batch);
}

/* The read that is under way may just be behind a loop that was busy: its answer is read before the
 * timer is due again. Then any of those without an answer may be the slow one, because the server
 * keeps answers back until the segment ends or its buffer is full: each goes alone, and what is
 * under way is canceled. They change nothing, so they may be done twice. */
static void on_stall(struct mp_timer *timer) {
  struct mp_batch *batch = MP_CONTAINER_OF(timer, struct mp_batch, stall);
  if (batch->next == batch->at + batch->n) return;
  if (!batch->stalled) {
    batch->stalled = true;
    mp_timer_start(&batch->stall, STALL_MS);
    return;
  }
  for (struct mp_batch_place *place = batch->next; place < batch->at + batch->n; place++)
    judge(batch, place->text, STALL_COST);
  disperse(batch, NULL);
  (void)mp_conn_cancel(batch->lease.conn, &(struct mp_err){.code = MP_OK});
}

static void on_read(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_batch_place *place = MP_CONTAINER_OF(req, struct mp_batch_place, req);
  struct mp_batch *batch = place->batch;
  uint64_t now_ns = mp_loop_clock_ns(batch->loop);
  if (result) place->result = mp_result_ref(result);
  if (err && !batch->failed) {
    batch->failed = place;
    batch->err = *err;
  }
  bool late = batch->answered_ns && now_ns - batch->answered_ns > LATE_NS;
  if (!batch->failed) judge(batch, place->text, late ? LATE_COST : 0);
  batch->answered_ns = now_ns;
  batch->next = place + 1;
  batch->stalled = false;
}

/* ---- filling ---- */

/* Some connections side by side keep several of the server's cores busy. */
unsigned mp_batch_size(unsigned waiting) {
  unsigned part = waiting / CONNECTIONS;
  return part < LEAST ? LEAST : part > SEATS ? SEATS : part;
}

struct mp_batch *mp_batch_new(struct mp_loop *loop) {
  struct mp_batch *batch = malloc(sizeof *batch);
  if (!batch) return NULL;
  memset(batch, 0, offsetof(struct mp_batch, err));
  batch->loop = loop;
  batch->next = batch->at;
  batch->sync.on_done = on_sync;
  mp_list_init(&batch->lease.node);
  mp_timer_init(&batch->stall, loop, on_stall);
  return batch;
}

void mp_batch_add(struct mp_batch *batch, struct mp_batch_seat *seat) {
  PRE(batch->n < SEATS);
  struct mp_batch_place *place = &batch->at[batch->n++];
  *place = (struct mp_batch_place){
      .batch = batch, .req = seat->stmt->req, .text = seat->stmt->text, .seat = seat};
  place->req.on_done = on_read;
  mp_text_ref(place->text);
  seat->place = place;
  batch->live++;
}

void mp_batch_send(struct mp_batch *batch, struct mp_lease *lease) {
  memcpy(batch->lease.where, lease->where, sizeof lease->where);
  mp_pool_pass_on(lease, &batch->lease);
  for (unsigned i = 0; i < batch->n; i++) mp_conn_send(batch->lease.conn, &batch->at[i].req);
  mp_timer_start(&batch->stall, STALL_MS);
  mp_conn_sync(batch->lease.conn, &batch->sync);
}
