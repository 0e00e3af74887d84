/* conn.c: the states of a connection, its deadline and its end: what reading (read.c) and answering
 * (answer.c) share. */
#include "http/conn.h"

#include <stdlib.h>
#include <string.h>

#include "util/log.h"

static const char *unsound(const void *object) {
  const struct mp_http_conn *conn = object;
  switch (conn->state) {
    case MP_HTTP_READING:
    case MP_HTTP_LAST: return conn->owned ? "the handler still owns the request" : NULL;
    case MP_HTTP_STREAMING: return conn->owned ? NULL : "no handler owns the request";
    case MP_HTTP_CALLED: /* the handler is about to get it */
    case MP_HTTP_CLOSING:
    case MP_HTTP_CLOSED: return NULL;
  }
  return NULL;
}

MP_SM_TABLE(sm, "http", MP_HTTP_CONN_STATE_MAP, unsound);

bool mp_http_conn_move(struct mp_http_conn *conn, enum mp_http_conn_state to) {
  bool right = mp_sm_may(&sm, conn->state, to);
  if (right) {
    conn->state = to;
    right = mp_sm_sound(&sm, conn, to);
  }
  if (!right) mp_http_conn_close(conn);
  return right;
}

/* ---- the end ---- */

/* The last connection is gone: the drain may be over. */
static void settle(struct mp_http_server *server) {
  if (server->draining && mp_list_empty(&server->conns)) mp_timer_start(&server->timer, 0);
}

void mp_http_conn_free(struct mp_http_conn *conn) {
  struct mp_http_server *server = conn->server;
  mp_list_remove(&conn->node);
  mp_http_parser_fini(&conn->parser);
  mp_buf_fini(&conn->ahead);
  free(conn);
  settle(server);
}

/* The connection must not be touched afterwards: the handler may answer and thereby free it. */
void mp_http_conn_tell_gone(struct mp_http_conn *conn) {
  void (*on_gone)(struct mp_http_request *) = conn->request.on_gone;
  conn->request.on_gone = NULL;
  if (on_gone) on_gone(&conn->request);
}

static void on_closed(uv_handle_t *handle) {
  struct mp_http_conn *conn = handle->data;
  mp_http_conn_move(conn, MP_HTTP_CLOSED);
  if (conn->owned)
    mp_http_conn_tell_gone(conn);
  else
    mp_http_conn_free(conn);
}

void mp_http_conn_close(struct mp_http_conn *conn) {
  if (mp_http_conn_lost(conn)) return;
  if (conn->owned) conn->server->stats.lost++;
  mp_http_conn_move(conn, MP_HTTP_CLOSING);
  mp_http_crowd_leave(&conn->server->crowd, &conn->seat);
  mp_timer_stop(&conn->timer);
  mp_timer_stop(&conn->pump);
  uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

static void on_shutdown(uv_shutdown_t *req, int status) {
  if (status) mp_http_conn_close(req->data);
}

/* LAST, and everything is written: shuts our side down and waits a little for the client's end.
 * Closing at once, while bytes of the client are unread, would make the kernel reset the connection
 * and lose the answer. */
void mp_http_conn_shut_down(struct mp_http_conn *conn) {
  if (conn->ended) {
    mp_http_conn_close(conn);
    return;
  }
  conn->shutdown.data = conn;
  if (uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->tcp, on_shutdown))
    mp_http_conn_close(conn);
  mp_http_conn_set_deadline(conn, conn->server->options.linger_ms);
}

/* ---- waiting and reading ---- */

void mp_http_conn_set_deadline(struct mp_http_conn *conn, uint64_t delay_ms) {
  conn->deadline_ms = mp_loop_now_ms(conn->server->loop) + delay_ms;
  if (!mp_timer_running(&conn->timer) || conn->timer.due_ms > conn->deadline_ms)
    mp_timer_start_at(&conn->timer, conn->deadline_ms);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  struct mp_http_conn *conn = handle->data;
  (void)suggested;
  *buf = uv_buf_init(conn->server->scratch, sizeof conn->server->scratch);
}

void mp_http_conn_set_reading(struct mp_http_conn *conn, bool on) {
  if (conn->ended || mp_http_conn_lost(conn) || conn->reading == on) return;
  conn->reading = on;
  if (on)
    uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, conn->on_read);
  else
    uv_read_stop((uv_stream_t *)&conn->tcp);
}

/* ---- its place in the crowd ---- */

static enum mp_http_waits waits_of(const struct mp_http_conn *conn) {
  switch (conn->state) {
    case MP_HTTP_READING:
      if (conn->writes) return MP_HTTP_UNREAD;
      return conn->in_request || !conn->served ? MP_HTTP_UNFINISHED : MP_HTTP_IDLE;
    case MP_HTTP_STREAMING: return conn->writes ? MP_HTTP_UNREAD : MP_HTTP_NONE;
    case MP_HTTP_LAST: return conn->writes ? MP_HTTP_UNREAD : MP_HTTP_IDLE;
    case MP_HTTP_CALLED:
    case MP_HTTP_CLOSING:
    case MP_HTTP_CLOSED: return MP_HTTP_NONE;
  }
  return MP_HTTP_NONE;
}

static size_t kept_for(const struct mp_http_conn *conn) {
  if (mp_http_conn_lost(conn)) return 0;
  return conn->parser.head.cap + conn->parser.body.cap + conn->ahead.cap + conn->unsent;
}

void mp_http_conn_see(struct mp_http_conn *conn) {
  struct mp_http_server *server = conn->server;
  mp_http_crowd_see(&server->crowd, &conn->seat, waits_of(conn), kept_for(conn),
                    mp_loop_now_ms(server->loop));
}
