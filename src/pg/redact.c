#include "pg/redact.h"

#include <stdlib.h>
#include <string.h>

#include "pg/parser.h"
#include "util/buf.h"

#define SHOWN_MAX ((size_t)MP_SQL_QUICK) /* bytes of a text that are shown */

static int highest_parameter(const char *sql, const struct mp_sql_tokens *tokens) {
  int highest = 0;
  for (size_t i = 0; i < tokens->n; i++) {
    if (tokens->at[i].part != MP_SQL_PARAMETER) continue;
    int number = atoi(sql + tokens->at[i].start + 1);
    if (number > highest) highest = number;
  }
  return highest;
}

static void write_tokens(struct mp_buf *out, const char *sql, const struct mp_sql_tokens *tokens) {
  int behind = 0, number = highest_parameter(sql, tokens);
  for (size_t i = 0; i < tokens->n; i++) {
    const struct mp_sql_token *token = &tokens->at[i];
    if (token->start > behind && out->len && out->data[out->len - 1] != ' ') mp_buf_addc(out, ' ');
    behind = token->end;
    switch (token->part) {
      case MP_SQL_COMMENT: break;
      case MP_SQL_STRING:
      case MP_SQL_NUMBER: mp_buf_addf(out, "$%d", ++number); break;
      case MP_SQL_PLAIN:
      case MP_SQL_PARAMETER:
      case MP_SQL_CONCURRENTLY:
        mp_buf_add(out, sql + token->start, (size_t)(token->end - token->start));
    }
  }
  while (out->len && out->data[out->len - 1] == ' ') out->len--;
}

/* The beginning of a long text, cut before the character or string that the limit falls into. */
static struct mp_sql_tokens *scan_beginning(char *sql, struct mp_sql_fault *fault) {
  size_t len = SHOWN_MAX;
  while (len && ((unsigned char)sql[len] & 0xC0) == 0x80) len--;
  sql[len] = '\0';
  struct mp_sql_tokens *tokens = mp_sql_scan(sql, SHOWN_MAX, fault);
  if (tokens || fault->kind != MP_SQL_SYNTAX || fault->position < 1) return tokens;
  char *at = sql;
  for (long left = fault->position - 1; left > 0 && *at; left--) do
      at++;
    while (((unsigned char)*at & 0xC0) == 0x80);
  *at = '\0';
  return mp_sql_scan(sql, SHOWN_MAX, fault);
}

char *mp_sql_redacted(const char *sql) {
  struct mp_buf out;
  struct mp_sql_fault fault;
  size_t len = strnlen(sql, SHOWN_MAX + 1);
  bool longer = len > SHOWN_MAX;
  char *beginning = longer ? strndup(sql, len) : NULL;
  const char *from = longer ? beginning : sql;
  struct mp_sql_tokens *tokens = !from    ? NULL
                                 : longer ? scan_beginning(beginning, &fault)
                                          : mp_sql_scan(sql, SHOWN_MAX, &fault);
  mp_buf_init(&out, 0);
  (void)mp_buf_reserve(&out, 64); /* even if nothing is left of it */
  if (tokens) {
    write_tokens(&out, from, tokens);
    if (longer) mp_buf_adds(&out, " ...");
  } else {
    mp_buf_addf(&out, "(%zu bytes that are not SQL)", strlen(sql));
  }
  free(tokens);
  free(beginning);
  mp_buf_text(&out);
  if (out.data && !out.failed) return out.data; /* the buffer's memory is the caller's now */
  mp_buf_fini(&out);
  return NULL;
}
