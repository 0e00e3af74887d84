/* http_request.c: what reads requests, under libFuzzer. Any bytes may come; then
 *   - however they are cut into pieces, the same requests come out, or the same refusal;
 *   - llhttp on its own, which knows nothing of our guard and rules, agrees on where each request
 * that we accept ends and what is in it: nobody else can read a request behind it that we did not
 * see. */
#include <llhttp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static const struct mp_http_limits limits = {
    .head_bytes = 600, .target_bytes = 200, .headers = 12, .body_bytes = 1000};

#define ENSURE(cond)                                              \
  do {                                                            \
    if (!(cond)) {                                                \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__); \
      abort();                                                    \
    }                                                             \
  } while (0)

/* ---- ours ---- */

struct account {
  struct mp_buf text; /* of each request: method, target, headers, body */
  int requests;
};

static void add(struct mp_buf *out, struct mp_http_text text) {
  mp_buf_addf(out, "<%zu:", text.len);
  if (text.len) mp_buf_add(out, text.at, text.len);
  mp_buf_addc(out, '>');
}

static void note(struct account *account, const struct mp_http_message *message) {
  account->requests++;
  mp_buf_addf(&account->text, "%d 1.%d %d", (int)message->method, message->minor,
              message->keep_alive);
  add(&account->text, message->path);
  add(&account->text, message->query);
  for (size_t i = 0; i < message->headers_len; i++) {
    add(&account->text, message->headers[i].name);
    add(&account->text, message->headers[i].value);
  }
  add(&account->text, message->body);
}

/* All requests of the bytes, in one piece or in pieces of 1 to 7 bytes; each has memory of its own,
 * so that reading beyond it is seen. */
static void read_all(struct account *account, const uint8_t *bytes, size_t n, bool cut) {
  struct mp_http_parser parser;
  size_t at = 0, size = 1;
  bool over = false;
  mp_http_parser_init(&parser, &limits);
  mp_buf_init(&account->text, 0);
  account->requests = 0;
  while (at < n && !over) {
    size = cut ? size * 31 % 7 + 1 : n;
    size_t len = size < n - at ? size : n - at, used, done = 0;
    char *piece = malloc(len);
    ENSURE(piece);
    memcpy(piece, bytes + at, len);
    while (done < len && !over) {
      enum mp_http_parse got = mp_http_parser_feed(&parser, piece + done, len - done, &used);
      if (got == MP_HTTP_REFUSED) {
        ENSURE(parser.status >= 400 && parser.why);
        mp_buf_addf(&account->text, "refused %d %s", parser.status, parser.why);
        over = true;
        break;
      }
      ENSURE(used <= len - done && (used || got == MP_HTTP_DONE));
      done += used;
      if (got != MP_HTTP_DONE) continue;
      note(account, &parser.message);
      over = !parser.message.keep_alive;
      mp_http_parser_reset(&parser);
    }
    free(piece);
    at += len;
  }
  mp_http_parser_fini(&parser);
}

/* ---- llhttp's ---- */

struct theirs {
  struct mp_buf url, body;
  int requests;
};

static int on_url(llhttp_t *llhttp, const char *at, size_t len) {
  struct theirs *theirs = llhttp->data;
  mp_buf_add(&theirs->url, at, len);
  return 0;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t len) {
  struct theirs *theirs = llhttp->data;
  mp_buf_add(&theirs->body, at, len);
  return 0;
}

static int on_complete(llhttp_t *llhttp) {
  struct theirs *theirs = llhttp->data;
  theirs->requests++;
  return 0;
}

static const llhttp_settings_t settings = {
    .on_url = on_url, .on_body = on_body, .on_message_complete = on_complete};

/* The requests that we read, one by one; llhttp reads them from their own bytes and must be done
 * exactly where we were, with the same body. */
static void compare(const uint8_t *bytes, size_t n) {
  struct mp_http_parser parser;
  mp_http_parser_init(&parser, &limits);
  size_t start = 0, at = 0;
  while (at < n) {
    size_t used;
    enum mp_http_parse got = mp_http_parser_feed(&parser, (const char *)bytes + at, n - at, &used);
    if (got == MP_HTTP_REFUSED) break;
    at += used;
    if (got != MP_HTTP_DONE) continue;
    struct theirs theirs = {0};
    llhttp_t llhttp;
    llhttp_init(&llhttp, HTTP_REQUEST, &settings);
    llhttp.data = &theirs;
    enum llhttp_errno error = llhttp_execute(&llhttp, (const char *)bytes + start, at - start);
    bool upgrade = error == HPE_PAUSED_UPGRADE; /* it would go on in another protocol; we do not */
    if (!error || upgrade) {
      struct mp_http_text body = parser.message.body;
      ENSURE(theirs.requests == 1);
      ENSURE(theirs.url.len >= parser.message.path.len + parser.message.query.len);
      ENSURE(upgrade || (theirs.body.len == body.len &&
                         (!body.len || !memcmp(theirs.body.data, body.at, body.len))));
    } else {
      /* It may be stricter, with the grammar of chunk extensions; it never ends a request
       * earlier. */
      ENSURE(theirs.requests == 0);
    }
    mp_buf_fini(&theirs.url);
    mp_buf_fini(&theirs.body);
    bool over = !parser.message.keep_alive;
    mp_http_parser_reset(&parser);
    start = at;
    if (over) break;
  }
  mp_http_parser_fini(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
  struct account whole, pieces;
  read_all(&whole, bytes, n, false);
  read_all(&pieces, bytes, n, true);
  ENSURE(whole.requests == pieces.requests && whole.text.len == pieces.text.len);
  ENSURE(!whole.text.len || !memcmp(whole.text.data, pieces.text.data, whole.text.len));
  mp_buf_fini(&whole.text);
  mp_buf_fini(&pieces.text);
  compare(bytes, n);
  return 0;
}
