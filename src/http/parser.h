/* parser.h: bytes in, one request out. Pure: no socket, no clock.
 * llhttp reads the head, between a guard before it and rules after it, because llhttp alone accepts
 * what another server in the chain would read differently: bare CR, bare LF, folded lines, no Host.
 * The body's framing is read here, strictly. After a refusal the connection must be closed, because
 * it is not known where the next request begins. Owner: a connection. */
#ifndef MP_HTTP_PARSER_H
#define MP_HTTP_PARSER_H

#include <stdint.h>

#include "http/message.h"
#include "util/buf.h"

struct mp_http_limits {
  size_t head_bytes; /* request line and headers; also chunk extensions and trailers together */
  size_t target_bytes;
  size_t headers;
  size_t body_bytes;
};

/* HEAD: the head is complete and a body follows. DONE: the message is complete. Both stop behind
 * the byte that made it so. REFUSED: see `status` and `why`. */
enum mp_http_parse { MP_HTTP_MORE, MP_HTTP_HEAD_DONE, MP_HTTP_DONE, MP_HTTP_REFUSED };

enum mp_http_at {
  MP_HTTP_AT_HEAD,
  MP_HTTP_AT_LENGTH, /* a body of a known length */
  MP_HTTP_AT_CHUNK_SIZE,
  MP_HTTP_AT_CHUNK_EXT,
  MP_HTTP_AT_CHUNK_LF,
  MP_HTTP_AT_CHUNK_DATA,
  MP_HTTP_AT_DATA_CR,
  MP_HTTP_AT_DATA_LF,
  MP_HTTP_AT_TRAILER,
  MP_HTTP_AT_END,
};

struct mp_http_parser {
  const struct mp_http_limits *limits; /* borrowed */
  enum mp_http_at at;
  /* from HEAD_DONE or DONE on; views into the buffers below, until reset */
  struct mp_http_message message;
  int status;      /* of a refusal */
  const char *why; /* static text, safe inside a JSON string */

  struct mp_buf head, body;
  char last;          /* byte of the head or trailer */
  bool line_start;    /* ... the next byte starts a line */
  bool skipped_empty; /* the one empty line allowed before a request */
  bool in_name;       /* trailer: before the colon */
  uint64_t left;      /* bytes of the body or chunk still to come */
  unsigned digits;    /* of the chunk's size */
  size_t overhead;    /* bytes of chunk extensions and trailers */
  size_t headers_cap;
};

void mp_http_parser_init(struct mp_http_parser *parser, const struct mp_http_limits *limits);
void mp_http_parser_fini(struct mp_http_parser *parser);
/* Ready for the next request. Keeps a little memory, gives the rest back. */
void mp_http_parser_reset(struct mp_http_parser *parser);

/* Reads up to `n` bytes, at most to the end of the head or message; `used` says how many. */
enum mp_http_parse mp_http_parser_feed(struct mp_http_parser *parser, const char *bytes, size_t n,
                                       size_t *used);
/* Nothing of a request has been read yet, but perhaps an empty line. */
static inline bool mp_http_parser_idle(const struct mp_http_parser *parser) {
  return parser->at == MP_HTTP_AT_HEAD && !parser->head.len;
}

/* For the files of http/ only. */
static inline enum mp_http_parse mp_http_refuse(struct mp_http_parser *parser, int status,
                                                const char *why) {
  parser->status = status;
  parser->why = why;
  return MP_HTTP_REFUSED;
}
/* head.c: the complete head in parser->head becomes the message. */
enum mp_http_parse mp_http_read_head(struct mp_http_parser *parser);

#endif
