/* sql.c: the Lua module "moonpool.sql": what PostgreSQL's own parser knows about a text. */
#include <lauxlib.h>
#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>
#include <sodium.h>
#include <string.h>

#include "bind/json.h"
#include "bind/text.h"
#include "script/luaerr.h"

#define TREE_MAX \
  ((size_t)1     \
   << 20) /* bytes of a statement's tree that Lua is given: rows to insert are not looked into */

static lua_Integer line_of(const char *text, long offset) {
  lua_Integer line = 1;
  for (long i = 0; i < offset && text[i]; i++) line += text[i] == '\n';
  return line;
}

/* Where the statement's own text begins: the parser counts blanks and comments before it to it. */
static const char *skip_blank(const char *at, const char *end) {
  for (;;) {
    while (at < end && strchr(" \t\r\n\f\v", *at)) at++;
    if (at + 1 < end && at[0] == '-' && at[1] == '-') {
      while (at < end && *at != '\n' && *at != '\r') at++;
    } else if (at + 1 < end && at[0] == '/' && at[1] == '*') {
      int depth = 1;
      for (at += 2; at < end && depth; at++) {
        if (at[0] == '/' && at + 1 < end && at[1] == '*')
          depth++, at++;
        else if (at[0] == '*' && at + 1 < end && at[1] == '/')
          depth--, at++;
      }
    } else {
      return at;
    }
  }
}

/* The parser counts characters. */
static long byte_of(const char *text, long characters) {
  long at = 0;
  for (; characters > 0 && text[at]; characters--) do
      at++;
    while (((unsigned char)text[at] & 0xC0) == 0x80);
  return at;
}

static MP_NORETURN void raise_parse(lua_State *L, const char *text, const PgQueryError *error) {
  struct mp_err err;
  lua_Integer line = line_of(text, error->cursorpos > 0 ? byte_of(text, error->cursorpos - 1) : 0);
  mp_err_set(&err, MP_EINVAL, "line %d: %s", (int)line, error->message);
  mp_luaerr_push(L, &err);
  lua_pushinteger(L, line);
  lua_setfield(L, -2, "sql_line");
  lua_pushinteger(L, error->cursorpos);
  lua_setfield(L, -2, "sql_position");
  lua_pushstring(L, error->message);
  lua_setfield(L, -2, "sql_message");
  lua_error(L);
  __builtin_unreachable();
}

/* Is the word CONCURRENTLY in it, as a key word? For what only a newer parser reads. */
static bool says_concurrently(const char *sql) {
  PgQueryScanResult scan = pg_query_scan(sql);
  PgQuery__ScanResult *tokens =
      scan.error ? NULL
                 : pg_query__scan_result__unpack(NULL, scan.pbuf.len, (const void *)scan.pbuf.data);
  bool found = false;
  for (size_t i = 0; tokens && i < tokens->n_tokens; i++)
    found = found || tokens->tokens[i]->token == PG_QUERY__TOKEN__CONCURRENTLY;
  if (tokens) pg_query__scan_result__free_unpacked(tokens, NULL);
  pg_query_free_scan_result(scan);
  return found;
}

/* What the parser knows about the statement `sql`, into the table on top. [-0, +0] */
static void describe(lua_State *L, const char *sql) {
  PgQueryParseResult parsed = pg_query_parse(sql);
  const char *stmt = parsed.error ? NULL : strstr(parsed.parse_tree, "\"stmt\":{\"");
  struct mp_err err;
  if (stmt) {
    stmt += strlen("\"stmt\":{\"");
    lua_pushlstring(L, stmt, strcspn(stmt, "\""));
    lua_setfield(L, -2, "kind");
    if (!mp_json_decode_max(L, parsed.parse_tree, strlen(parsed.parse_tree), TREE_MAX, MP_JSON_RAW,
                            &err)) {
      lua_getfield(L, -1, "stmts");
      lua_geti(L, -1, 1);
      lua_getfield(L, -1, "stmt");
      lua_getfield(L, -5, "kind");
      lua_gettable(L, -2);
      lua_setfield(L, -6, "tree");
      lua_pop(L, 4);
    }
  }
  lua_pushboolean(
      L, stmt ? strstr(stmt, "\"concurrent\":true") || strstr(stmt, "\"defname\":\"concurrently\"")
              : says_concurrently(sql));
  lua_setfield(L, -2, "concurrent");
  if (parsed.error) {
    lua_pushstring(L, parsed.error->message);
    lua_setfield(L, -2, "unread");
  }
  pg_query_free_parse_result(parsed);
}

/* split(text, [lenient]) -> { {sql=, line=, kind=, concurrent=, tree=}, ... }; `tree` is the statement's node as
 * PostgreSQL names its fields, absent where it is too big or too deep. A text that the parser does not read raises; with
 * `lenient` it is split by the scanner, and a statement that is not understood has `unread`, the reason, and no kind. */
static int sql_split(lua_State *L) {
  const char *text = luaL_checkstring(L, 1);
  bool lenient = lua_toboolean(L, 2);
  PgQuerySplitResult split =
      lenient ? pg_query_split_with_scanner(text) : pg_query_split_with_parser(text);
  if (split.error) {
    /* Copied to the stack first: raising leaves no chance to free. */
    PgQueryError copy = *split.error;
    lua_pushstring(L, copy.message);
    copy.message = (char *)(void *)lua_tostring(L, -1);
    pg_query_free_split_result(split);
    raise_parse(L, text, &copy);
  }
  lua_createtable(L, split.n_stmts, 0);
  const char *counted = text;
  lua_Integer line = 1;
  for (int i = 0; i < split.n_stmts; i++) {
    const char *begin = text + split.stmts[i]->stmt_location,
               *end = begin + split.stmts[i]->stmt_len;
    begin = skip_blank(begin, end);
    lua_createtable(L, 0, 5);
    lua_pushlstring(L, begin, (size_t)(end - begin));
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "sql");
    for (; counted < begin; counted++) line += *counted == '\n';
    lua_pushinteger(L, line);
    lua_setfield(L, -3, "line");
    lua_insert(L, -2);
    describe(L, lua_tostring(L, -2));
    lua_remove(L, -2);
    lua_rawseti(L, -2, i + 1);
  }
  pg_query_free_split_result(split);
  return 1;
}

/* checksum(text) -> SHA-256 in hex over the scanner's tokens: blanks and comments do not count. */
static int sql_checksum(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  crypto_hash_sha256_state state;
  unsigned char hash[crypto_hash_sha256_BYTES];
  char hex[2 * sizeof hash + 1];
  crypto_hash_sha256_init(&state);
  PgQueryScanResult scan = pg_query_scan(text);
  PgQuery__ScanResult *tokens =
      scan.error ? NULL
                 : pg_query__scan_result__unpack(NULL, scan.pbuf.len, (const void *)scan.pbuf.data);
  if (!tokens) { /* newer syntax than the parser's: the text itself */
    crypto_hash_sha256_update(&state, (const unsigned char *)text, len);
  } else {
    for (size_t i = 0; i < tokens->n_tokens; i++) {
      const PgQuery__ScanToken *token = tokens->tokens[i];
      if (token->token == PG_QUERY__TOKEN__SQL_COMMENT ||
          token->token == PG_QUERY__TOKEN__C_COMMENT)
        continue;
      crypto_hash_sha256_update(&state, (const unsigned char *)text + token->start,
                                (unsigned long long)(token->end - token->start));
      crypto_hash_sha256_update(&state, (const unsigned char *)"\n", 1);
    }
    pg_query__scan_result__free_unpacked(tokens, NULL);
  }
  pg_query_free_scan_result(scan);
  crypto_hash_sha256_final(&state, hash);
  sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
  lua_pushstring(L, hex);
  return 1;
}

/* kind(text) -> "SelectStmt", reason why an operation may not run it or nil */
static int sql_kind(lua_State *L) {
  struct mp_text *text = mp_text_get(L, 1, "sql.kind");
  lua_pushstring(L, text->kind);
  if (!text->refused[0]) return 1;
  lua_pushstring(L, text->refused);
  return 2;
}

int mp_open_sql(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"split", sql_split}, {"checksum", sql_checksum}, {"kind", sql_kind}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
