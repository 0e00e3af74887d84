/* conn.c: states, socket and end of a connection: what opening (conn_open.c), traffic (conn_io.c)
 * and COPY (copy.c) share. */
#include "pg/conn.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "pg/cancel.h"
#include "pg/conn_internal.h"
#include "pg/sqlstate.h"
#include "util/log.h"
#include "util/pre.h"

enum { CANCEL_PAUSE_MS = 100, CANCEL_PAUSE_MAX_MS = 1000 };

static const char *unsound(const void *object) {
  const struct mp_conn *conn = object;
  if (conn->state == MP_CONN_READY && (!conn->pg || conn->ending))
    return "libpq has no connection, or it is ending";
  if (conn->state == MP_CONN_CLOSED &&
      (conn->pins || conn->ops.len || !mp_list_empty(&conn->unsent)))
    return "requests have not been answered";
  return NULL;
}

MP_SM_TABLE(sm, "pg", MP_CONN_STATE_MAP, unsound);

bool mp_conn_move(struct mp_conn *conn, enum mp_conn_state to) {
  bool right = mp_sm_may(&sm, conn->state, to);
  if (right) {
    conn->state = to;
    right = mp_sm_sound(&sm, conn, to);
  }
  if (right) return true;
  struct mp_err err;
  mp_err_set(&err, MP_EINTERNAL, "the connection was closed: its state was invalid");
  err.flags = MP_ERRF_CONN_DEAD;
  mp_conn_end(conn, &err);
  return false;
}

/* ---- the poll handle ---- */

static void on_poll_closed(uv_handle_t *handle) { free(handle); }

void mp_conn_unwatch(struct mp_conn *conn) {
  if (!conn->poll) return;
  uv_poll_stop(conn->poll);
  uv_close((uv_handle_t *)conn->poll, on_poll_closed);
  conn->poll = NULL;
  conn->poll_mask = 0;
}

void mp_conn_watch(struct mp_conn *conn, int mask, uv_poll_cb cb) {
  struct mp_err err;
  if (!conn->poll) {
    uv_poll_t *poll = malloc(sizeof *poll);
    int rv = poll ? uv_poll_init(mp_loop_uv(conn->loop), poll, PQsocket(conn->pg)) : UV_ENOMEM;
    if (rv) {
      free(poll);
      mp_err_set(&err, MP_ECONN, "cannot watch the connection's socket: %s", uv_strerror(rv));
      err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
      mp_conn_end(conn, &err);
      return;
    }
    poll->data = conn;
    conn->poll = poll;
  }
  /* Each uv_poll_start costs two system calls, so an unchanged mask is left alone. */
  if (mask == conn->poll_mask) return;
  conn->poll_mask = mask;
  uv_poll_start(conn->poll, mask, cb);
}

static void drop_cancel(struct mp_conn *conn) {
  mp_cancel_leave(conn->cancel);
  conn->cancel = NULL;
}

bool mp_conn_canceling(const struct mp_conn *conn) {
  return conn->cancel && !mp_cancel_over(conn->cancel);
}

bool mp_conn_cancel_pending(const struct mp_conn *conn) {
  return mp_conn_canceling(conn) || mp_timer_running(&conn->cancel_timer);
}

/* ---- the end ---- */

static void finish(struct mp_conn *conn) {
  /* While the timer runs, requests under way have not been told yet. */
  if (conn->state != MP_CONN_CLOSING || conn->pins || mp_timer_running(&conn->end_timer)) return;
  mp_conn_move(conn, MP_CONN_CLOSED);
  mp_timer_stop(&conn->end_timer);
  mp_timer_stop(&conn->connect_timer);
  mp_conn_unwatch(conn);
  drop_cancel(conn);
  if (conn->pg) PQfinish(conn->pg);
  mp_result_unref(conn->result);
  mp_stmt_cache_fini(&conn->stmts);
  free(conn->ops.at);
  void (*on_closed)(void *) = conn->events.on_closed;
  void *data = conn->data;
  free(conn);
  if (on_closed) on_closed(data);
}

void mp_conn_unpin(struct mp_conn *conn) {
  PRE(conn->pins > 0);
  conn->pins--;
  finish(conn);
}

static void on_end(struct mp_timer *timer) {
  struct mp_conn *conn = MP_CONTAINER_OF(timer, struct mp_conn, end_timer);
  struct mp_err end = conn->end;
  enum mp_conn_state before = conn->state;
  conn->pins++; /* the callbacks below may close us */
  if (before == MP_CONN_OPENING || before == MP_CONN_READY) mp_conn_move(conn, MP_CONN_LOST);
  conn->parts->fail(conn, &end);
  if (before == MP_CONN_OPENING && conn->events.on_open)
    conn->events.on_open(conn, conn->data, &end);
  if (before == MP_CONN_READY && conn->events.on_lost) conn->events.on_lost(conn, conn->data, &end);
  mp_conn_unpin(conn);
}

void mp_conn_end(struct mp_conn *conn, const struct mp_err *err) {
  if (conn->ending) return;
  conn->ending = true;
  conn->end = *err;
  mp_timer_stop(&conn->connect_timer);
  mp_timer_stop(&conn->cancel_timer);
  mp_conn_unwatch(conn);
  conn->parts->stop_opening(conn);
  mp_timer_start(&conn->end_timer, 0);
}

void mp_conn_close(struct mp_conn *conn, const char *reason) {
  if (conn->state == MP_CONN_CLOSING || conn->state == MP_CONN_CLOSED) return;
  mp_log(MP_LOG_DEBUG, "pg", "closing connection %d: %s", mp_conn_backend_pid(conn), reason);
  struct mp_err err;
  mp_err_set(&err, MP_ECLOSED, "the connection was closed: %s", reason);
  mp_conn_move(conn, MP_CONN_CLOSING);
  if (conn->ending)
    mp_timer_start(&conn->end_timer, 0);
  else
    mp_conn_end(conn, &err);
}

void mp_conn_break(struct mp_conn *conn, const struct mp_err *why) {
  if (conn->state == MP_CONN_READY) mp_conn_end(conn, why);
}

/* ---- cancel ---- */

static int send_cancel(struct mp_conn *conn, struct mp_err *err) {
  drop_cancel(conn);
  int rv = mp_cancel_start(&conn->cancel, conn->pg, err);
  if (!rv && conn->answered < conn->cancel_upto)
    mp_timer_start(&conn->cancel_timer, conn->cancel_pause_ms);
  return rv;
}

/* The statement is not answered yet: sends another request, unless the previous one is still under
 * way. */
static void on_cancel_timer(struct mp_timer *timer) {
  struct mp_conn *conn = MP_CONTAINER_OF(timer, struct mp_conn, cancel_timer);
  struct mp_err err;
  if (!mp_conn_alive(conn)) return;
  if (mp_conn_canceling(conn)) {
    mp_timer_start(&conn->cancel_timer, conn->cancel_pause_ms);
    return;
  }
  conn->cancel_pause_ms *= 2;
  if (conn->cancel_pause_ms > CANCEL_PAUSE_MAX_MS) conn->cancel_pause_ms = CANCEL_PAUSE_MAX_MS;
  if (send_cancel(conn, &err)) mp_log(MP_LOG_WARN, "pool", "%s", err.msg);
}

int mp_conn_cancel(struct mp_conn *conn, struct mp_err *err) {
  if (!mp_conn_alive(conn))
    return mp_err_set(err, MP_ECLOSED, "nothing to cancel: the connection is gone");
  if (mp_conn_cancel_pending(conn))
    return mp_err_set(err, MP_EBUSY, "a cancel is in flight already");
  conn->cancel_upto = conn->answered + conn->ops.len;
  conn->cancel_pause_ms = CANCEL_PAUSE_MS;
  return send_cancel(conn, err);
}

void mp_conn_init(struct mp_conn *conn, struct mp_loop *loop) {
  conn->loop = loop;
  mp_list_init(&conn->unsent);
  mp_timer_init(&conn->end_timer, loop, on_end);
  mp_timer_init(&conn->cancel_timer, loop, on_cancel_timer);
}

/* ---- questions ---- */

/* libpq 15 may leave decrypted bytes inside OpenSSL, and then no event of the socket tells of them.
 * OpenSSL is a dependency of libpq, not of the host: its symbol exists if and only if libpq can use
 * TLS. */
bool mp_conn_tls_pending(struct mp_conn *conn) {
  static int (*pending)(const void *);
  static bool looked;
  if (!PQsslInUse(conn->pg)) return false;
  if (!looked) {
    *(void **)(void *)&pending = dlsym(RTLD_DEFAULT, "SSL_pending");
    looked = true;
  }
  void *ssl = PQsslStruct(conn->pg, "OpenSSL");
  return pending && ssl && pending(ssl) > 0;
}

static bool is_on(const struct mp_conn *conn, const char *parameter) {
  const char *value = conn->pg ? PQparameterStatus(conn->pg, parameter) : NULL;
  return value && !strcmp(value, "on");
}

bool mp_conn_read_only(const struct mp_conn *conn) {
  return is_on(conn, "in_hot_standby") || is_on(conn, "default_transaction_read_only");
}

bool mp_conn_took_no_write(const struct mp_conn *conn, struct mp_err *err) {
  bool standby = is_on(conn, "in_hot_standby");
  bool write = !strcmp(err->sqlstate, "25006");
  bool serializable = standby && !strcmp(err->sqlstate, "0A000") &&
                      strstr(err->msg, "serializable mode in a hot standby");
  if (!serializable && !(write && mp_conn_read_only(conn))) return false;
  char state[sizeof err->sqlstate];
  memcpy(state, err->sqlstate, sizeof state);
  mp_err_set(err, MP_ESQL, "the database server takes no writes: it is %s",
             standby ? "a standby" : "set to read only (default_transaction_read_only)");
  memcpy(err->sqlstate, state, sizeof state);
  strcpy(err->name, "DATABASE_READ_ONLY");
  err->flags = MP_ERRF_RETRYABLE;
  return true;
}

const char *mp_conn_server(const struct mp_conn *conn) { return conn->server; }

bool mp_conn_alive(const struct mp_conn *conn) {
  return conn->state == MP_CONN_READY && !conn->ending;
}

bool mp_conn_reusable(const struct mp_conn *conn) {
  return mp_conn_alive(conn) && !conn->ops.len && !conn->copy && !mp_conn_cancel_pending(conn) &&
         PQtransactionStatus(conn->pg) == PQTRANS_IDLE;
}

PGTransactionStatusType mp_conn_tx_status(const struct mp_conn *conn) {
  return mp_conn_alive(conn) ? PQtransactionStatus(conn->pg) : PQTRANS_UNKNOWN;
}

int mp_conn_backend_pid(const struct mp_conn *conn) {
  return conn->pg ? PQbackendPID(conn->pg) : 0;
}
uint64_t mp_conn_opened_ms(const struct mp_conn *conn) { return conn->opened_ms; }

const char *mp_conn_running_sql(const struct mp_conn *conn) {
  for (size_t i = 0; i < conn->ops.len; i++) {
    const struct mp_op *op = &conn->ops.at[(conn->ops.head + i) % conn->ops.cap];
    if (op->kind == MP_OP_EXEC) return op->req->sql;
  }
  return NULL;
}
