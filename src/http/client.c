#include "http/client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/list.h"

enum {
  ANSWER_BYTES = 64 * 1024, /* head and body; the rest of a longer answer is not read */
  KEPT_CONNECTIONS = 4,
};

struct mp_http_client {
  struct mp_loop *loop;
  CURLM *multi;          /* NULL until the first request */
  struct mp_timer timer; /* libcurl's: it has one */
  struct mp_list posts;
};

struct mp_http_post {
  struct mp_list node;
  struct mp_http_client *client;
  CURL *easy;
  struct curl_slist *headers;
  size_t received;
  void (*on_done)(void *data, const struct mp_http_reply *reply, const struct mp_err *err);
  void *data;
};

struct watch { /* of one socket of libcurl's; freed by its handle's end */
  uv_poll_t poll;
  struct mp_http_client *client;
  curl_socket_t fd;
};

/* ---- URLs ---- */

static int url_error(struct mp_err *err, CURLUcode code) {
  if (code == CURLUE_OUT_OF_MEMORY) return mp_err_set(err, MP_ENOMEM, "no memory for a URL");
  return mp_err_set(err, MP_EINVAL, "not a URL like https://hooks.example/path: %s",
                    curl_url_strerror(code));
}

int mp_http_url_host(const char *url, char *host, size_t size, struct mp_err *err) {
  char *name = NULL, *port = NULL;
  int rv = 0;
  size_t scheme = !strncasecmp(url, "http://", 7) ? 7 : !strncasecmp(url, "https://", 8) ? 8 : 0;
  if (!scheme || url[scheme] == '/') /* libcurl would read the next word as the host */
    return mp_err_set(err, MP_EINVAL, "not a URL that begins with http:// or https:// and a host");
  CURLU *parts = curl_url();
  if (!parts) return url_error(err, CURLUE_OUT_OF_MEMORY);
  CURLUcode code = curl_url_set(parts, CURLUPART_URL, url, 0);
  if (!code) code = curl_url_get(parts, CURLUPART_HOST, &name, 0);
  if (!code) (void)curl_url_get(parts, CURLUPART_PORT, &port, 0);
  if (code)
    rv = url_error(err, code);
  else
    snprintf(host, size, "%s%s%s", name, port ? ":" : "", port ? port : "");
  curl_free(name);
  curl_free(port);
  curl_url_cleanup(parts);
  return rv;
}

/* ---- the end of a request ---- */

static void drop(struct mp_http_post *post) {
  mp_list_remove(&post->node);
  (void)curl_multi_remove_handle(post->client->multi, post->easy);
  curl_easy_cleanup(post->easy);
  curl_slist_free_all(post->headers);
  free(post);
}

void mp_http_post_cancel(struct mp_http_post *post) { drop(post); }

/* Only libcurl's fixed texts: its longer messages may quote the URL. */
static void explain(struct mp_err *err, CURLcode code, long sys) {
  if (code == CURLE_OPERATION_TIMEDOUT)
    mp_err_set(err, MP_ETIMEOUT, "no answer in time");
  else
    mp_err_set(err, MP_EIO, "%s%s%s", curl_easy_strerror(code), sys ? ": " : "",
               sys ? strerror((int)sys) : "");
}

static void finish(struct mp_http_client *client) {
  CURLMsg *msg;
  int left;
  while ((msg = curl_multi_info_read(client->multi, &left))) {
    struct mp_http_post *post;
    struct mp_err err = {0};
    long status = 0, sys = 0;
    curl_off_t retry_after_s = 0;
    CURLcode code = msg->data.result;
    if (msg->msg != CURLMSG_DONE) continue;
    curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&post);
    curl_easy_getinfo(msg->easy_handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(msg->easy_handle, CURLINFO_RETRY_AFTER, &retry_after_s);
    curl_easy_getinfo(msg->easy_handle, CURLINFO_OS_ERRNO, &sys);
    bool cut_off = code == CURLE_WRITE_ERROR && status && post->received > ANSWER_BYTES;
    if (code && !cut_off) explain(&err, code, sys);
    const struct mp_http_reply reply = {
        .status = (int)status, .retry_after_s = retry_after_s > 0 ? (uint64_t)retry_after_s : 0};
    void (*on_done)(void *, const struct mp_http_reply *, const struct mp_err *) = post->on_done;
    void *data = post->data;
    drop(post);
    on_done(data, &reply, err.code ? &err : NULL);
  }
}

/* ---- what libcurl asks for: sockets and a timer ---- */

static void act(struct mp_http_client *client, curl_socket_t fd, int flags) {
  int running;
  (void)curl_multi_socket_action(client->multi, fd, flags, &running);
  finish(client);
}

static void on_io(uv_poll_t *poll, int status, int events) {
  struct watch *watch = MP_CONTAINER_OF(poll, struct watch, poll);
  act(watch->client, watch->fd,
      (status ? CURL_CSELECT_ERR : 0) | (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
          (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(struct mp_timer *timer) {
  act(MP_CONTAINER_OF(timer, struct mp_http_client, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int want_timer(CURLM *multi, long timeout_ms, void *data) {
  struct mp_http_client *client = data;
  (void)multi;
  if (timeout_ms < 0)
    mp_timer_stop(&client->timer);
  else
    mp_timer_start(&client->timer, (uint64_t)timeout_ms);
  return 0;
}

static void on_watch_closed(uv_handle_t *handle) {
  free(MP_CONTAINER_OF((uv_poll_t *)handle, struct watch, poll));
}

static struct watch *watch_new(struct mp_http_client *client, curl_socket_t fd) {
  struct watch *watch = calloc(1, sizeof *watch);
  if (!watch) return NULL;
  watch->client = client;
  watch->fd = fd;
  if (uv_poll_init_socket(mp_loop_uv(client->loop), &watch->poll, fd)) {
    free(watch);
    return NULL;
  }
  (void)curl_multi_assign(client->multi, fd, watch);
  return watch;
}

/* A socket that cannot be watched fails its own request at the deadline; returning -1 would fail
 * all requests. */
static int want_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *of_socket) {
  struct mp_http_client *client = data;
  struct watch *watch = of_socket;
  (void)easy;
  if (what == CURL_POLL_REMOVE) {
    if (!watch) return 0;
    (void)curl_multi_assign(client->multi, fd, NULL);
    uv_poll_stop(&watch->poll); /* before libcurl closes the socket */
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
    return 0;
  }
  if (!watch) watch = watch_new(client, fd);
  if (watch)
    uv_poll_start(
        &watch->poll,
        (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0), on_io);
  return 0;
}

/* ---- a request ---- */

static size_t take(char *bytes, size_t size, size_t n, void *data) {
  struct mp_http_post *post = data;
  (void)bytes;
  post->received += size * n;
  return post->received > ANSWER_BYTES ? 0 : size * n;
}

static bool open_multi(struct mp_http_client *client) {
  if (client->multi) return true;
  if (curl_global_init(CURL_GLOBAL_DEFAULT)) return false;
  CURLM *multi = curl_multi_init();
  if (!multi) {
    curl_global_cleanup();
    return false;
  }
  curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, want_socket);
  curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
  curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, want_timer);
  curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
  client->multi = multi;
  return true;
}

static bool add_headers(struct mp_http_post *post, const char *const *headers) {
  struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* the body goes at once */
  for (size_t i = 0; list && headers && headers[i]; i++) {
    struct curl_slist *longer = curl_slist_append(list, headers[i]);
    if (!longer) curl_slist_free_all(list);
    list = longer;
  }
  post->headers = list;
  return list != NULL;
}

static CURLcode set_up(struct mp_http_post *post, const struct mp_http_post_options *options) {
  CURLcode code = CURLE_OK;
#define SET(name, value) \
  if (!code) code = curl_easy_setopt(post->easy, name, value)
  SET(CURLOPT_URL, options->url);
  SET(CURLOPT_POST, 1L);
  SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)options->body_len);
  SET(CURLOPT_COPYPOSTFIELDS, options->body);
  SET(CURLOPT_HTTPHEADER, post->headers);
  SET(CURLOPT_USERAGENT, "moonpool/" MOONPOOL_VERSION);
  SET(CURLOPT_TIMEOUT_MS, (long)options->deadline_ms);
  SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  SET(CURLOPT_PROTOCOLS_STR, "http,https");
  SET(CURLOPT_PROXY, "");
  SET(CURLOPT_NOSIGNAL, 1L);
  SET(CURLOPT_QUICK_EXIT, 1L); /* closing does not wait for a name look-up */
  SET(CURLOPT_WRITEFUNCTION, take);
  SET(CURLOPT_WRITEDATA, post);
  SET(CURLOPT_HEADERFUNCTION, take);
  SET(CURLOPT_HEADERDATA, post);
  SET(CURLOPT_PRIVATE, post);
#undef SET
  return code;
}

int mp_http_post(struct mp_http_post **out, struct mp_http_client *client,
                 const struct mp_http_post_options *options, struct mp_err *err) {
  char host[300];
  int rv = mp_http_url_host(options->url, host, sizeof host, err);
  if (rv) return rv;
  for (size_t i = 0; options->headers && options->headers[i]; i++)
    if (strpbrk(options->headers[i], "\r\n"))
      return mp_err_set(err, MP_EINVAL, "a header has a line end in it");
  struct mp_http_post *post = calloc(1, sizeof *post);
  if (!post) return mp_err_set(err, MP_ENOMEM, "no memory for a request");
  mp_list_init(&post->node);
  post->client = client;
  post->on_done = options->on_done;
  post->data = options->data;
  bool ready = open_multi(client) && add_headers(post, options->headers) &&
               (post->easy = curl_easy_init()) && !set_up(post, options) &&
               !curl_multi_add_handle(client->multi, post->easy);
  if (!ready) {
    if (post->easy) curl_easy_cleanup(post->easy);
    curl_slist_free_all(post->headers);
    free(post);
    return mp_err_set(err, MP_ENOMEM, "libcurl cannot begin a request");
  }
  mp_list_push_back(&client->posts, &post->node);
  *out = post;
  return 0;
}

/* ---- life ---- */

int mp_http_client_new(struct mp_http_client **out, struct mp_loop *loop, struct mp_err *err) {
  struct mp_http_client *client = calloc(1, sizeof *client);
  if (!client) return mp_err_set(err, MP_ENOMEM, "no memory for an HTTP client");
  client->loop = loop;
  mp_list_init(&client->posts);
  mp_timer_init(&client->timer, loop, on_timer);
  *out = client;
  return 0;
}

void mp_http_client_free(struct mp_http_client *client) {
  if (!client) return;
  MP_LIST_EACH_SAFE(node, &client->posts) drop(MP_LIST_ENTRY(node, struct mp_http_post, node));
  if (client->multi) {
    (void)curl_multi_cleanup(client->multi);
    curl_global_cleanup();
  }
  mp_timer_stop(&client->timer);
  free(client);
}
