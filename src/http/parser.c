/* parser.c: finds the end of the head (the guard) and reads the body's framing. The head itself is
 * head.c. */
#include "http/parser.h"

#include <stdlib.h>
#include <string.h>

enum {
  KEEP_BYTES = 4096, /* of a buffer, between requests */
  CHUNK_DIGITS = 8,
  CHUNK_EXT_BYTES = 256,
};

void mp_http_parser_init(struct mp_http_parser *parser, const struct mp_http_limits *limits) {
  *parser = (struct mp_http_parser){.limits = limits, .line_start = true};
  mp_buf_init(&parser->head, limits->head_bytes);
  mp_buf_init(&parser->body, limits->body_bytes);
}

void mp_http_parser_fini(struct mp_http_parser *parser) {
  mp_buf_fini(&parser->head);
  mp_buf_fini(&parser->body);
  free(parser->message.headers);
  parser->message.headers = NULL;
}

void mp_http_parser_reset(struct mp_http_parser *parser) {
  struct mp_buf head = parser->head, body = parser->body;
  struct mp_http_header *headers = parser->message.headers;
  size_t headers_cap = parser->headers_cap;
  if (head.cap > KEEP_BYTES) mp_buf_fini(&head);
  if (body.cap > KEEP_BYTES) mp_buf_fini(&body);
  mp_buf_clear(&head);
  mp_buf_clear(&body);
  *parser = (struct mp_http_parser){.limits = parser->limits, .line_start = true};
  parser->head = head;
  parser->body = body;
  parser->message.headers = headers;
  parser->headers_cap = headers_cap;
}

/* One byte of the head or of the trailers. True with `end` set: it ended the empty line that closes
 * them. */
static bool guard(struct mp_http_parser *parser, unsigned char c, bool *end) {
  char last = parser->last;
  *end = false;
  parser->last = (char)c;
  if (last == '\r') {
    if (c != '\n') return mp_http_refuse(parser, 400, "a CR without LF"), false;
    *end = parser->line_start;
    parser->line_start = true;
    return true;
  }
  if (c == '\r') return true; /* line_start stays set: a line that ends where it starts is empty */
  if (c == '\n') return mp_http_refuse(parser, 400, "a line ends in LF without CR"), false;
  if (parser->line_start && (c == ' ' || c == '\t'))
    return mp_http_refuse(parser, 400, "a line starts with a blank"), false;
  if ((c < ' ' && c != '\t') || c == 0x7f)
    return mp_http_refuse(parser, 400, "a control character in the head"), false;
  parser->line_start = false;
  return true;
}

/* Whether the request line has ended, in the bytes kept already or in [0, n). */
static bool has_line(const struct mp_http_parser *parser, const char *bytes, size_t n) {
  return (n && memchr(bytes, '\n', n)) ||
         (parser->head.len && memchr(parser->head.data, '\n', parser->head.len));
}

static enum mp_http_parse feed_head(struct mp_http_parser *parser, const char *bytes, size_t n,
                                    size_t *used) {
  size_t from = 0, at = 0;
  bool end = false;
  while (at < n && !end) {
    if (parser->head.len + (at - from) == parser->limits->head_bytes)
      return has_line(parser, bytes + from, at - from)
                 ? mp_http_refuse(parser, 431, "the headers are too long")
                 : mp_http_refuse(parser, 414, "the request line is too long");
    if (!guard(parser, (unsigned char)bytes[at++], &end)) return MP_HTTP_REFUSED;
    if (!end || parser->head.len + (at - from) > 2) continue;
    /* An empty line where a request should start: some clients send one behind a body. */
    if (parser->skipped_empty) return mp_http_refuse(parser, 400, "empty lines before a request");
    parser->skipped_empty = true;
    mp_buf_clear(&parser->head);
    from = at;
    end = false;
  }
  mp_buf_add(&parser->head, bytes + from, at - from);
  if (parser->head.failed) return mp_http_refuse(parser, 503, "out of memory");
  *used = at;
  return end ? mp_http_read_head(parser) : MP_HTTP_MORE;
}

static enum mp_http_parse finish(struct mp_http_parser *parser) {
  parser->at = MP_HTTP_AT_END;
  parser->message.body = (struct mp_http_text){mp_buf_text(&parser->body), parser->body.len};
  return MP_HTTP_DONE;
}

/* As much of the body or chunk as is there. */
static size_t take(struct mp_http_parser *parser, const char *bytes, size_t n) {
  size_t part = n < parser->left ? n : (size_t)parser->left;
  mp_buf_add(&parser->body, bytes, part);
  parser->left -= part;
  return part;
}

static int hex(unsigned char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum mp_http_parse chunk_size(struct mp_http_parser *parser, unsigned char c) {
  int digit = hex(c);
  if (digit >= 0) {
    if (++parser->digits > CHUNK_DIGITS) return mp_http_refuse(parser, 413, "a chunk is too large");
    parser->left = parser->left * 16 + (unsigned)digit;
    return MP_HTTP_MORE;
  }
  if (!parser->digits || (c != '\r' && c != ';'))
    return mp_http_refuse(parser, 400, "a chunk's size is not a hexadecimal number");
  if (parser->left > parser->limits->body_bytes - parser->body.len)
    return mp_http_refuse(parser, 413, "the body is too large");
  parser->at = c == ';' ? MP_HTTP_AT_CHUNK_EXT : MP_HTTP_AT_CHUNK_LF;
  parser->digits = 0; /* now counts the extension */
  return MP_HTTP_MORE;
}

static enum mp_http_parse chunk_ext(struct mp_http_parser *parser, unsigned char c) {
  if (c == '\r') {
    parser->at = MP_HTTP_AT_CHUNK_LF;
    return MP_HTTP_MORE;
  }
  if ((c < ' ' && c != '\t') || c == 0x7f)
    return mp_http_refuse(parser, 400, "a control character in a chunk's extension");
  if (++parser->digits > CHUNK_EXT_BYTES || ++parser->overhead > parser->limits->head_bytes)
    return mp_http_refuse(parser, 400, "a chunk's extension is too long");
  return MP_HTTP_MORE;
}

static enum mp_http_parse trailer(struct mp_http_parser *parser, unsigned char c) {
  bool end, starts = parser->line_start && parser->last != '\r';
  if (!guard(parser, c, &end)) return MP_HTTP_REFUSED;
  if (end) return finish(parser);
  if (++parser->overhead > parser->limits->head_bytes)
    return mp_http_refuse(parser, 431, "the trailers are too long");
  if (c == '\n' || (starts && c == '\r')) return MP_HTTP_MORE;
  if (starts) parser->in_name = true;
  if (!parser->in_name) return MP_HTTP_MORE;
  if (c == ':' && !starts)
    parser->in_name = false;
  else if (!mp_http_is_token(c))
    return mp_http_refuse(parser, 400, "a trailer is not of the form name: value");
  return MP_HTTP_MORE;
}

static enum mp_http_parse expect(struct mp_http_parser *parser, unsigned char c, char wanted,
                                 enum mp_http_at next) {
  if (c != (unsigned char)wanted)
    return mp_http_refuse(parser, 400, "a chunk does not end where its size says");
  parser->at = next;
  return MP_HTTP_MORE;
}

static enum mp_http_parse chunk_line_end(struct mp_http_parser *parser, unsigned char c) {
  if (c != '\n') return mp_http_refuse(parser, 400, "a chunk's size ends in CR without LF");
  parser->at = parser->left ? MP_HTTP_AT_CHUNK_DATA : MP_HTTP_AT_TRAILER;
  parser->digits = 0;
  parser->last = '\n';
  parser->line_start = true;
  return MP_HTTP_MORE;
}

enum mp_http_parse mp_http_parser_feed(struct mp_http_parser *parser, const char *bytes, size_t n,
                                       size_t *used) {
  enum mp_http_parse got = MP_HTTP_MORE;
  *used = 0;
  if (parser->at == MP_HTTP_AT_HEAD) return feed_head(parser, bytes, n, used);
  size_t at = 0;
  while (at < n && got == MP_HTTP_MORE) {
    unsigned char c = (unsigned char)bytes[at];
    switch (parser->at) {
      case MP_HTTP_AT_HEAD:
      case MP_HTTP_AT_END: return mp_http_refuse(parser, 500, "data after the end of a request");
      case MP_HTTP_AT_LENGTH:
        at += take(parser, bytes + at, n - at);
        if (!parser->left) got = finish(parser);
        continue;
      case MP_HTTP_AT_CHUNK_DATA:
        at += take(parser, bytes + at, n - at);
        if (!parser->left) parser->at = MP_HTTP_AT_DATA_CR;
        continue;
      case MP_HTTP_AT_CHUNK_SIZE: got = chunk_size(parser, c); break;
      case MP_HTTP_AT_CHUNK_EXT: got = chunk_ext(parser, c); break;
      case MP_HTTP_AT_CHUNK_LF: got = chunk_line_end(parser, c); break;
      case MP_HTTP_AT_DATA_CR: got = expect(parser, c, '\r', MP_HTTP_AT_DATA_LF); break;
      case MP_HTTP_AT_DATA_LF: got = expect(parser, c, '\n', MP_HTTP_AT_CHUNK_SIZE); break;
      case MP_HTTP_AT_TRAILER: got = trailer(parser, c); break;
    }
    at++;
  }
  if (parser->body.failed) return mp_http_refuse(parser, 503, "out of memory");
  *used = at;
  return got;
}
