/* headers.h: reads a request's headers; each value is checked before it is used. */
#ifndef MP_SVC_HEADERS_H
#define MP_SVC_HEADERS_H

#include "http/server.h"
#include "loop/loop.h"
#include "util/trace.h"

enum { MP_REQUEST_ID_LEN = 128, MP_KEY_LEN = 255 };

/* Whether the text is not empty and has only ASCII letters, digits and characters of `more`. */
bool mp_text_in_set(struct mp_http_text text, const char *more);

/* X-Request-Id: the client's if it is safe to print, else a new one. */
void mp_header_request_id(const struct mp_http_message *message, struct mp_loop *loop,
                          char out[MP_REQUEST_ID_LEN + 1]);
/* traceparent: the client's trace or a new one, and a new span. */
void mp_header_trace(const struct mp_http_message *message, struct mp_loop *loop,
                     struct mp_trace *out);
enum { MP_ADDRESS_SIZE = 64 };
/* The client's address without port; for IPv6 its network, "2001:db8:1:2::/64", because one client
 * may use all addresses of it. From a proxy on this machine the last entry of the last
 * X-Forwarded-For counts; from other clients the header is ignored. "" if not known. `size`:
 * MP_ADDRESS_SIZE. */
void mp_header_address(struct mp_http_request *request, char *out, size_t size);
/* Request-Timeout in seconds; 0: not given. False: it is not a valid time. */
bool mp_header_timeout(const struct mp_http_message *message, double *seconds);
/* Idempotency-Key; "" if not given. False: it is not a valid key. */
bool mp_header_key(const struct mp_http_message *message, char out[MP_KEY_LEN + 1]);
/* NULL: the body is uncompressed JSON in UTF-8, or no header says otherwise. Else the message for
 * the client. */
const char *mp_header_not_json(const struct mp_http_message *message);

#endif
