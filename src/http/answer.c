/* answer.c: what goes out: heads, bodies, chunks, and the writing of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/conn.h"
#include "util/log.h"

enum { SMALL_BODY = 16 * 1024 }; /* copied behind the head, so that one write has one piece */

/* ---- after an answer ---- */

/* After an answer: the connection waits for the next request, or ends. */
static void next_or_end(struct mp_http_conn *conn) {
  if (conn->last_answer || conn->server->draining) {
    if (!mp_http_conn_move(conn, MP_HTTP_LAST)) return;
    mp_http_parser_fini(&conn->parser);
    mp_buf_fini(&conn->ahead);
    conn->ahead_at = 0;
    mp_http_conn_set_reading(conn, true);
    if (!conn->writes) mp_http_conn_shut_down(conn);
    return;
  }
  if (conn->state != MP_HTTP_READING && !mp_http_conn_move(conn, MP_HTTP_READING)) return;
  mp_http_parser_reset(&conn->parser);
  conn->in_request = false;
  conn->body_start_ms = 0;
  if (!conn->writes) mp_http_conn_set_deadline(conn, conn->server->options.idle_ms);
  if (conn->ahead_at < conn->ahead.len || conn->ended) mp_timer_start(&conn->pump, 0);
}

static void answered(struct mp_http_conn *conn) {
  if (conn->owned) {
    conn->owned = false;
    conn->request = (struct mp_http_request){0};
    conn->server->stats.requests--;
    conn->server->stats.answered++;
  }
  if (conn->state == MP_HTTP_CLOSED) {
    mp_http_conn_free(conn);
  } else if (conn->state != MP_HTTP_CLOSING) {
    conn->active_ms = mp_loop_now_ms(conn->server->loop);
    next_or_end(conn);
    mp_http_conn_see(conn);
  }
}

/* ---- writing ---- */

struct write {
  uv_write_t req;
  size_t len;
  char bytes[];
};

static void written(struct mp_http_conn *conn) {
  switch (conn->state) {
    case MP_HTTP_READING:
      if (!conn->in_request) mp_http_conn_set_deadline(conn, conn->server->options.idle_ms);
      conn->go_on(conn);
      return;
    case MP_HTTP_STREAMING:
      if (conn->request.on_written) conn->request.on_written(&conn->request);
      return;
    case MP_HTTP_LAST: mp_http_conn_shut_down(conn); return;
    case MP_HTTP_CALLED:
    case MP_HTTP_CLOSING:
    case MP_HTTP_CLOSED: return;
  }
}

static void all_written(struct mp_http_conn *conn) {
  written(conn);
  mp_http_conn_see(conn);
}

static void on_write(uv_write_t *req, int status) {
  struct write *write = MP_CONTAINER_OF(req, struct write, req);
  struct mp_http_conn *conn = req->handle->data;
  conn->writes--;
  conn->unsent -= write->len;
  free(write);
  if (status)
    mp_http_conn_close(conn);
  else if (!conn->writes)
    all_written(conn);
  else
    mp_http_conn_see(conn);
}

void mp_http_conn_write(struct mp_http_conn *conn, const uv_buf_t *pieces, unsigned n) {
  uv_stream_t *stream = (uv_stream_t *)&conn->tcp;
  if (mp_http_conn_lost(conn)) return;
  size_t total = 0, done = 0;
  for (unsigned i = 0; i < n; i++) total += pieces[i].len;
  if (!conn->writes) {
    int rv = uv_try_write(stream, pieces, n);
    if (rv < 0 && rv != UV_EAGAIN) {
      mp_http_conn_close(conn);
      return;
    }
    done = rv > 0 ? (size_t)rv : 0;
    if (done == total) return;
  }
  struct write *write = malloc(sizeof *write + total - done);
  if (!write) {
    mp_http_conn_close(conn);
    return;
  }
  write->len = 0;
  for (unsigned i = 0; i < n; i++) {
    size_t skip = done < pieces[i].len ? done : pieces[i].len;
    if (pieces[i].base && pieces[i].len > skip)
      memcpy(write->bytes + write->len, pieces[i].base + skip, pieces[i].len - skip);
    write->len += pieces[i].len - skip;
    done -= skip;
  }
  uv_buf_t rest = uv_buf_init(write->bytes, (unsigned)write->len);
  if (uv_write(&write->req, stream, &rest, 1, on_write)) {
    free(write);
    mp_http_conn_close(conn);
    return;
  }
  if (!conn->writes++) {
    conn->unsent_seen = SIZE_MAX;
    mp_http_conn_set_deadline(conn, conn->server->options.unsent_ms);
  }
  conn->unsent += write->len;
  mp_http_conn_see(conn);
}

/* ---- heads ---- */

static void add_date(struct mp_http_server *server) {
  uint64_t now_s = mp_loop_wall_us(server->loop) / 1000000u;
  if (now_s != server->date_s) {
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t at = (time_t)now_s;
    struct tm tm;
    gmtime_r(&at, &tm); /* not strftime: names must not follow the locale */
    snprintf(server->date, sizeof server->date, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
             days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
             tm.tm_min, tm.tm_sec);
    server->date_s = now_s;
  }
  mp_buf_adds(&server->out, server->date);
}

static bool plain(const char *text) {
  for (; *text; text++)
    if (((unsigned char)*text < ' ' && *text != '\t') || *text == 0x7f) return false;
  return true;
}

static void add_field(struct mp_buf *out, const char *name, const char *value) {
  if (!plain(name) || !plain(value)) {
    mp_log(MP_LOG_ERROR, "http",
           "fault of the host: a header with a control character was left out");
    return;
  }
  mp_buf_adds(out, name);
  mp_buf_add(out, ": ", 2);
  mp_buf_adds(out, value);
  mp_buf_add(out, "\r\n", 2);
}

/* Writes the head except the fields that frame the body; decides whether the connection stays open.
 */
static struct mp_buf *start_head(struct mp_http_conn *conn, const struct mp_http_answer *answer) {
  struct mp_http_server *server = conn->server;
  struct mp_buf *out = &server->out;
  mp_buf_clear(out);
  mp_buf_adds(out, "HTTP/1.1 ");
  mp_buf_addi(out, answer->status);
  mp_buf_addc(out, ' ');
  mp_buf_adds(out, mp_http_reason(answer->status));
  mp_buf_add(out, "\r\n", 2);
  add_date(server);
  mp_buf_adds(out, "X-Content-Type-Options: nosniff\r\n");
  if (server->draining || conn->ended) conn->last_answer = true;
  if (conn->last_answer)
    mp_buf_adds(out, "Connection: close\r\n");
  else if (!conn->parser.message.minor)
    mp_buf_adds(out, "Connection: keep-alive\r\n");
  if (answer->content_type || answer->body)
    add_field(out, "Content-Type",
              answer->content_type ? answer->content_type : "application/json");
  for (size_t i = 0; i < answer->fields_len; i++)
    add_field(out, answer->fields[i].name, answer->fields[i].value);
  return out;
}

/* Sends the head in server->out and a body behind it. */
static void send_head(struct mp_http_conn *conn, const char *body, size_t len) {
  struct mp_buf *out = &conn->server->out;
  if (len <= SMALL_BODY) mp_buf_add(out, body, len);
  if (out->failed) {
    mp_http_conn_close(conn);
    return;
  }
  uv_buf_t pieces[2] = {{.base = out->data, .len = out->len},
                        {.base = (char *)(uintptr_t)body, .len = len}};
  mp_http_conn_write(conn, pieces, len <= SMALL_BODY ? 1 : 2);
}

/* ---- what handlers call ---- */

static struct mp_http_conn *conn_of(struct mp_http_request *request) {
  return MP_CONTAINER_OF(request, struct mp_http_conn, request);
}

void mp_http_respond(struct mp_http_request *request, const struct mp_http_answer *answer) {
  struct mp_http_conn *conn = conn_of(request);
  if (!mp_http_conn_lost(conn)) {
    bool empty = answer->status == 204 || answer->status == 304;
    struct mp_buf *out = start_head(conn, answer);
    if (!empty) {
      mp_buf_adds(out, "Content-Length: ");
      mp_buf_addi(out, (long long)answer->body_len);
      mp_buf_add(out, "\r\n", 2);
    }
    mp_buf_add(out, "\r\n", 2);
    send_head(conn, answer->body, empty || conn->silent ? 0 : answer->body_len);
  }
  answered(conn);
}

void mp_http_stream_start(struct mp_http_request *request, const struct mp_http_answer *answer) {
  struct mp_http_conn *conn = conn_of(request);
  if (mp_http_conn_lost(conn)) return;
  conn->framed = conn->parser.message.minor >= 1;
  if (!conn->framed)
    conn->last_answer = true; /* the end of the connection is the end of the body */
  struct mp_buf *out = start_head(conn, answer);
  mp_buf_adds(out, conn->framed ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
  if (!mp_http_conn_move(conn, MP_HTTP_STREAMING)) return;
  send_head(conn, "", 0);
  if (answer->body_len) mp_http_stream_write(request, answer->body, answer->body_len);
}

size_t mp_http_stream_write(struct mp_http_request *request, const char *bytes, size_t n) {
  struct mp_http_conn *conn = conn_of(request);
  if (mp_http_conn_lost(conn) || conn->silent || !n) return conn->unsent;
  char size[24];
  uv_buf_t pieces[3] = {{.base = size, .len = (size_t)snprintf(size, sizeof size, "%zx\r\n", n)},
                        {.base = (char *)(uintptr_t)bytes, .len = n},
                        {.base = (char *)(uintptr_t) "\r\n", .len = 2}};
  mp_http_conn_write(conn, conn->framed ? pieces : pieces + 1, conn->framed ? 3 : 1);
  if (conn->unsent > conn->server->options.unsent_bytes) mp_http_conn_close(conn);
  return conn->unsent;
}

void mp_http_stream_end(struct mp_http_request *request) {
  struct mp_http_conn *conn = conn_of(request);
  uv_buf_t end = {.base = (char *)(uintptr_t) "0\r\n\r\n", .len = 5};
  if (conn->framed && !conn->silent) mp_http_conn_write(conn, &end, 1);
  answered(conn);
}

/* ---- answers of the server's own ---- */

void mp_http_conn_refuse(struct mp_http_conn *conn, int status, const char *why) {
  char body[256];
  int len = snprintf(body, sizeof body, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}\n",
                     mp_http_code(status), why);
  struct mp_http_field retry = {"Retry-After", "1"};
  struct mp_http_answer answer = {.status = status,
                                  .body = body,
                                  .body_len = (size_t)len,
                                  .fields = &retry,
                                  .fields_len = status == 503};
  conn->last_answer = true;
  start_head(conn, &answer);
  mp_buf_adds(&conn->server->out, "Content-Length: ");
  mp_buf_addi(&conn->server->out, len);
  mp_buf_adds(&conn->server->out, "\r\n\r\n");
  send_head(conn, body, (size_t)len);
  answered(conn);
}
