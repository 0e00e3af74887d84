#include "pg/copy.h"

#include <string.h>

#include "pg/conn_internal.h"
#include "pg/sqlstate.h"

static void lost(struct mp_conn *conn) {
  struct mp_err err;
  const char *text = PQerrorMessage(conn->pg);
  mp_err_set(&err, MP_ECONN, "connection lost during COPY: %.*s", (int)strcspn(text, "\n"), text);
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  mp_conn_end(conn, &err); /* which tells the copy: mp_conn_copy_fail */
}

/* Watches for what the state needs. */
static void watch(struct mp_conn *conn) {
  int unsent = PQflush(conn->pg);
  if (unsent < 0) {
    lost(conn);
    return;
  }
  mp_conn_watch(conn, unsent ? UV_READABLE | UV_WRITABLE : UV_READABLE, conn->parts->on_io);
}

static void finish(struct mp_conn *conn) {
  struct mp_copy *copy = conn->copy;
  struct mp_result *result = copy->result;
  struct mp_err err = {.code = MP_OK};
  copy->result = NULL;
  conn->copy = NULL;
  if (!result)
    mp_err_set(&err, MP_EINTERNAL, "the server did not answer COPY");
  else if (PQresultStatus(result->pg) == PGRES_COPY_BOTH)
    mp_err_set(&err, MP_EINVAL, "this is not a COPY of a table");
  else if (PQresultStatus(result->pg) != PGRES_COMMAND_OK &&
           PQresultStatus(result->pg) != PGRES_TUPLES_OK)
    mp_err_from_result(&err, result->pg);
  if (!PQenterPipelineMode(conn->pg)) {
    struct mp_err gone;
    mp_err_set(&gone, MP_EINTERNAL, "cannot enter pipeline mode again after COPY");
    gone.flags = MP_ERRF_CONN_DEAD;
    mp_conn_end(conn, &gone);
  } else {
    watch(conn);
  }
  copy->on_done(copy, result, err.code ? &err : NULL);
  mp_result_unref(result);
}

/* One PGresult after the other until libpq says that there are no more. */
static void take_results(struct mp_conn *conn) {
  struct mp_copy *copy = conn->copy;
  while (conn->copy && !PQisBusy(conn->pg)) {
    PGresult *pg = PQgetResult(conn->pg);
    if (!pg) {
      if (PQstatus(conn->pg) == CONNECTION_BAD)
        lost(conn);
      else
        finish(conn);
      return;
    }
    ExecStatusType status = PQresultStatus(pg);
    if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT) {
      PQclear(pg);
      if (copy->state == MP_COPY_STARTING) {
        copy->state = status == PGRES_COPY_IN ? MP_COPY_PUTTING : MP_COPY_GETTING;
        copy->on_ready(copy);
        return;
      }
      if (status == PGRES_COPY_IN) /* a second COPY in the same text: no */
        PQputCopyEnd(conn->pg, "one COPY at a time");
      else
        lost(conn);
      return;
    }
    if (copy->state == MP_COPY_STARTING && status == PGRES_COMMAND_OK &&
        !strcmp(PQcmdStatus(pg), "SET")) {
      PQclear(pg);
      continue;
    }
    /* The first failure counts; else the last result. */
    if (copy->result && PQresultStatus(copy->result->pg) == PGRES_FATAL_ERROR) {
      PQclear(pg);
      continue;
    }
    mp_result_unref(copy->result);
    copy->result = mp_result_new(pg);
    copy->state = MP_COPY_ENDING;
  }
}

void mp_conn_copy_io(struct mp_conn *conn) {
  struct mp_copy *copy = conn->copy;
  bool unsent_before = conn->poll_mask & UV_WRITABLE; /* PQconsumeInput sends, too */
  do {
    if (!PQconsumeInput(conn->pg)) {
      lost(conn);
      return;
    }
  } while (copy->state != MP_COPY_GETTING && mp_conn_tls_pending(conn));
  switch (copy->state) {
    case MP_COPY_PUTTING: {
      int unsent = PQflush(conn->pg);
      if (unsent < 0) {
        lost(conn);
      } else if (!unsent) {
        mp_conn_watch(conn, UV_READABLE, conn->parts->on_io);
        if (unsent_before) copy->on_ready(copy);
      }
      break;
    }
    case MP_COPY_GETTING:
      mp_conn_unwatch(conn); /* until somebody asks for more */
      copy->on_ready(copy);
      break;
    case MP_COPY_STARTING:
    case MP_COPY_ENDING:
      watch(conn);
      if (conn->copy && !conn->ending) take_results(conn);
      break;
  }
}

void mp_conn_copy_fail(struct mp_conn *conn, const struct mp_err *err) {
  struct mp_copy *copy = conn->copy;
  if (!copy) return;
  conn->copy = NULL;
  mp_result_unref(copy->result);
  copy->result = NULL;
  copy->on_done(copy, NULL, err);
}

int mp_conn_copy(struct mp_conn *conn, struct mp_copy *copy, struct mp_err *err) {
  if (!mp_conn_alive(conn)) return mp_err_set(err, MP_ECONN, "the connection is gone");
  if (conn->ops.len || conn->copy || mp_conn_canceling(conn) || !PQexitPipelineMode(conn->pg))
    return mp_err_set(err, MP_EBUSY, "COPY needs a connection on which nothing is under way");
  copy->state = MP_COPY_STARTING;
  copy->result = NULL;
  if (!PQsendQuery(conn->pg, copy->sql)) {
    (void)PQenterPipelineMode(conn->pg);
    return mp_err_set(err, MP_ECONN, "cannot send COPY: %s", PQerrorMessage(conn->pg));
  }
  conn->copy = copy;
  watch(conn);
  return 0;
}

void mp_conn_copy_put(struct mp_conn *conn, const char *data, size_t len) {
  if (!mp_conn_alive(conn)) return; /* on_done is on its way */
  while (len) {
    int part = len < 1 << 20 ? (int)len : 1 << 20;
    int put = PQputCopyData(conn->pg, data, part);
    if (put <= 0) { /* 0: libpq has no memory for it */
      lost(conn);
      return;
    }
    data += part;
    len -= (size_t)part;
  }
  if (PQflush(conn->pg) < 0)
    lost(conn);
  else /* on_ready comes from the loop even if all was sent at once */
    mp_conn_watch(conn, UV_READABLE | UV_WRITABLE, conn->parts->on_io);
}

void mp_conn_copy_end(struct mp_conn *conn, const char *failure) {
  if (!mp_conn_alive(conn)) return;
  conn->copy->state = MP_COPY_ENDING;
  if (PQputCopyEnd(conn->pg, failure) <= 0)
    lost(conn);
  else /* libpq may have read the answer already, of which no event would tell */
    mp_conn_watch(conn, UV_READABLE | UV_WRITABLE, conn->parts->on_io);
}

char *mp_conn_copy_get(struct mp_conn *conn, size_t *len) {
  if (!mp_conn_alive(conn)) return NULL;
  char *data;
  int got = PQgetCopyData(conn->pg, &data, 1);
  while (!got && mp_conn_tls_pending(conn) && PQconsumeInput(conn->pg))
    got = PQgetCopyData(conn->pg, &data, 1);
  if (got > 0) {
    *len = (size_t)got;
    return data;
  }
  if (got < 0) { /* the end, or an error: the results tell */
    conn->copy->state = MP_COPY_ENDING;
    if (!PQisBusy(conn->pg)) {
      /* They are here already, but nobody is called back from within this call. */
      mp_conn_watch(conn, UV_READABLE | UV_WRITABLE, conn->parts->on_io);
      return NULL;
    }
  }
  watch(conn);
  return NULL;
}
