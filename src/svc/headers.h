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
enum { MP_ADDRESS_SIZE = 64 };
/* The client's address, without port; of IPv6 the network, "2001:db8:1:2::/64", for one client has
 * all addresses of it. A proxy on this machine says whom it speaks for, in the last entry of the
 * last X-Forwarded-For; nobody else is believed. "" if it is not known. `size`: MP_ADDRESS_SIZE. */
void mp_header_address(struct mp_http_request *request, char *out, size_t size);
/* Request-Timeout in seconds; 0: none. False: it is no time. */
bool mp_header_timeout(const struct mp_http_message *message, double *seconds);
/* Idempotency-Key; "" for none. False: it is no key. */
bool mp_header_key(const struct mp_http_message *message, char out[MP_KEY_LEN + 1]);
/* NULL: the body is JSON in UTF-8, not compressed, or nobody says what it is. Else what a client is
 * told. */
const char *mp_header_not_json(const struct mp_http_message *message);

#endif
