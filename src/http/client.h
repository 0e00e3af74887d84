/* client.h: requests that the host makes itself: POST and the status of the answer, over libcurl's
 * multi interface, which the loop drives. http and https (certificates are checked); redirects are
 * not followed; no proxy is taken from the environment. Of an answer only the status and
 * Retry-After are kept; reading stops after 64 KiB.
 *
 * libcurl looks a name up in a thread of its own, which may outlive the request and is not waited
 * for. Connections are kept for the next request. An error never holds any part of the URL. Owner:
 * the runtime. Thread: the loop's. */
#ifndef MP_HTTP_CLIENT_H
#define MP_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "loop/loop.h"

struct mp_http_client;
struct mp_http_post;

/* Checks that the URL is http or https. `host` gets "hooks.example" or "127.0.0.1:8080", the part
 * that may be shown. -MP_EINVAL: it is not, and why. */
int mp_http_url_host(const char *url, char *host, size_t size, struct mp_err *err) MP_MUST_CHECK;

/* libcurl itself is set up with the first request. */
int mp_http_client_new(struct mp_http_client **out, struct mp_loop *loop,
                       struct mp_err *err) MP_MUST_CHECK;
/* Cancels what is under way. The handles of its sockets are closed with the next iterations of the
 * loop, without it. Not from an on_done. NULL is fine. */
void mp_http_client_free(struct mp_http_client *client);

struct mp_http_reply {
  int status;
  uint64_t retry_after_s; /* Retry-After (RFC 9110, 10.2.3); 0: not told */
};

struct mp_http_post_options { /* borrowed during the call */
  const char *url;
  const char *const *headers; /* "Name: value" each; NULL at the end */
  const char *body;
  size_t body_len;
  uint64_t deadline_ms; /* for all of it, from now */
  /* The last callback: the reply, or `err` is set: MP_ETIMEOUT at the deadline, or MP_EIO. Both are
   * borrowed. */
  void (*on_done)(void *data, const struct mp_http_reply *reply, const struct mp_err *err);
  void *data;
};

/* -MP_EINVAL: the URL, or a header with a line end in it. Never calls back before it returns; the
 * post is gone after on_done. */
int mp_http_post(struct mp_http_post **out, struct mp_http_client *client,
                 const struct mp_http_post_options *options, struct mp_err *err) MP_MUST_CHECK;
/* Ends the request at once; on_done is not called. */
void mp_http_post_cancel(struct mp_http_post *post);

#endif
