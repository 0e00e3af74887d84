/* headers.h: what the headers of a request say, each checked before anybody believes it. */
#ifndef MP_SVC_HEADERS_H
#define MP_SVC_HEADERS_H

#include "http/server.h"
#include "loop/loop.h"
#include "util/trace.h"

enum { MP_REQUEST_ID_LEN = 128, MP_KEY_LEN = 255 };

/* Letters and digits of ASCII, and what stands in `more`; not empty. */
bool mp_text_in_set(struct mp_http_text text, const char *more);

/* X-Request-Id: the client's if it can be printed anywhere, else one of ours. */
void mp_header_request_id(const struct mp_http_message *message, struct mp_loop *loop,
                          char out[MP_REQUEST_ID_LEN + 1]);
/* traceparent: the client's trace or a new one, and a new span. */
void mp_header_trace(const struct mp_http_message *message, struct mp_loop *loop,
                     struct mp_trace *out);
/* The client's address. A proxy on this machine says whom it speaks for (X-Forwarded-For); nobody else is believed. */
void mp_header_address(struct mp_http_request *request, char *out, size_t size);
/* Request-Timeout in seconds; 0: none. False: it is no time. */
bool mp_header_timeout(const struct mp_http_message *message, double *seconds);
/* Idempotency-Key; "" for none. False: it is no key. */
bool mp_header_key(const struct mp_http_message *message, char out[MP_KEY_LEN + 1]);
/* The body is JSON, or nobody says what it is. */
bool mp_header_is_json(const struct mp_http_message *message);

#endif
