/* http_echo.c: src/http with a few handlers, for specs that speak to it through sockets.
 *
 *   http_echo [SETTING=N ...]       settings: the limits of struct mp_http_options, port, grace_ms
 *
 * Prints "port N" when it listens; ends, draining for grace_ms, with its stdin or on SIGTERM, and
 * then prints "closed". Paths:
 *   /hold      is answered when somebody asks for /release, which tells how many it released
 *   /later     is answered on a later turn of the loop
 *   /stream?N  N pieces of 10,000 bytes, as fast as the client takes them
 *   /flood     a stream that does not care what the client takes
 *   /open      a stream that never ends by itself
 *   /stats     the server's counters and how many clients were seen to go
 * Any other path is answered with the request as it was understood. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/server.h"
#include "util/list.h"

struct held {
  struct mp_list node;
  struct mp_http_request *request;
  struct mp_timer timer;
  unsigned long pieces;
};

static struct mp_loop *loop;
static struct mp_http_server *server;
static struct mp_list held;
static unsigned long gone, grace_ms = 5000;
static bool closed;
static uv_pipe_t input;
static uv_signal_t term;
static char stdin_bytes[64];

static void text(struct mp_http_request *request, int status, const char *body, size_t len) {
  struct mp_http_answer answer = {
      .status = status, .content_type = "text/plain", .body = body, .body_len = len};
  mp_http_respond(request, &answer);
}

static void add_text(struct mp_buf *out, struct mp_http_text part) {
  mp_buf_add(out, part.at ? part.at : "-", part.at ? part.len : 1);
}

static void echo(struct mp_http_request *request) {
  static const char *const methods[] = {
#define X(name) #name,
      MP_HTTP_METHOD_MAP(X)
#undef X
  };
  struct mp_http_message *message = &request->message;
  struct mp_buf out;
  mp_buf_init(&out, 0);
  mp_buf_addf(&out, "%s ", methods[message->method]);
  add_text(&out, message->path);
  mp_buf_addc(&out, ' ');
  add_text(&out, message->query);
  mp_buf_addf(&out, " 1.%d %zu %zu\n", message->minor, message->headers_len, message->body.len);
  for (size_t i = 0; i < message->headers_len; i++) {
    add_text(&out, message->headers[i].name);
    mp_buf_adds(&out, "=[");
    add_text(&out, message->headers[i].value);
    mp_buf_adds(&out, "]\n");
  }
  mp_buf_add(&out, message->body.at, message->body.len);
  text(request, 200, out.data, out.len);
  mp_buf_fini(&out);
}

static void on_gone(struct mp_http_request *request) {
  struct held *one = request->data;
  gone++;
  if (mp_list_empty(&one->node)) return;
  mp_list_remove(&one->node);
  free(one);
  text(request, 499, "gone\n", 5);
}

static struct held *hold(struct mp_http_request *request) {
  struct held *one = calloc(1, sizeof *one);
  if (!one) abort();
  one->request = request;
  request->data = one;
  request->on_gone = on_gone;
  mp_list_push_back(&held, &one->node);
  return one;
}

static void release(struct mp_http_request *request) {
  char body[32];
  int n = 0;
  for (struct mp_list *node; (node = mp_list_pop_front(&held)); n++) {
    struct held *one = MP_LIST_ENTRY(node, struct held, node);
    text(one->request, 200, "held\n", 5);
    free(one);
  }
  int len = snprintf(body, sizeof body, "%d\n", n);
  text(request, 200, body, (size_t)len);
}

static void on_later(struct mp_timer *timer) {
  struct held *one = MP_CONTAINER_OF(timer, struct held, timer);
  echo(one->request);
  free(one);
}

static void later(struct mp_http_request *request) {
  struct held *one = calloc(1, sizeof *one);
  if (!one) abort();
  one->request = request;
  mp_timer_init(&one->timer, loop, on_later);
  mp_timer_start(&one->timer, 0);
}

static char piece[10000];

static void next_pieces(struct mp_http_request *request) {
  struct held *one = request->data;
  while (one->pieces && !mp_http_stream_write(request, piece, sizeof piece)) one->pieces--;
  if (one->pieces) {
    one->pieces--; /* this one is on its way; on_written goes on */
    return;
  }
  free(one);
  mp_http_stream_end(request);
}

static void on_stream_gone(struct mp_http_request *request) {
  gone++;
  free(request->data);
  mp_http_stream_end(request);
}

static void stream(struct mp_http_request *request, unsigned long pieces) {
  struct mp_http_answer answer = {.status = 200, .content_type = "text/plain"};
  struct held *one = calloc(1, sizeof *one);
  if (!one) abort();
  one->pieces = pieces;
  request->data = one;
  request->on_gone = on_stream_gone;
  request->on_written = next_pieces;
  mp_http_stream_start(request, &answer);
  next_pieces(request);
}

static void open_stream(struct mp_http_request *request, bool flood) {
  struct mp_http_answer answer = {
      .status = 200, .content_type = "text/plain", .body = "open\n", .body_len = 5};
  request->on_gone = on_stream_gone;
  mp_http_stream_start(request, &answer);
  for (int i = 0; flood && i < 100000; i++) mp_http_stream_write(request, piece, sizeof piece);
}

static void stats(struct mp_http_request *request) {
  struct mp_http_stats now;
  char body[256];
  mp_http_server_stats(server, &now);
  int len = snprintf(body, sizeof body,
                     "connections=%zu requests=%zu accepted=%llu refused=%llu malformed=%llu "
                     "timed_out=%llu lost=%llu dismissed=%llu gone=%lu\n",
                     now.connections, now.requests, (unsigned long long)now.accepted,
                     (unsigned long long)now.refused_connections, (unsigned long long)now.malformed,
                     (unsigned long long)now.timed_out, (unsigned long long)now.lost,
                     (unsigned long long)now.dismissed, gone);
  text(request, 200, body, (size_t)len);
}

static void on_request(struct mp_http_server *from, void *data, struct mp_http_request *request) {
  (void)from;
  (void)data;
  struct mp_http_text path = request->message.path;
  if (request->extra && !mp_http_text_is(path, "/stats"))
    text(request, 503, "full\n", 5);
  else if (mp_http_text_is(path, "/hold"))
    hold(request);
  else if (mp_http_text_is(path, "/release"))
    release(request);
  else if (mp_http_text_is(path, "/later"))
    later(request);
  else if (mp_http_text_is(path, "/stream"))
    stream(request, strtoul(request->message.query.at, NULL, 10));
  else if (mp_http_text_is(path, "/flood") || mp_http_text_is(path, "/open"))
    open_stream(request, mp_http_text_is(path, "/flood"));
  else if (mp_http_text_is(path, "/stats"))
    stats(request);
  else if (mp_http_text_is(path, "/hello"))
    text(request, 200, "hello\n", 6);
  else
    echo(request);
}

static void on_closed(void *data) {
  (void)data;
  closed = true;
}

static void end(void) {
  if (uv_is_closing((uv_handle_t *)&input)) return;
  uv_close((uv_handle_t *)&input, NULL);
  uv_close((uv_handle_t *)&term, NULL);
  mp_http_server_close(server, grace_ms);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  (void)handle;
  (void)suggested;
  *buf = uv_buf_init(stdin_bytes, sizeof stdin_bytes);
}

static void on_stdin(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  (void)stream;
  (void)buf;
  if (n < 0) end();
}

static void on_term(uv_signal_t *handle, int number) {
  (void)handle;
  (void)number;
  end();
}

static bool set(struct mp_http_options *options, const char *name, unsigned long value) {
  if (!strcmp(name, "port")) return options->port = (int)value, true;
  if (!strcmp(name, "grace_ms")) return grace_ms = value, true;
  if (!strcmp(name, "reuse_port")) return options->reuse_port = value, true;
  if (!strcmp(name, "head_bytes")) return options->limits.head_bytes = value, true;
  if (!strcmp(name, "body_bytes")) return options->limits.body_bytes = value, true;
  if (!strcmp(name, "connections")) return options->connections = value, true;
  if (!strcmp(name, "per_loopback")) return options->per_loopback = value, true;
  if (!strcmp(name, "memory_bytes")) return options->memory_bytes = value, true;
  if (!strcmp(name, "unsent_bytes")) return options->unsent_bytes = value, true;
  if (!strcmp(name, "idle_ms")) return options->idle_ms = value, true;
  if (!strcmp(name, "head_ms")) return options->head_ms = value, true;
  if (!strcmp(name, "body_ms")) return options->body_ms = value, true;
  if (!strcmp(name, "body_rate")) return options->body_rate = value, true;
  if (!strcmp(name, "unsent_ms")) return options->unsent_ms = value, true;
  if (!strcmp(name, "linger_ms")) return options->linger_ms = value, true;
  return false;
}

int main(int argc, char **argv) {
  struct mp_http_options options = mp_http_defaults();
  struct mp_http_events events = {on_request, on_closed};
  struct mp_err err;
  options.host = "127.0.0.1";
  for (int i = 1; i < argc; i++) {
    char *value = strchr(argv[i], '=');
    if (value) *value++ = '\0';
    if (!value || !set(&options, argv[i], strtoul(value, NULL, 10))) {
      fprintf(stderr, "http_echo: no such setting: %s\n", argv[i]);
      return 2;
    }
  }
  signal(SIGPIPE, SIG_IGN);
  mp_list_init(&held);
  memset(piece, 'x', sizeof piece);
  if (mp_loop_open(&loop, NULL, &err) ||
      mp_http_server_open(&server, loop, &options, &events, NULL, &err)) {
    fprintf(stderr, "http_echo: %s\n", err.msg);
    return 1;
  }
  uv_pipe_init(mp_loop_uv(loop), &input, 0);
  uv_pipe_open(&input, 0);
  uv_read_start((uv_stream_t *)&input, on_alloc, on_stdin);
  uv_signal_init(mp_loop_uv(loop), &term);
  uv_signal_start(&term, on_term, SIGTERM);
  printf("port %d\n", mp_http_server_port(server));
  fflush(stdout);
  mp_loop_run(loop);
  if (mp_loop_close(loop, &err)) {
    fprintf(stderr, "http_echo: %s\n", err.msg);
    return 1;
  }
  printf("%s\n", closed ? "closed" : "the server was not closed");
  return !closed;
}
