/* head.c: from the bytes of a complete, guarded head to a message: the request line, llhttp's
 * grammar, then the rules that it does not know. */
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/parser.h"

struct reading {
  struct mp_http_parser *parser;
  struct mp_http_text target;
  bool too_many, split; /* more headers than the limit; a span that came in pieces */
  bool no_memory;
};

/* ---- llhttp's callbacks: spans into the head ---- */

/* llhttp gives a span once, or in pieces that touch. */
static void extend(struct reading *reading, struct mp_http_text *text, const char *at, size_t len) {
  if (!text->at)
    *text = (struct mp_http_text){at, len};
  else if (text->at + text->len == at)
    text->len += len;
  else
    reading->split = true;
}

static int on_url(llhttp_t *llhttp, const char *at, size_t len) {
  struct reading *reading = llhttp->data;
  extend(reading, &reading->target, at, len);
  return 0;
}

/* Room for one more header; NULL when there is none. */
static struct mp_http_header *new_header(struct reading *reading) {
  struct mp_http_parser *parser = reading->parser;
  struct mp_http_message *message = &parser->message;
  if (message->headers_len == parser->limits->headers) {
    reading->too_many = true;
    return NULL;
  }
  if (message->headers_len == parser->headers_cap) {
    size_t cap = parser->headers_cap ? parser->headers_cap * 2 : 16;
    struct mp_http_header *headers = realloc(message->headers, cap * sizeof *headers);
    if (!headers) {
      reading->no_memory = true;
      return NULL;
    }
    message->headers = headers;
    parser->headers_cap = cap;
  }
  struct mp_http_header *header = &message->headers[message->headers_len++];
  /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there is room for one more */
  *header = (struct mp_http_header){0};
  return header;
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t len) {
  struct reading *reading = llhttp->data;
  struct mp_http_message *message = &reading->parser->message;
  struct mp_http_header *header =
      message->headers_len ? &message->headers[message->headers_len - 1] : NULL;
  if (!header || header->value.at) header = new_header(reading);
  if (!header) return HPE_USER;
  extend(reading, &header->name, at, len);
  return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t len) {
  struct reading *reading = llhttp->data;
  struct mp_http_message *message = &reading->parser->message;
  extend(reading, &message->headers[message->headers_len - 1].value, at, len);
  return 0;
}

static int on_headers_complete(llhttp_t *llhttp) {
  (void)llhttp;
  return HPE_PAUSED; /* the body's framing is ours */
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

/* ---- our rules ---- */

static bool method_of(struct mp_http_text name, enum mp_http_method *out) {
#define X(method)                       \
  if (mp_http_text_is(name, #method)) { \
    *out = MP_HTTP_##method;            \
    return true;                        \
  }
  MP_HTTP_METHOD_MAP(X)
#undef X
  return false;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

/* Checks the request line as a whole (METHOD, a blank, the target, a blank, HTTP/1.x) before llhttp
 * does. Both must find the same target. */
static enum mp_http_parse read_line(struct mp_http_parser *parser, struct mp_http_text *target) {
  static const char form[] = "the request line is not METHOD TARGET VERSION";
  const char *line = parser->head.data, *end = memchr(line, '\r', parser->head.len);
  const char *blank = memchr(line, ' ', (size_t)(end - line)), *version = end - 9;
  if (!blank || blank == line || version <= blank + 1 || memcmp(version, " HTTP/", 6) != 0 ||
      !digit(version[6]) || version[7] != '.' || !digit(version[8]))
    return mp_http_refuse(parser, 400, form);
  struct mp_http_text method = {line, (size_t)(blank - line)};
  *target = (struct mp_http_text){blank + 1, (size_t)(version - blank - 1)};
  for (size_t i = 0; i < method.len; i++)
    if (!mp_http_is_token((unsigned char)method.at[i])) return mp_http_refuse(parser, 400, form);
  if (memchr(target->at, ' ', target->len)) return mp_http_refuse(parser, 400, form);
  if (version[6] != '1' || version[8] > '1')
    return mp_http_refuse(parser, 505, "only HTTP/1.1 and HTTP/1.0 are supported");
  if (!method_of(method, &parser->message.method))
    return mp_http_refuse(parser, 501, "the method is not supported");
  if (target->len > parser->limits->target_bytes)
    return mp_http_refuse(parser, 414, "the target of the request is too long");
  parser->message.minor = version[8] - '0';
  return MP_HTTP_DONE;
}

static void trim(struct mp_http_text *text) {
  while (text->len && (text->at[0] == ' ' || text->at[0] == '\t')) text->at++, text->len--;
  while (text->len && (text->at[text->len - 1] == ' ' || text->at[text->len - 1] == '\t'))
    text->len--;
}

/* A host and port as a URI's authority has them, without user information. */
static bool plain_host(struct mp_http_text host) {
  if (!host.len) return false;
  size_t at = 0;
  if (host.at[0] == '[') {
    const char *close = memchr(host.at, ']', host.len);
    if (!close) return false;
    for (at = 1; host.at + at < close; at++)
      if (!strchr("0123456789abcdefABCDEF:.", host.at[at])) return false;
    if (at == 1) return false;
    at++;
  } else {
    for (; at < host.len && host.at[at] != ':'; at++) {
      unsigned char c = (unsigned char)host.at[at];
      bool unreserved = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z') || (c && strchr("-._~!$&'()*+,;=%", c));
      if (!unreserved) return false;
    }
    if (!at) return false;
  }
  if (at == host.len) return true;
  if (host.at[at++] != ':' || host.len - at > 5) return false;
  for (; at < host.len; at++)
    if (host.at[at] < '0' || host.at[at] > '9') return false;
  return true;
}

static enum mp_http_parse read_target(struct mp_http_parser *parser, struct mp_http_text target,
                                      struct mp_http_text host) {
  struct mp_http_message *message = &parser->message;
  if (target.len && memchr(target.at, '#', target.len))
    return mp_http_refuse(parser, 400, "the target of the request has a fragment");
  if (mp_http_text_is(target, "*")) {
    if (message->method != MP_HTTP_OPTIONS)
      return mp_http_refuse(parser, 400, "only OPTIONS has the target *");
    message->path = target;
    return MP_HTTP_DONE;
  }
  if (!target.len || target.at[0] != '/') { /* the absolute form, which clients send to proxies */
    size_t scheme = target.len > 7 && !strncasecmp(target.at, "http://", 7)    ? 7
                    : target.len > 8 && !strncasecmp(target.at, "https://", 8) ? 8
                                                                               : 0;
    if (!scheme)
      return mp_http_refuse(parser, 400, "the target of the request does not start with /");
    struct mp_http_text authority = {target.at + scheme, 0};
    while (scheme + authority.len < target.len && !strchr("/?", authority.at[authority.len]))
      authority.len++;
    if (!host.at || authority.len != host.len || strncasecmp(authority.at, host.at, host.len) != 0)
      return mp_http_refuse(parser, 400, "the target of the request names another host than Host");
    target.at += scheme + authority.len;
    target.len -= scheme + authority.len;
    if (!target.len || target.at[0] != '/')
      return mp_http_refuse(parser, 400, "the target of the request has no path");
  }
  const char *mark = memchr(target.at, '?', target.len);
  message->path = target;
  if (mark) {
    message->path.len = (size_t)(mark - target.at);
    message->query = (struct mp_http_text){mark + 1, target.len - message->path.len - 1};
  }
  return MP_HTTP_DONE;
}

/* Where the message ends: by Content-Length, by chunks, or with the head. */
static enum mp_http_parse read_framing(struct mp_http_parser *parser) {
  struct mp_http_message *message = &parser->message;
  struct mp_http_text length, coding;
  size_t lengths = mp_http_header(message, "content-length", &length);
  size_t codings = mp_http_header(message, "transfer-encoding", &coding);
  if (lengths && codings)
    return mp_http_refuse(parser, 400, "both Content-Length and Transfer-Encoding");
  if (codings) {
    if (!message->minor) return mp_http_refuse(parser, 400, "Transfer-Encoding in HTTP/1.0");
    if (codings > 1) return mp_http_refuse(parser, 400, "more than one Transfer-Encoding");
    if (!mp_http_text_is_nocase(coding, "chunked"))
      return mp_http_refuse(parser, 501, "the only supported transfer encoding is chunked");
    parser->at = MP_HTTP_AT_CHUNK_SIZE;
    return MP_HTTP_HEAD_DONE;
  }
  if (lengths > 1) return mp_http_refuse(parser, 400, "more than one Content-Length");
  if (lengths && (!length.len || length.len > 18))
    return mp_http_refuse(parser, 400, "Content-Length is not a number");
  for (size_t i = 0; i < length.len; i++) {
    if (length.at[i] < '0' || length.at[i] > '9')
      return mp_http_refuse(parser, 400, "Content-Length is not a number");
    parser->left = parser->left * 10 + (unsigned)(length.at[i] - '0');
  }
  if (parser->left > parser->limits->body_bytes)
    return mp_http_refuse(parser, 413, "the body is too large");
  if (parser->left) {
    parser->at = MP_HTTP_AT_LENGTH;
    return MP_HTTP_HEAD_DONE;
  }
  parser->at = MP_HTTP_AT_END;
  message->body = (struct mp_http_text){"", 0};
  return MP_HTTP_DONE;
}

/* llhttp reads the whole head; its headers become the message's. */
static enum mp_http_parse read_grammar(struct mp_http_parser *parser, struct mp_http_text target) {
  struct mp_http_message *message = &parser->message;
  struct reading reading = {.parser = parser};
  llhttp_t llhttp;
  llhttp_init(&llhttp, HTTP_REQUEST, &settings);
  llhttp.data = &reading;
  enum llhttp_errno error = llhttp_execute(&llhttp, parser->head.data, parser->head.len);
  if (reading.no_memory) return mp_http_refuse(parser, 503, "out of memory");
  if (reading.too_many) return mp_http_refuse(parser, 431, "too many headers");
  if (error == HPE_INVALID_TRANSFER_ENCODING)
    return mp_http_refuse(parser, 400, "Transfer-Encoding does not end with chunked");
  if (error != HPE_PAUSED || reading.split || reading.target.at != target.at ||
      reading.target.len != target.len)
    return mp_http_refuse(parser, 400, "the head is not an HTTP request");
  for (size_t i = 0; i < message->headers_len; i++) {
    if (!message->headers[i].name.len)
      return mp_http_refuse(parser, 400, "a header without a name");
    trim(&message->headers[i].value);
  }
  message->keep_alive = !(llhttp.flags & F_CONNECTION_CLOSE) &&
                        (message->minor || (llhttp.flags & F_CONNECTION_KEEP_ALIVE));
  return MP_HTTP_DONE;
}

enum mp_http_parse mp_http_read_head(struct mp_http_parser *parser) {
  struct mp_http_message *message = &parser->message;
  struct mp_http_text target = {0};
  enum mp_http_parse got = read_line(parser, &target);
  if (got == MP_HTTP_DONE) got = read_grammar(parser, target);
  if (got != MP_HTTP_DONE) return got;

  struct mp_http_text host, wants;
  size_t hosts = mp_http_header(message, "host", &host);
  if (hosts > 1) return mp_http_refuse(parser, 400, "more than one Host");
  if (!hosts && message->minor) return mp_http_refuse(parser, 400, "no Host");
  if (hosts && !plain_host(host)) return mp_http_refuse(parser, 400, "invalid Host header");
  got = read_target(parser, target, host);
  if (got != MP_HTTP_DONE) return got;
  if (mp_http_header(message, "expect", &wants) && message->minor) {
    if (!mp_http_text_is_nocase(wants, "100-continue"))
      return mp_http_refuse(parser, 417, "the only expectation known here is 100-continue");
    message->expects = true;
  }
  return read_framing(parser);
}
