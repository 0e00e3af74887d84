#include "pool/reap.h"

#include <stdlib.h>

#include "util/buf.h"
#include "util/log.h"

enum { WAIT_MS = 30000, ANSWER_MS = 5000 }; /* for a connection; for its answer */

/* Owner: itself, from mp_reap until the connection has been given back. */
struct reap {
  struct mp_loop *loop;
  struct mp_lease lease;
  struct mp_timer late;
  struct mp_req req;
  struct mp_sync sync;
  struct mp_reap_values text;
  int pid;
  uint64_t opened_ms;
  bool ended;
};

void mp_reap_values(struct mp_reap_values *out, int pid, uint64_t age_ms) {
  out->pid[mp_format_int(out->pid, pid)] = '\0';
  out->age_ms[mp_format_int(out->age_ms, (int64_t)age_ms)] = '\0';
  out->values[0] = out->pid;
  out->values[1] = out->age_ms;
}

static void on_done(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct reap *reap = MP_CONTAINER_OF(req, struct reap, req);
  reap->ended = !err && PQntuples(result->pg) > 0;
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct reap *reap = MP_CONTAINER_OF(sync, struct reap, sync);
  (void)result;
  if (reap->ended)
    mp_log(MP_LOG_WARN, "pool", "ended backend %d, whose connection was lost while it worked",
           reap->pid);
  mp_timer_stop(&reap->late);
  mp_pool_release(&reap->lease, err != NULL);
  free(reap);
}

static void on_late(struct mp_timer *timer) {
  struct reap *reap = MP_CONTAINER_OF(timer, struct reap, late);
  struct mp_err err;
  mp_err_set(&err, MP_ECONN, "the database did not answer");
  mp_conn_break(reap->lease.conn, &err);
}

static void on_grant(struct mp_lease *lease) {
  struct reap *reap = lease->data;
  mp_reap_values(&reap->text, reap->pid, mp_loop_now_ms(reap->loop) - reap->opened_ms);
  reap->req = (struct mp_req){.sql = MP_REAP_SQL,
                              .nparams = 2,
                              .values = reap->text.values,
                              .flags = MP_REQ_ONCE,
                              .on_done = on_done};
  reap->sync = (struct mp_sync){.on_done = on_sync};
  mp_conn_send(lease->conn, &reap->req);
  mp_conn_sync(lease->conn, &reap->sync);
  mp_timer_start(&reap->late, ANSWER_MS);
}

static void on_fail(struct mp_lease *lease, const struct mp_err *err) {
  (void)err;
  free(lease->data);
}

void mp_reap(struct mp_pool *pool, struct mp_loop *loop, int pid, uint64_t opened_ms) {
  struct reap *reap = pid ? calloc(1, sizeof *reap) : NULL;
  struct mp_err err;
  if (!reap) return;
  *reap = (struct reap){.loop = loop,
                        .pid = pid,
                        .opened_ms = opened_ms,
                        .lease = {.deadline_ms = mp_loop_now_ms(loop) + WAIT_MS,
                                  .urgent = true, /* others may wait for its locks */
                                  .where = "the end of a lost transaction",
                                  .data = reap,
                                  .on_grant = on_grant,
                                  .on_fail = on_fail}};
  mp_timer_init(&reap->late, loop, on_late);
  if (mp_pool_acquire(pool, &reap->lease, &err)) free(reap);
}
