#include "pg/redact.h"

#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>
#include <stdlib.h>
#include <string.h>

#include "util/buf.h"

#define SHOWN_MAX ((size_t)8 << 10) /* bytes of a text that anybody reads */

enum part { PLAIN, BLANK, VALUE, NUMBER };

static enum part part_of(int token) {
  switch (token) { /* of some 500: the rest is plain */
    case PG_QUERY__TOKEN__SQL_COMMENT:
    case PG_QUERY__TOKEN__C_COMMENT: return BLANK;
    case PG_QUERY__TOKEN__SCONST:
    case PG_QUERY__TOKEN__USCONST:
    case PG_QUERY__TOKEN__BCONST:
    case PG_QUERY__TOKEN__XCONST: return VALUE;
    case PG_QUERY__TOKEN__ICONST:
    case PG_QUERY__TOKEN__FCONST: return NUMBER;
    default: return PLAIN;
  }
}

/* `numbers`: they may be values too, since nobody has taken them out yet. */
static void write_tokens(struct mp_buf *out, const char *sql, const PgQuery__ScanResult *scan,
                         bool numbers) {
  int behind = 0;
  for (size_t i = 0; i < scan->n_tokens; i++) {
    const PgQuery__ScanToken *token = scan->tokens[i];
    enum part part = part_of((int)token->token);
    if (token->start > behind && out->len && out->data[out->len - 1] != ' ') mp_buf_addc(out, ' ');
    behind = token->end;
    if (part == BLANK) continue;
    if (part == VALUE || (part == NUMBER && numbers))
      mp_buf_adds(out, part == VALUE ? "'...'" : "?");
    else
      mp_buf_add(out, sql + token->start, (size_t)(token->end - token->start));
  }
  while (out->len && out->data[out->len - 1] == ' ') out->len--;
}

static void write_scanned(struct mp_buf *out, const char *sql, bool numbers) {
  PgQueryScanResult scan = pg_query_scan(sql);
  PgQuery__ScanResult *tokens =
      scan.error ? NULL
                 : pg_query__scan_result__unpack(NULL, scan.pbuf.len, (const void *)scan.pbuf.data);
  if (tokens) {
    write_tokens(out, sql, tokens, numbers);
    pg_query__scan_result__free_unpacked(tokens, NULL);
  } else {
    mp_buf_addf(out, "(%zu bytes that are no SQL)", strlen(sql));
  }
  pg_query_free_scan_result(scan);
}

/* A text beyond the limit is cut between characters. */
static void shorten(struct mp_buf *out) {
  if (out->len <= SHOWN_MAX) return;
  size_t at = SHOWN_MAX;
  while (at && ((unsigned char)out->data[at] & 0xC0) == 0x80) at--;
  out->len = at;
  mp_buf_adds(out, " ...");
}

char *mp_sql_redacted(const char *sql) {
  struct mp_buf out;
  PgQueryNormalizeResult normal = pg_query_normalize(sql);
  mp_buf_init(&out, 0);
  (void)mp_buf_reserve(&out, 64); /* even if nothing is left of it */
  write_scanned(&out, normal.error ? sql : normal.normalized_query, normal.error != NULL);
  pg_query_free_normalize_result(normal);
  shorten(&out);
  mp_buf_text(&out);
  if (out.data && !out.failed) return out.data; /* the buffer's memory is the caller's now */
  mp_buf_fini(&out);
  return NULL;
}
