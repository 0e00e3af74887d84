/* read.c: what a client sends: accepted, read, parsed, handed to the handler; and how long it may
 * take. */
#include <stdlib.h>
#include <string.h>

#include "http/conn.h"

enum {
  AHEAD_BYTES = 64 * 1024, /* kept of what a client sends ahead of its answers */
  AHEAD_KEEP_BYTES = 4096, /* of that buffer, while it is empty */
  DRAIN_IDLE_MS = 1000,    /* a client that was active so recently may be sending right now */
  EXTRA_CONNECTIONS = 100, /* beyond the limit, which may ask how the host is */
  PUMP_MS = 2,             /* in a row, to go on with what is ahead */
};

/* ---- deadlines ---- */

static void timed_out(struct mp_http_conn *conn, const char *why) {
  conn->server->stats.timed_out++;
  mp_http_conn_refuse(conn, 408, why);
}

/* The client has until the deadline to take something. */
static void check_unsent(struct mp_http_conn *conn) {
  if (conn->unsent >= conn->unsent_seen) {
    conn->server->stats.timed_out++;
    mp_http_conn_close(conn);
    return;
  }
  conn->unsent_seen = conn->unsent;
  mp_http_conn_set_deadline(conn, conn->server->options.unsent_ms);
}

static void check_request(struct mp_http_conn *conn, uint64_t now_ms) {
  const struct mp_http_options *options = &conn->server->options;
  if (!conn->in_request) {
    mp_http_conn_close(conn);
  } else if (!conn->body_start_ms) {
    timed_out(conn, "the head did not arrive in time");
  } else {
    uint64_t due_ms =
        conn->body_start_ms + options->body_ms + conn->body_seen * 1000 / options->body_rate;
    if (due_ms > now_ms)
      mp_http_conn_set_deadline(conn, due_ms - now_ms);
    else
      timed_out(conn, "the body did not arrive in time");
  }
}

static void on_timer(struct mp_timer *timer) {
  struct mp_http_conn *conn = MP_CONTAINER_OF(timer, struct mp_http_conn, timer);
  uint64_t now_ms = mp_loop_now_ms(conn->server->loop);
  if (now_ms < conn->deadline_ms) {
    mp_timer_start_at(&conn->timer, conn->deadline_ms);
    return;
  }
  if (conn->writes) {
    check_unsent(conn);
    return;
  }
  switch (conn->state) {
    case MP_HTTP_READING: check_request(conn, now_ms); return;
    case MP_HTTP_LAST: mp_http_conn_close(conn); return;
    case MP_HTTP_CALLED: /* how long an answer may take is the handler's business */
    case MP_HTTP_STREAMING:
    case MP_HTTP_CLOSING:
    case MP_HTTP_CLOSED: return;
  }
}

/* ---- requests ---- */

static void call(struct mp_http_conn *conn) {
  struct mp_http_server *server = conn->server;
  if (!mp_http_conn_move(conn, MP_HTTP_CALLED)) return;
  conn->request = (struct mp_http_request){.message = conn->parser.message, .extra = conn->extra};
  conn->owned = true;
  conn->served = true;
  conn->silent = conn->request.message.method == MP_HTTP_HEAD;
  conn->last_answer = conn->extra || !conn->request.message.keep_alive;
  server->stats.requests++;
  server->events.on_request(server, server->data, &conn->request);
}

static void start_body(struct mp_http_conn *conn, bool nothing_came) {
  conn->body_start_ms = conn->active_ms;
  conn->body_seen = 0;
  mp_http_conn_set_deadline(conn, conn->server->options.body_ms);
  if (!conn->parser.message.expects || !nothing_came) return;
  static char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
  uv_buf_t piece = {.base = go_on, .len = sizeof go_on - 1};
  mp_http_conn_write(conn, &piece, 1);
}

/* Reads on to the end of the bytes or of one request, which is then handed out. Returns how many it
 * took. */
static size_t step(struct mp_http_conn *conn, const char *bytes, size_t n) {
  size_t at = 0;
  for (;;) {
    size_t used;
    enum mp_http_parse got = mp_http_parser_feed(&conn->parser, bytes + at, n - at, &used);
    if (conn->body_start_ms) conn->body_seen += used;
    at += used;
    if (!conn->in_request && !mp_http_parser_idle(&conn->parser)) {
      conn->in_request = true;
      if (got == MP_HTTP_MORE) mp_http_conn_set_deadline(conn, conn->server->options.head_ms);
    }
    switch (got) {
      case MP_HTTP_MORE: return at;
      case MP_HTTP_HEAD_DONE: start_body(conn, at == n); break;
      case MP_HTTP_DONE: call(conn); return at;
      case MP_HTTP_REFUSED:
        conn->server->stats.malformed++;
        mp_http_conn_refuse(conn, conn->parser.status, conn->parser.why);
        return n;
    }
    if (mp_http_conn_lost(conn)) return n;
  }
}

/* Goes on with what was read ahead, request by request, while they are answered at once. */
static void pump(struct mp_http_conn *conn) {
  mp_timer_stop(&conn->pump);
  while (conn->state == MP_HTTP_READING && !conn->writes && conn->ahead_at < conn->ahead.len) {
    size_t used = step(conn, conn->ahead.data + conn->ahead_at, conn->ahead.len - conn->ahead_at);
    if (conn->ahead.len) conn->ahead_at += used; /* a last answer has thrown away what is ahead */
  }
  if (conn->ahead_at == conn->ahead.len) {
    if (conn->ahead.cap > AHEAD_KEEP_BYTES) mp_buf_fini(&conn->ahead);
    mp_buf_clear(&conn->ahead);
    conn->ahead_at = 0;
    /* The rest of a request will never come. */
    if (conn->ended && conn->state == MP_HTTP_READING && !conn->writes) mp_http_conn_close(conn);
  }
  if (conn->ahead.len - conn->ahead_at < AHEAD_BYTES) mp_http_conn_set_reading(conn, true);
}

/* Many clients may have sent much at once: each of them is read on in a later turn. */
static bool give_way(struct mp_http_conn *conn) {
  if (mp_loop_busy_ns(conn->server->loop) < MP_LOOP_GIVE_WAY_NS) return false;
  mp_http_conn_set_reading(conn, false);
  mp_timer_start(&conn->pump, 1);
  return true;
}

/* Timers fire one after the other: the first always goes on, the others while there is time. */
static bool others_took_long(struct mp_http_server *server) {
  uint64_t now_ms = mp_loop_now_ms(server->loop), now_ns = mp_loop_clock_ns(server->loop);
  if (server->pump_ms != now_ms) server->pump_ns = now_ns;
  server->pump_ms = now_ms;
  return now_ns - server->pump_ns >= PUMP_MS * UINT64_C(1000000);
}

static void on_pump(struct mp_timer *timer) {
  struct mp_http_conn *conn = MP_CONTAINER_OF(timer, struct mp_http_conn, pump);
  if (others_took_long(conn->server)) {
    mp_timer_start(&conn->pump, 1);
    return;
  }
  pump(conn);
  mp_http_conn_see(conn);
}

static void keep_ahead(struct mp_http_conn *conn, const char *bytes, size_t n) {
  mp_buf_add(&conn->ahead, bytes, n);
  if (conn->ahead.failed) mp_http_conn_close(conn);
  if (conn->ahead.len - conn->ahead_at >= AHEAD_BYTES) mp_http_conn_set_reading(conn, false);
}

static void on_end(struct mp_http_conn *conn) {
  mp_http_conn_set_reading(conn, false);
  conn->ended = true;
  switch (conn->state) {
    case MP_HTTP_READING: pump(conn); return;
    case MP_HTTP_CALLED:
    case MP_HTTP_STREAMING: mp_http_conn_tell_gone(conn); return;
    case MP_HTTP_LAST:
      if (!conn->writes) mp_http_conn_close(conn);
      return;
    case MP_HTTP_CLOSING:
    case MP_HTTP_CLOSED: return;
  }
}

static void take(struct mp_http_conn *conn, const char *bytes, size_t n) {
  size_t used = 0;
  bool later = give_way(conn);
  conn->active_ms = mp_loop_now_ms(conn->server->loop);
  if (conn->state == MP_HTTP_READING && !conn->writes && conn->ahead_at == conn->ahead.len &&
      !later)
    used = step(conn, bytes, n);
  if (used == n || mp_http_conn_lost(conn)) return;
  keep_ahead(conn, bytes + used, n - used);
  if (!later) pump(conn);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  struct mp_http_conn *conn = stream->data;
  if (n == 0) return;
  if (n == UV_EOF) {
    on_end(conn);
  } else if (n < 0) {
    mp_http_conn_close(conn);
  } else if (conn->state != MP_HTTP_LAST) {
    take(conn, buf->base, (size_t)n);
    mp_http_conn_see(conn);
  }
}

/* ---- the crowd ---- */

void mp_http_conn_dismiss(struct mp_http_seat *seat, bool for_memory) {
  struct mp_http_conn *conn = MP_CONTAINER_OF(seat, struct mp_http_conn, seat);
  conn->server->stats.dismissed++;
  if (for_memory && conn->state == MP_HTTP_READING && conn->body_start_ms && !conn->writes)
    mp_http_conn_refuse(conn, 503,
                        "the host holds too many unfinished requests and answers; try again");
  else
    mp_http_conn_close(conn);
}

/* ---- the beginning ---- */

void mp_http_conn_drain(struct mp_http_conn *conn) {
  if (conn->state != MP_HTTP_READING || conn->in_request || conn->writes ||
      conn->ahead_at < conn->ahead.len)
    return;
  uint64_t idle_ms = mp_loop_now_ms(conn->server->loop) - conn->active_ms;
  if (idle_ms >= DRAIN_IDLE_MS)
    mp_http_conn_close(conn);
  else
    mp_http_conn_set_deadline(conn, DRAIN_IDLE_MS - idle_ms);
}

/* False: the address is not known. */
static bool peer_of(struct mp_http_conn *conn, unsigned char address[16]) {
  static const unsigned char v4[12] = {[10] = 0xff, [11] = 0xff};
  struct sockaddr_storage peer;
  int len = sizeof peer;
  if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&peer, &len)) return false;
  if (peer.ss_family == AF_INET) {
    memcpy(address, v4, sizeof v4);
    memcpy(address + 12, &((struct sockaddr_in *)&peer)->sin_addr, 4);
  } else if (peer.ss_family == AF_INET6) {
    memcpy(address, &((struct sockaddr_in6 *)&peer)->sin6_addr, 16);
  } else {
    return false;
  }
  return true;
}

void mp_http_conn_accept(struct mp_http_server *server) {
  struct mp_http_conn *conn = calloc(1, sizeof *conn);
  if (!conn || uv_tcp_init(mp_loop_uv(server->loop), &conn->tcp)) {
    free(conn); /* libuv asks again when the next client comes */
    return;
  }
  conn->server = server;
  conn->tcp.data = conn;
  conn->active_ms = mp_loop_now_ms(server->loop);
  mp_list_push_back(&server->conns, &conn->node);
  mp_http_parser_init(&conn->parser, &server->options.limits);
  mp_buf_init(&conn->ahead, 0);
  mp_timer_init(&conn->timer, server->loop, on_timer);
  mp_timer_init(&conn->pump, server->loop, on_pump);
  conn->on_read = on_read;
  conn->go_on = pump;
  mp_http_seat_init(&conn->seat);
  int rv = uv_accept((uv_stream_t *)&server->tcp, (uv_stream_t *)&conn->tcp);
  unsigned char address[16];
  bool known = peer_of(conn, address);
  conn->extra =
      !mp_http_crowd_enter(&server->crowd, &conn->seat, known ? address : NULL, conn->active_ms);
  mp_http_conn_see(conn);
  if (conn->extra) server->stats.refused_connections++;
  if (rv || server->crowd.connections > server->options.connections + EXTRA_CONNECTIONS) {
    mp_http_conn_close(conn);
    return;
  }
  uv_tcp_nodelay(&conn->tcp, 1);
  mp_http_conn_set_reading(conn, true);
  server->stats.accepted++;
  mp_http_conn_set_deadline(conn, server->options.head_ms);
  if (server->draining) mp_http_conn_drain(conn);
}
