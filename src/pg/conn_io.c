/* conn_io.c: requests out, answers in. The ring of ops mirrors libpq's own queue of what the server
 * still owes; each answer belongs to the op at its head. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "pg/conn_internal.h"
#include "pg/sqlstate.h"
#include "util/pre.h"

/* Room for what is about to be sent: without its entry in the ring, every later answer would go to
 * the wrong request. */
static bool ops_reserve(struct mp_conn *conn, size_t n) {
  struct mp_op_ring *ops = &conn->ops;
  if (ops->cap - ops->len >= n) return true;
  size_t cap = ops->cap ? ops->cap * 2 : 32;
  struct mp_op *at = malloc(cap * sizeof *at);
  if (!at) return false;
  for (size_t i = 0; i < ops->len; i++) at[i] = ops->at[(ops->head + i) % ops->cap];
  free(ops->at);
  *ops = (struct mp_op_ring){.at = at, .len = ops->len, .cap = cap};
  return true;
}

static void ops_push(struct mp_conn *conn, struct mp_op op) {
  struct mp_op_ring *ops = &conn->ops;
  PRE(ops->len < ops->cap);
  ops->at[(ops->head + ops->len++) % ops->cap] = op;
}

static struct mp_op ops_pop(struct mp_conn *conn) {
  struct mp_op_ring *ops = &conn->ops;
  struct mp_op op = ops->at[ops->head];
  ops->head = (ops->head + 1) % ops->cap;
  ops->len--;
  conn->arrived = 0;
  if (++conn->answered == conn->cancel_upto) mp_timer_stop(&conn->cancel_timer);
  return op;
}

static void lost(struct mp_conn *conn, const char *what) {
  struct mp_err err;
  if (conn->last_fatal.code) {
    err = conn->last_fatal;
    err.code = MP_ECONN;
  } else {
    const char *text = PQerrorMessage(conn->pg);
    size_t len = strcspn(text, "\n");
    mp_err_set(&err, MP_ECONN, "%s: %.*s", what, (int)(len ? len : strlen("the server went away")),
               len ? text : "the server went away");
  }
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  mp_conn_end(conn, &err);
}

void mp_conn_fail_ops(struct mp_conn *conn, const struct mp_err *err) {
  mp_result_unref(conn->result);
  conn->result = NULL;
  mp_conn_copy_fail(conn, err);
  while (conn->ops.len) {
    struct mp_op op = ops_pop(conn);
    switch (op.kind) {
      case MP_OP_EXEC:
        if (!op.failed_parse) op.req->on_done(op.req, NULL, err);
        break;
      case MP_OP_SYNC: op.sync->on_done(op.sync, NULL, err); break;
      case MP_OP_PARSE: /* its EXEC follows */
      case MP_OP_DEALLOCATE:
      case MP_OP_OWN_SYNC: break;
    }
  }
  struct mp_list *node;
  while ((node = mp_list_pop_front(&conn->unsent))) {
    struct mp_unsent *unsent = MP_LIST_ENTRY(node, struct mp_unsent, node);
    unsent->tell(unsent, err);
  }
}

/* ---- out ---- */

/* False: the connection is ending, or ends because there is no memory for `n` ops. */
static bool ready(struct mp_conn *conn, size_t n) {
  struct mp_err err;
  if (!mp_conn_alive(conn)) return false;
  if (ops_reserve(conn, n)) return true;
  mp_err_set(&err, MP_ENOMEM, "no memory for a statement");
  err.flags = MP_ERRF_CONN_DEAD;
  mp_conn_end(conn, &err);
  return false;
}

static void tell_at_end(struct mp_conn *conn, struct mp_unsent *unsent,
                        void (*tell)(struct mp_unsent *unsent, const struct mp_err *err)) {
  unsent->tell = tell;
  mp_list_push_back(&conn->unsent, &unsent->node);
  mp_timer_start(&conn->end_timer, 0);
}

static void tell_req(struct mp_unsent *unsent, const struct mp_err *err) {
  struct mp_req *req = MP_CONTAINER_OF(unsent, struct mp_req, unsent);
  req->on_done(req, NULL, err);
}

static void tell_sync(struct mp_unsent *unsent, const struct mp_err *err) {
  struct mp_sync *sync = MP_CONTAINER_OF(unsent, struct mp_sync, unsent);
  sync->on_done(sync, NULL, err);
}

/* Deallocates what the cache has dropped, in a segment of its own so that a failure affects nothing
 * else. Only between transactions: a failed one would skip it. */
static void deallocate_dropped(struct mp_conn *conn) {
  unsigned number;
  bool any = false;
  if (conn->ops.len || PQtransactionStatus(conn->pg) != PQTRANS_IDLE) return;
  while (ops_reserve(conn, 2) && mp_stmt_take_dropped(&conn->stmts, &number)) {
    char sql[40], name[MP_STMT_NAME_SIZE];
    mp_stmt_name(number, name);
    snprintf(sql, sizeof sql, "DEALLOCATE %s", name);
    if (!PQsendQueryParams(conn->pg, sql, 0, NULL, NULL, NULL, NULL, 0)) return;
    ops_push(conn, (struct mp_op){.kind = MP_OP_DEALLOCATE});
    any = true;
  }
  if (!any) return;
  if (PQpipelineSync(conn->pg)) ops_push(conn, (struct mp_op){.kind = MP_OP_OWN_SYNC});
}

static int send_prepared(struct mp_conn *conn, struct mp_req *req) {
  char name[MP_STMT_NAME_SIZE];
  unsigned number = mp_stmt_find(&conn->stmts, req->sql);
  if (!number) {
    number = mp_stmt_add(&conn->stmts, req->sql);
    if (!number) return -1;
    mp_stmt_name(number, name);
    if (!PQsendPrepare(conn->pg, name, req->sql, req->types ? req->nparams : 0, req->types))
      return 0;
    ops_push(conn, (struct mp_op){.kind = MP_OP_PARSE, .req = req});
  } else {
    mp_stmt_name(number, name);
  }
  return req->flags & MP_REQ_DESCRIBE
             ? PQsendDescribePrepared(conn->pg, name)
             : PQsendQueryPrepared(conn->pg, name, req->nparams, req->values, NULL, NULL, 0);
}

void mp_conn_send(struct mp_conn *conn, struct mp_req *req) {
  PRE(req->sql && req->on_done);
  if (mp_conn_alive(conn)) deallocate_dropped(conn);
  if (!ready(conn, 2)) { /* a Parse may go in front */
    tell_at_end(conn, &req->unsent, tell_req);
    return;
  }
  int sent = -1;
  if (req->flags & MP_REQ_DESCRIBE || (conn->stmts.limit && !(req->flags & MP_REQ_ONCE)))
    sent = send_prepared(conn, req);
  if (sent < 0)
    sent =
        PQsendQueryParams(conn->pg, req->sql, req->nparams, req->types, req->values, NULL, NULL, 0);
  if (!sent) lost(conn, "cannot send a statement");
  ops_push(conn, (struct mp_op){.kind = MP_OP_EXEC, .req = req});
}

static void flush(struct mp_conn *conn) {
  switch (PQflush(conn->pg)) {
    case 0: mp_conn_watch(conn, UV_READABLE, mp_conn_on_io); break;
    case 1: mp_conn_watch(conn, UV_READABLE | UV_WRITABLE, mp_conn_on_io); break;
    default: lost(conn, "cannot send"); break;
  }
}

void mp_conn_sync(struct mp_conn *conn, struct mp_sync *sync) {
  PRE(sync->on_done);
  if (!ready(conn, 1)) {
    tell_at_end(conn, &sync->unsent, tell_sync);
    return;
  }
  bool sent = PQpipelineSync(conn->pg);
  ops_push(conn, (struct mp_op){.kind = MP_OP_SYNC, .sync = sync});
  if (sent)
    flush(conn);
  else
    lost(conn, "cannot send");
}

/* ---- in ---- */

static const struct mp_err skipped_err = {
    .code = MP_ECANCELED, .msg = "skipped, because an earlier statement of the same batch failed"};

/* A text whose Parse failed must not count as prepared. */
static void forget_text(struct mp_conn *conn, struct mp_req *req, bool on_server) {
  mp_stmt_drop(&conn->stmts, req->sql, on_server);
}

static void answer(struct mp_conn *conn, struct mp_op op) {
  struct mp_result *result = conn->result;
  struct mp_err err;
  bool aborted = conn->aborted_result;
  conn->result = NULL;
  conn->aborted_result = false;
  ExecStatusType status = result ? PQresultStatus(result->pg) : PGRES_FATAL_ERROR;
  bool ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
  switch (op.kind) {
    case MP_OP_PARSE:
      if (ok) break;
      forget_text(conn, op.req, false);
      if (aborted || !result) break; /* its EXEC is skipped too and tells the request */
      conn->ops.at[conn->ops.head].failed_parse = true; /* the EXEC is next in line */
      mp_err_from_result(&err, result->pg);
      op.req->on_done(op.req, result, &err);
      break;
    case MP_OP_EXEC:
      if (op.failed_parse) break;
      if (aborted) {
        op.req->on_done(op.req, NULL, &skipped_err);
      } else if (ok) {
        op.req->on_done(op.req, result, NULL);
      } else if (!result) {
        mp_err_set(&err, MP_EINTERNAL, "the server did not answer a statement");
        op.req->on_done(op.req, NULL, &err);
      } else if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
        mp_err_set(&err, MP_EINVAL,
                   "COPY cannot be sent as a statement; it would end the connection");
        op.req->on_done(op.req, result, &err);
        mp_conn_end(conn, &err);
      } else {
        mp_err_from_result(&err, result->pg);
        /* A column's type may have changed under the prepared text. */
        if (!strncmp(err.sqlstate, "42", 2)) forget_text(conn, op.req, true);
        /* One text is out of date or deallocated, so the others most likely are too. */
        if (err.flags & MP_ERRF_STALE)
          mp_stmt_drop_all(&conn->stmts, strcmp(err.sqlstate, "26000") != 0);
        op.req->on_done(op.req, result, &err);
      }
      break;
    case MP_OP_SYNC:
      if (result && !ok) mp_err_from_result(&err, result->pg);
      op.sync->on_done(op.sync, result, result && !ok ? &err : NULL);
      break;
    case MP_OP_DEALLOCATE:
    case MP_OP_OWN_SYNC: break;
  }
  mp_result_unref(result);
}

enum { EMPTY_MOST = 8 };

static void take_answers(struct mp_conn *conn) {
  unsigned empty = 0; /* NULLs in a row: one ends a statement, and one may follow a COPY */
  while (conn->ops.len && mp_conn_alive(conn) && !PQisBusy(conn->pg)) {
    enum mp_op_kind kind = conn->ops.at[conn->ops.head].kind;
    PGresult *pg = PQgetResult(conn->pg);
    if (!pg) { /* complete; libpq gives NULL for ever when the connection is bad */
      if (PQstatus(conn->pg) == CONNECTION_BAD) {
        lost(conn, "connection lost");
        return;
      }
      if (++empty > EMPTY_MOST) { /* libpq had no memory for an answer, and gives NULL for ever */
        lost(conn, "an answer is missing");
        return;
      }
      if (kind != MP_OP_SYNC && kind != MP_OP_OWN_SYNC && (conn->result || conn->aborted_result))
        answer(conn, ops_pop(conn));
      continue;
    }
    empty = 0;
    ExecStatusType status = PQresultStatus(pg);
    if (status == PGRES_PIPELINE_SYNC) {
      PQclear(pg);
      answer(conn, ops_pop(conn));
    } else if (status == PGRES_PIPELINE_ABORTED) {
      PQclear(pg);
      conn->aborted_result = true;
    } else if (conn->result) {
      PQclear(pg); /* one statement gives one result; a second one can only come from a lost
                      connection */
    } else {
      conn->result = mp_result_new(pg);
      if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT) answer(conn, ops_pop(conn));
    }
  }
}

static void notifications(struct mp_conn *conn) {
  PGnotify *notify;
  while (!conn->ending && (notify = PQnotifies(conn->pg))) {
    if (conn->events.on_notify)
      conn->events.on_notify(conn, conn->data, notify->relname, notify->extra);
    PQfreemem(notify);
  }
}

static size_t unread(const struct mp_conn *conn) {
  int bytes = 0;
  return ioctl(PQsocket(conn->pg), FIONREAD, &bytes) || bytes < 0 ? 0 : (size_t)bytes;
}

/* Has libpq read what there is? libpq does not tell how much that was: at least what is missing in
 * the socket now, and at least the room that its buffer has at the least. */
static bool consume(struct mp_conn *conn) {
  enum { LIBPQ_READS = 8 << 10 };
  size_t before = unread(conn);
  if (!PQconsumeInput(conn->pg)) return false;
  size_t after = before > LIBPQ_READS ? unread(conn) : 0;
  size_t read = before > after ? before - after : 0;
  conn->arrived += read > LIBPQ_READS || before < LIBPQ_READS ? read : LIBPQ_READS;
  return true;
}

/* The server would go on sending. A cancel request could meet a later statement. */
static void end_flood(struct mp_conn *conn) {
  struct mp_err err;
  if (!conn->answer_limit || conn->arrived <= conn->answer_limit || !conn->ops.len) return;
  mp_err_set(&err, MP_EINVAL,
             "a result is far larger than MOONPOOL_RESULT_LIMIT, and its connection was closed: "
             "select less, or in parts");
  err.flags = MP_ERRF_CONN_DEAD;
  mp_conn_end(conn, &err);
}

void mp_conn_on_io(uv_poll_t *poll, int status, int events) {
  struct mp_conn *conn = poll->data;
  conn->pins++; /* a callback may close us */
  if (status < 0 && !(events & UV_READABLE)) {
    lost(conn, "connection lost"); /* libuv has stopped the handle: nothing more would come */
  } else if (conn->copy) {
    mp_conn_copy_io(conn);
  } else {
    bool alive = true;
    do {
      /* Also on "writable": a server that waits for us to read would never read. */
      alive = consume(conn);
      take_answers(conn);
      if (alive && mp_conn_alive(conn)) end_flood(conn);
    } while (alive && !conn->ending && mp_conn_tls_pending(conn));
    if (mp_conn_alive(conn)) {
      notifications(conn);
      if (!alive || PQstatus(conn->pg) == CONNECTION_BAD || PQsocket(conn->pg) < 0)
        lost(conn, "connection lost");
      else if (conn->poll_mask & UV_WRITABLE)
        flush(conn);
    }
  }
  mp_conn_unpin(conn);
}
