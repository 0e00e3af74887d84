/* sql_module.c: the Lua module "moonpool.sql": what PostgreSQL's own parser knows about a text. */
#include <lauxlib.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "script/offload.h"
#include "sql/state.h"
#include "sql/text.h"
#include "values/json.h"

#define TREE_MAX                                                                                   \
  ((size_t)1 << 20) /* largest tree of a statement that Lua gets, in bytes; that of a long list of \
                       rows is larger */

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

/* `text` lies on the stack, for raising frees nothing. */
static MP_NORETURN void raise_fault(lua_State *L, const char *what, const char *text,
                                    const struct mp_sql_fault *fault) {
  struct mp_err err;
  if (fault->kind == MP_SQL_LIMIT) mp_luaerr_misuse(L, what, "the SQL text %s", fault->message);
  if (fault->kind == MP_SQL_MEMORY) luaL_error(L, "not enough memory");
  lua_Integer line = line_of(text, fault->position > 0 ? byte_of(text, fault->position - 1) : 0);
  mp_err_set(&err, MP_EINVAL, "line %d: %s", (int)line, fault->message);
  mp_luaerr_push(L, &err);
  lua_pushinteger(L, line);
  lua_setfield(L, -2, "sql_line");
  lua_pushinteger(L, fault->position);
  lua_setfield(L, -2, "sql_position");
  lua_pushstring(L, fault->message);
  lua_setfield(L, -2, "sql_message");
  lua_error(L);
  __builtin_unreachable();
}

/* A migration may be long. A script's text may not: reading it takes memory that is not charged to
 * the script. */
static size_t limit_of(lua_State *L) {
  return mp_task_limited(mp_task_of(L)) ? (size_t)MP_SQL_MAX : (size_t)MP_SQL_FILE_MAX;
}

/* The text at 1, without a NUL byte. */
static const char *check_text(lua_State *L, const char *what) {
  size_t len;
  struct mp_sql_fault fault;
  const char *text = luaL_checklstring(L, 1, &len);
  if (strlen(text) != len) mp_luaerr_misuse(L, what, "the SQL text contains a NUL byte");
  if (!mp_sql_fits(len, limit_of(L), &fault)) raise_fault(L, what, text, &fault);
  return text;
}

/* ---- a question to the parser: on the thread pool where the answer takes long ---- */

struct question {
  struct mp_piece piece;
  char *sql;
  void (*ask)(struct question *question);
  size_t max;
  bool lenient;
  void *answer; /* malloc'd; NULL: see the fault */
  size_t seen;  /* bytes up to which lines were counted */
  lua_Integer lines;
  struct mp_sql_fault fault;
};

static void ask_parse(struct question *q) { q->answer = mp_sql_parse(q->sql, q->max, &q->fault); }
static void ask_scan(struct question *q) { q->answer = mp_sql_scan(q->sql, q->max, &q->fault); }
static void ask_split(struct question *q) {
  q->answer = mp_sql_split(q->sql, q->lenient, q->max, &q->fault);
}

static void run_question(void *data) {
  struct question *question = data;
  question->ask(question);
  question->piece.cpu_ns += question->fault.cpu_ns;
}

static void end_question(void *data) {
  struct question *question = data;
  free(question->sql);
  free(question->answer);
}

/* Pushes a question about the `len` bytes at `sql`. */
static struct question *push_question(lua_State *L, void (*about)(struct question *question),
                                      const char *sql, size_t len) {
  struct mp_offload *offload = *(struct mp_offload **)lua_touserdata(L, lua_upvalueindex(1));
  struct question *question =
      mp_piece_push(L, offload, sizeof *question, run_question, end_question);
  question->ask = about;
  question->max = limit_of(L);
  if (!(question->sql = strndup(sql, len))) luaL_error(L, "not enough memory");
  return question;
}

/* Answers the question on top, here or on the thread pool; continues with k, the holder still on
 * top. */
static int ask(lua_State *L, struct question *question, const char *what, lua_KFunction k) {
  if (strlen(question->sql) > MP_SQL_QUICK) return mp_piece_submit(L, what, 0, k);
  run_question(question);
  return k(L, LUA_OK, 0);
}

/* ---- split ---- */

/* Whether the key word CONCURRENTLY is in it, for statements that only a newer parser understands.
 */
static bool says_concurrently(const char *sql) {
  struct mp_sql_fault fault;
  struct mp_sql_tokens *tokens = mp_sql_scan(sql, MP_SQL_FILE_MAX, &fault);
  bool found = false;
  for (size_t i = 0; tokens && i < tokens->n; i++)
    found = found || tokens->at[i].part == MP_SQL_CONCURRENTLY;
  free(tokens);
  return found;
}

/* What the parser said about the statement, into the table on top. [-0, +0] */
static void describe(lua_State *L, const struct question *q) {
  const char *tree = q->answer, *stmt = tree ? strstr(tree, "\"stmt\":{\"") : NULL;
  struct mp_err err;
  if (stmt) {
    stmt += strlen("\"stmt\":{\"");
    lua_pushlstring(L, stmt, strcspn(stmt, "\""));
    lua_setfield(L, -2, "kind");
    if (!mp_json_decode_max(L, tree, strlen(tree), TREE_MAX, MP_JSON_RAW, &err)) {
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
              : says_concurrently(q->sql));
  lua_setfield(L, -2, "concurrent");
  if (tree) return;
  lua_pushstring(L, q->fault.message);
  lua_setfield(L, -2, "unread");
}

enum { TEXT = 1, LENIENT, PIECES, LIST };

static struct question *pieces(lua_State *L) { return *(void **)lua_touserdata(L, PIECES); }

/* Where statement `number` begins, and its length. */
static const char *statement(lua_State *L, lua_KContext number, size_t *len) {
  const struct mp_sql_piece *piece = &((struct mp_sql_pieces *)pieces(L)->answer)->at[number];
  const char *text = lua_tostring(L, TEXT), *end = text + piece->start + piece->len,
             *begin = skip_blank(text + piece->start, end);
  *len = (size_t)(end - begin);
  return begin;
}

/* Stack: text, lenient, the pieces' holder, the list, the holder of what is known of statement
 * `number`. */
static void add_statement(lua_State *L, lua_KContext number) {
  const struct question *question = mp_piece_finished(L);
  size_t len;
  if (!question->answer && question->fault.kind != MP_SQL_SYNTAX)
    raise_fault(L, "sql.split", question->sql, &question->fault);
  const char *text = lua_tostring(L, TEXT), *begin = statement(L, number, &len);
  pieces(L)->lines += line_of(text + pieces(L)->seen, begin - text - (long)pieces(L)->seen) - 1;
  pieces(L)->seen = (size_t)(begin - text);
  lua_createtable(L, 0, 5);
  lua_pushstring(L, question->sql);
  lua_setfield(L, -2, "sql");
  lua_pushinteger(L, pieces(L)->lines + 1);
  lua_setfield(L, -2, "line");
  describe(L, question);
  lua_rawseti(L, LIST, number + 1);
  lua_settop(L, LIST);
}

static int described(lua_State *L, int status, lua_KContext number);

static int describe_from(lua_State *L, lua_KContext number) {
  const struct mp_sql_pieces *found = pieces(L)->answer;
  for (; (size_t)number < found->n; number++) {
    size_t len;
    const char *begin = statement(L, number, &len);
    mp_task_checkpoint(L, "sql.split");
    struct question *question = push_question(L, ask_parse, begin, len);
    if (len > MP_SQL_QUICK) return mp_piece_submit(L, "sql.split", number, described);
    run_question(question);
    add_statement(L, number);
  }
  return 1;
}

static int described(lua_State *L, int status, lua_KContext number) {
  (void)status;
  add_statement(L, number);
  return describe_from(L, number + 1);
}

static int was_split(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  const struct question *question = mp_piece_finished(L);
  const struct mp_sql_pieces *found = question->answer;
  if (!found) raise_fault(L, "sql.split", lua_tostring(L, TEXT), &question->fault);
  lua_createtable(L, found->n < INT_MAX ? (int)found->n : 0, 0);
  return describe_from(L, 0);
}

/* split(text, [lenient]) -> { {sql=, line=, kind=, concurrent=, tree=}, ... }; `tree` is the
 * statement's node as PostgreSQL names its fields, absent where it is too big or too deep. A text
 * that the parser does not read raises; with `lenient` it is split by the scanner, and a statement
 * that is not understood has `unread`, the reason, and no kind. */
static int sql_split(lua_State *L) {
  const char *text = check_text(L, "sql.split");
  lua_settop(L, LENIENT);
  struct question *question = push_question(L, ask_split, text, strlen(text));
  question->lenient = lua_toboolean(L, LENIENT);
  return ask(L, question, "sql.split", was_split);
}

/* ---- checksum ---- */

static int was_scanned(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  const struct question *question = mp_piece_finished(L);
  const struct mp_sql_tokens *tokens = question->answer;
  const unsigned char *text = (const unsigned char *)question->sql;
  crypto_hash_sha256_state state;
  unsigned char hash[crypto_hash_sha256_BYTES];
  char hex[2 * sizeof hash + 1];
  crypto_hash_sha256_init(&state);
  if (!tokens) { /* newer syntax than the parser's: the text itself */
    if (question->fault.kind != MP_SQL_SYNTAX)
      raise_fault(L, "sql.checksum", question->sql, &question->fault);
    crypto_hash_sha256_update(&state, text, strlen(question->sql));
  } else {
    for (size_t i = 0; i < tokens->n; i++) {
      const struct mp_sql_token *token = &tokens->at[i];
      if (token->part == MP_SQL_COMMENT) continue;
      crypto_hash_sha256_update(&state, text + token->start,
                                (unsigned long long)(token->end - token->start));
      crypto_hash_sha256_update(&state, (const unsigned char *)"\n", 1);
    }
  }
  crypto_hash_sha256_final(&state, hash);
  sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
  lua_pushstring(L, hex);
  return 1;
}

/* checksum(text) -> SHA-256 in hex over the scanner's tokens: blanks and comments do not count. */
static int sql_checksum(lua_State *L) {
  const char *text = check_text(L, "sql.checksum");
  struct question *question = push_question(L, ask_scan, text, strlen(text));
  return ask(L, question, "sql.checksum", was_scanned);
}

/* kind(text) -> "SelectStmt", reason why an operation may not run it or nil */
static int sql_kind(lua_State *L) {
  struct mp_text *text = mp_text_get(L, 1, "sql.kind");
  if (!text) return mp_text_read(L, 1, "sql.kind", sql_kind);
  lua_pushstring(L, text->kind);
  if (!text->refused[0]) return 1;
  lua_pushstring(L, text->refused);
  return 2;
}

int mp_open_sql(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"split", sql_split}, {"checksum", sql_checksum}, {"kind", sql_kind}, {NULL, NULL}};
  luaL_newlibtable(L, functions);
  mp_offload_push(L, mp_host_of(L)->sched, 1, 64, "long SQL texts wait to be read");
  luaL_setfuncs(L, functions, 1);
  return 1;
}
