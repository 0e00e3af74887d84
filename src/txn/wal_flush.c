#include "txn/wal_flush.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "util/log.h"

enum { CONNECT_MS = 10000, BACKOFF_MS = 1000 };

struct mp_wal_flush {
  struct mp_durable durable;
  struct mp_loop *loop;
  struct mp_flush_crew *crew;
  bool unflushed;                  /* told to the crew */
  struct mp_pool *database, *pool; /* pool: its one connection's; NULL: not needed yet, or closed */
  struct mp_lease lease;
  struct mp_req req;
  struct mp_sync sync;
  struct mp_timer late;
  uint64_t answer_ms;
  struct mp_err failed; /* the flush under way; code 0: it has not */
  char id[37];          /* of its row */
  const char *values[1];
  bool closed;
};

/* After each change. In front of what a crash can undo, for the others must know before they can
 * see it. */
static void tell_crew(struct mp_wal_flush *f) {
  bool unflushed = mp_durable_pending(&f->durable);
  if (unflushed && !f->unflushed) atomic_fetch_add(&f->crew->unflushed, 1);
  if (!unflushed && f->unflushed) atomic_fetch_sub(&f->crew->unflushed, 1);
  f->unflushed = unflushed;
}

static struct mp_flush_wait *wait_of(struct mp_list *node) {
  return MP_CONTAINER_OF(node, struct mp_flush_wait, wait.node);
}

static void tell(struct mp_list *over, const struct mp_err *lost) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(over))) wait_of(node)->on_end(wait_of(node), lost);
}

/* Its connection goes; the waits fail with `why`. */
static void give_up(struct mp_wal_flush *f, const struct mp_err *why) {
  struct mp_err lost;
  struct mp_list over;
  mp_list_init(&over);
  mp_err_set(&lost, MP_ECONN, "the connection for the shared flush was lost: %.200s", why->msg);
  lost.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  mp_timer_stop(&f->late);
  if (f->lease.conn) mp_pool_release(&f->lease, true);
  f->lease.conn = NULL;
  mp_durable_lost(&f->durable, &over);
  tell(&over, &lost);
}

/* ---- a flush ---- */

static void begin(struct mp_wal_flush *f);

static void on_done(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_wal_flush *f = MP_CONTAINER_OF(req, struct mp_wal_flush, req);
  (void)result;
  if (err) f->failed = *err;
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_wal_flush *f = MP_CONTAINER_OF(sync, struct mp_wal_flush, sync);
  struct mp_list over;
  (void)result;
  if (err) f->failed = *err;
  if (f->failed.code) {
    struct mp_err why = f->failed;
    mp_log(MP_LOG_WARN, "pool", "the shared flush failed: %s", why.msg);
    give_up(f, &why);
    return;
  }
  mp_list_init(&over);
  mp_timer_stop(&f->late);
  mp_durable_flushed(&f->durable, &over);
  tell_crew(f);
  begin(f); /* first, so that the disk is never idle while calls wait */
  tell(&over, NULL);
}

static void on_late(struct mp_timer *timer) {
  struct mp_wal_flush *f = MP_CONTAINER_OF(timer, struct mp_wal_flush, late);
  struct mp_err err;
  mp_err_set(&err, MP_ECONN, "the database did not answer a flush within %g s",
             (double)f->answer_ms / 1000);
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  mp_conn_break(f->lease.conn, &err);
}

/* The row is made again if it was deleted as an old witness. */
static void begin(struct mp_wal_flush *f) {
  if (!mp_durable_begin(&f->durable)) return;
  f->failed.code = MP_OK;
  f->req = (struct mp_req){.sql =
                               "insert into moonpool.witness (id, operation, void) "
                               "values ($1, 'flush', true) "
                               "on conflict (id) do update set result = null",
                           .nparams = 1,
                           .values = f->values,
                           .on_done = on_done};
  f->sync = (struct mp_sync){.on_done = on_sync};
  mp_conn_send(f->lease.conn, &f->req);
  mp_conn_sync(f->lease.conn, &f->sync);
  mp_timer_start(&f->late, f->answer_ms);
}

/* ---- its connection ---- */

static void on_grant(struct mp_lease *lease) {
  struct mp_wal_flush *f = lease->data;
  mp_durable_opened(&f->durable);
}

static void on_fail(struct mp_lease *lease, const struct mp_err *err) { give_up(lease->data, err); }

static int open_pool(struct mp_wal_flush *f, struct mp_err *err) {
  char settings[80];
  struct mp_pool_options options = {.conn = *mp_pool_conn_options(f->database),
                                    .max = 1,
                                    .queue_limit = 1,
                                    .backoff_max_ms = BACKOFF_MS,
                                    .impatient = true,
                                    .quiet = true};
  /* Who names the row may see and update it. */
  snprintf(settings, sizeof settings, "-c moonpool.witness=%s", f->id);
  options.conn.settings = settings;
  options.conn.purpose = "flush";
  return mp_pool_open(&f->pool, f->loop, &options, err);
}

static void ask(struct mp_wal_flush *f) {
  struct mp_err err;
  if (f->closed || !mp_durable_open(&f->durable)) return;
  f->lease = (struct mp_lease){.deadline_ms = mp_loop_now_ms(f->loop) + CONNECT_MS,
                               .where = "the shared flush",
                               .data = f,
                               .on_grant = on_grant,
                               .on_fail = on_fail};
  mp_list_init(&f->lease.node);
  int rv = f->pool ? 0 : open_pool(f, &err);
  if (!rv) rv = mp_pool_acquire(f->pool, &f->lease, &err);
  if (rv) give_up(f, &err);
}

/* Does it lead to the same server as `conn`, as far as we know? */
static bool leads_to(const struct mp_wal_flush *f, const struct mp_conn *conn) {
  return f->lease.conn && mp_conn_alive(f->lease.conn) &&
         !strcmp(mp_conn_server(f->lease.conn), mp_conn_server(conn));
}

bool mp_wal_flush_note(struct mp_wal_flush *f, struct mp_flush_wait *wait,
                       const struct mp_conn *conn, bool wanted) {
  struct mp_err gone;
  bool same = mp_durable_connected(&f->durable) && leads_to(f, conn);
  if (!same && f->durable.state == MP_DURABLE_IDLE && mp_conn_alive(conn)) {
    mp_err_set(&gone, MP_ECONN, "it does not lead to the server that calls use");
    give_up(f, &gone); /* nobody waits */
  }
  if (wanted && !atomic_load(&f->crew->used)) atomic_store(&f->crew->used, true);
  if (!same && atomic_load(&f->crew->used)) ask(f);
  mp_durable_note(&f->durable, &wait->wait);
  if (!same) wait->wait.epoch = 0;
  return same;
}

/* ---- what transactions tell ---- */

bool mp_wal_flush_pending(const struct mp_wal_flush *f) {
  return f && atomic_load(&f->crew->unflushed);
}

void mp_wal_flush_sent(struct mp_wal_flush *f) {
  mp_durable_sent(&f->durable);
  tell_crew(f);
}

void mp_wal_flush_answered(struct mp_wal_flush *f) { mp_durable_answered(&f->durable); }

void mp_wal_flush_settled(struct mp_wal_flush *f, struct mp_flush_wait *wait) {
  if (wait->astray) mp_wal_flush_answered(f);
  wait->astray = false;
}

void mp_wal_flush_own(struct mp_wal_flush *f, const struct mp_flush_wait *wait) {
  mp_durable_flushed_by(&f->durable, &wait->wait);
  tell_crew(f);
}

int mp_wal_flush_wait(struct mp_wal_flush *f, struct mp_flush_wait *wait, struct mp_err *err) {
  if (!mp_durable_wait(&f->durable, &wait->wait)) {
    mp_err_set(err, MP_ECONN, "the connection for the shared flush was lost");
    err->flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
    return -MP_ECONN;
  }
  begin(f);
  return 0;
}

/* ---- life ---- */

int mp_wal_flush_new(struct mp_wal_flush **out, struct mp_loop *loop, struct mp_pool *pool,
                     struct mp_flush_crew *crew, uint64_t answer_ms, struct mp_err *err) {
  struct mp_wal_flush *f = calloc(1, sizeof *f);
  if (!f) return mp_err_set(err, MP_ENOMEM, "no memory for the shared flush");
  f->loop = loop;
  f->database = pool;
  f->crew = crew;
  f->answer_ms = answer_ms;
  mp_durable_init(&f->durable);
  mp_timer_init(&f->late, loop, on_late);
  mp_uuid_new(loop, f->id);
  f->values[0] = f->id;
  *out = f;
  return 0;
}

static void on_closed(void *data) {
  struct mp_wal_flush *f = data;
  f->pool = NULL;
}

void mp_wal_flush_close(struct mp_wal_flush *f) {
  if (!f || f->closed) return;
  f->closed = true;
  if (f->pool) mp_pool_close(f->pool, mp_loop_now_ms(f->loop), on_closed, f);
}

bool mp_wal_flush_closed(const struct mp_wal_flush *f) { return !f || !f->pool; }

void mp_wal_flush_free(struct mp_wal_flush *f) {
  if (!f) return;
  mp_timer_stop(&f->late);
  free(f);
}
