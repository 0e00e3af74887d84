/* listener.c: a server from its first to its last moment: listening, draining, closing. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http/conn.h"
#include "http/server.h"
#include "util/log.h"

enum {
  BACKLOG = 1024,
  DRAIN_ACCEPT_MS = 5, /* time to accept clients that connected before the drain began */
};

struct mp_http_options mp_http_defaults(void) {
  return (struct mp_http_options){
      .limits = {.head_bytes = 16 * 1024,
                 .target_bytes = 8 * 1024,
                 .headers = 100,
                 .body_bytes = 1024 * 1024},
      .connections = 10000,
      .per_address = 1000,
      .memory_bytes = (size_t)256 * 1024 * 1024,
      .unsent_bytes = 4 * 1024 * 1024,
      .idle_ms = 60 * 1000,
      .head_ms = 10 * 1000,
      .body_ms = 10 * 1000,
      .body_rate = 1000,
      .unsent_ms = 20 * 1000,
      .linger_ms = 2 * 1000,
  };
}

/* ---- the end ---- */

static void finish(struct mp_http_server *server) {
  struct mp_http_events events = server->events;
  void *data = server->data;
  mp_timer_stop(&server->timer);
  mp_buf_fini(&server->out);
  free(server);
  if (events.on_closed) events.on_closed(data);
}

static void on_listener_closed(uv_handle_t *handle) {
  struct mp_http_server *server = handle->data;
  server->closed = true;
  if (server->draining && mp_list_empty(&server->conns)) mp_timer_start(&server->timer, 0);
}

static void on_drain(struct mp_timer *timer) {
  struct mp_http_server *server = MP_CONTAINER_OF(timer, struct mp_http_server, timer);
  if (!uv_is_closing((uv_handle_t *)&server->tcp))
    uv_close((uv_handle_t *)&server->tcp, on_listener_closed);
  if (server->closed && mp_list_empty(&server->conns)) {
    finish(server);
  } else if (mp_loop_now_ms(server->loop) < server->grace_end_ms) {
    mp_timer_start_at(&server->timer, server->grace_end_ms);
  } else {
    MP_LIST_EACH_SAFE(node, &server->conns)
    mp_http_conn_close(MP_LIST_ENTRY(node, struct mp_http_conn, node));
  }
}

void mp_http_server_close(struct mp_http_server *server, uint64_t grace_ms) {
  uint64_t end_ms = mp_loop_now_ms(server->loop) + grace_ms;
  bool first = !server->draining;
  if (!first && end_ms >= server->grace_end_ms) return;
  server->draining = true;
  server->grace_end_ms = end_ms;
  MP_LIST_EACH_SAFE(node, &server->conns)
  mp_http_conn_drain(MP_LIST_ENTRY(node, struct mp_http_conn, node));
  if (first || !mp_timer_running(&server->timer) || server->timer.due_ms > end_ms)
    mp_timer_start(&server->timer, first ? DRAIN_ACCEPT_MS : grace_ms);
}

/* ---- the beginning ---- */

static void on_connection(uv_stream_t *stream, int status) {
  struct mp_http_server *server = stream->data;
  if (status)
    mp_log(MP_LOG_WARN, "http", "cannot accept a connection: %s", uv_strerror(status));
  else
    mp_http_conn_accept(server);
}

static int bind_and_listen(struct mp_http_server *server, const struct sockaddr *address) {
  if (server->options.reuse_port) {
    int fd, on = 1;
    int rv = uv_fileno((uv_handle_t *)&server->tcp, &fd);
    if (rv) return rv;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)) return UV_ENOTSUP;
  }
  int rv = uv_tcp_bind(&server->tcp, address, 0);
  if (!rv) rv = uv_listen((uv_stream_t *)&server->tcp, BACKLOG, on_connection);
  struct sockaddr_storage bound;
  int len = sizeof bound;
  if (!rv) rv = uv_tcp_getsockname(&server->tcp, (struct sockaddr *)&bound, &len);
  if (rv) return rv;
  server->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                   : ((struct sockaddr_in *)&bound)->sin_port);
  return 0;
}

static void on_failed_closed(uv_handle_t *handle) { free(handle->data); }

int mp_http_server_open(struct mp_http_server **out, struct mp_loop *loop,
                        const struct mp_http_options *options, const struct mp_http_events *events,
                        void *data, struct mp_err *err) {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } address;
  bool v6 = strchr(options->host, ':');
  if (options->port < 0 || options->port > 65535 ||
      (v6 ? uv_ip6_addr(options->host, options->port, &address.v6)
          : uv_ip4_addr(options->host, options->port, &address.v4)))
    return mp_err_set(err, MP_EINVAL, "cannot listen on %s, port %d: not an address and a port",
                      options->host, options->port);
  struct mp_http_server *server = calloc(1, sizeof *server);
  if (!server) return mp_err_set(err, MP_ENOMEM, "no memory for an HTTP server");
  server->loop = loop;
  server->options = *options;
  server->options.host = NULL; /* the caller's memory */
  server->events = *events;
  server->data = data;
  mp_list_init(&server->conns);
  struct mp_http_crowd_limits limits = {.connections = options->connections,
                                        .per_address = options->per_address,
                                        .per_loopback = options->per_loopback,
                                        .memory_bytes = options->memory_bytes};
  mp_http_crowd_init(&server->crowd, &limits, mp_http_conn_dismiss);
  mp_timer_init(&server->timer, loop, on_drain);
  mp_buf_init(&server->out, 0);
  server->tcp.data = server;
  int rv = uv_tcp_init_ex(mp_loop_uv(loop), &server->tcp, v6 ? AF_INET6 : AF_INET);
  if (rv) {
    free(server);
  } else if ((rv = bind_and_listen(server, &address.any))) {
    uv_close((uv_handle_t *)&server->tcp, on_failed_closed);
  } else {
    *out = server;
    return 0;
  }
  return mp_err_set(err, MP_EIO, "cannot listen on %s, port %d: %s%s", options->host, options->port,
                    uv_strerror(rv),
                    rv == UV_EADDRINUSE ? "; is another server running there?" : "");
}

int mp_http_server_port(const struct mp_http_server *server) { return server->port; }

void mp_http_server_stats(const struct mp_http_server *server, struct mp_http_stats *stats) {
  *stats = server->stats;
  stats->connections = server->crowd.connections;
}

const char *mp_http_peer(struct mp_http_request *request, char *out, size_t size) {
  struct mp_http_conn *conn = MP_CONTAINER_OF(request, struct mp_http_conn, request);
  struct sockaddr_storage peer;
  int len = sizeof peer;
  out[0] = '\0';
  if (mp_http_conn_lost(conn) || uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&peer, &len))
    return out;
  int rv = peer.ss_family == AF_INET6 ? uv_ip6_name((struct sockaddr_in6 *)&peer, out, size)
                                      : uv_ip4_name((struct sockaddr_in *)&peer, out, size);
  if (rv) out[0] = '\0';
  return out;
}
