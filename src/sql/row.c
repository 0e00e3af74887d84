#include "sql/row.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "sql/types.h"
#include "sql/value.h"
#include "util/nearest.h"
#include "values/json.h"

#define ROW_TYPE "moonpool.row"

static const char row_mark;

struct mp_row {
  const void *mark;         /* &row_mark: identifies a row, faster than its metatable's name */
  struct mp_result *result; /* NULL: lazy, see stmt */
  struct mp_stmt *stmt;
  int row;
};

static void register_type(lua_State *L);

static struct mp_row *push(lua_State *L) {
  /* One user value: decoded tables (json, arrays), so that reading a column twice gives the same
   * table. */
  struct mp_row *row = lua_newuserdatauv(L, sizeof *row, 1);
  *row = (struct mp_row){.mark = &row_mark};
  if (luaL_getmetatable(L, ROW_TYPE) == LUA_TNIL) {
    lua_pop(L, 1);
    register_type(L);
  }
  lua_setmetatable(L, -2);
  return row;
}

/* `where`: the statement's place, or NULL: the caller's. */
static void check_names(lua_State *L, const PGresult *pg, const char *where) {
  struct mp_err err;
  char here[96];
  if (!mp_stmt_names_clash(pg, &err)) return;
  mp_luaerr_push(L, &err);
  if (!where) {
    mp_task_where(L, 1, here, sizeof here);
    where = here;
  }
  lua_pushstring(L, where);
  lua_setfield(L, -2, "line");
  lua_error(L);
}

static void push_bound(lua_State *L, struct mp_result *result, int n) {
  struct mp_row *row = push(L);
  row->result = mp_result_ref(result);
  row->row = n;
}

void mp_row_push(lua_State *L, struct mp_result *result, int n) {
  check_names(L, result->pg, NULL);
  push_bound(L, result, n);
}

struct mp_row *mp_row_push_lazy(lua_State *L) {
  return push(L);
}

void mp_row_bind(struct mp_row *row, struct mp_stmt *stmt) {
  mp_stmt_ref(stmt);
  row->stmt = stmt;
}

void mp_row_push_all(lua_State *L, struct mp_result *result) {
  int n = PQntuples(result->pg);
  check_names(L, result->pg, NULL); /* also when there are no rows */
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    push_bound(L, result, i);
    lua_rawseti(L, -2, i + 1);
  }
  mp_json_set_mark(L, MP_JSON_ARRAY); /* also without rows */
}

static int row_gc(lua_State *L) {
  struct mp_row *row = lua_touserdata(L, 1);
  mp_result_unref(row->result);
  if (row->stmt) mp_stmt_unref(row->stmt);
  row->result = NULL;
  row->stmt = NULL;
  return 0;
}

/* The result of a statement that is done. Raises if it broke its promise, or its rows were
 * refused. */
static struct mp_result *outcome(lua_State *L, struct mp_stmt *stmt) {
  struct mp_failure failure = {0};
  if (stmt->unseen)
    mp_luaerr_misuse(L, "row",
                     "the row inserted at %s was not asked for, because nothing of its call could "
                     "look at it any more: read a column of it inside of run, or return it",
                     stmt->where);
  if (mp_stmt_broken_promise(stmt, &failure) || mp_stmt_swallowed(stmt, &failure)) {
    mp_failure_push(L, &failure, NULL);
    mp_failure_clear(&failure);
    lua_error(L);
  }
  if (stmt->refused) {
    mp_luaerr_push(L, &stmt->err);
    lua_pushstring(L, stmt->where);
    lua_setfield(L, -2, "line");
    lua_error(L);
  }
  return stmt->result;
}

/* Whether the row is available. Settles a lazy row whose statement is done. */
static bool settled(lua_State *L, struct mp_row *row) {
  if (row->result) return true;
  struct mp_stmt *stmt = row->stmt;
  if (!stmt) return luaL_error(L, "this row was never asked for");
  if (stmt->state != MP_STMT_DONE) return false;
  struct mp_result *result = outcome(L, stmt);
  check_names(L, result->pg, stmt->where);
  row->result = mp_result_ref(result);
  row->row = (int)stmt->row;
  row->stmt = NULL;
  mp_stmt_unref(stmt);
  return true;
}

static struct mp_row *check_row(lua_State *L) {
  struct mp_row *row = lua_touserdata(L, 1);
  bool is = row && lua_rawlen(L, 1) == sizeof *row && row->mark == &row_mark;
  luaL_argexpected(L, is, 1, ROW_TYPE);
  return row;
}

/* Runs `k` with the row settled: at once, or after a flush. */
static int with_row(lua_State *L, lua_KFunction k) {
  struct mp_row *row = check_row(L);
  if (settled(L, row)) return k(L, LUA_OK, 0);
  const struct mp_stmt_driver *driver = row->stmt->driver;
  if (!driver || row->stmt->state == MP_STMT_FAILED) mp_stmt_raise(L, row->stmt);
  return driver->flush(L, row->stmt, k);
}

static struct mp_row *now_settled(lua_State *L) {
  struct mp_row *row = lua_touserdata(L, 1);
  if (!settled(L, row)) mp_stmt_raise(L, row->stmt);
  return row;
}

enum { LOOKED_AT = 64, LOOK_DEPTH = 4 }; /* values of a result, to find rows */

/* `left`: how many values may still be looked at. */
static bool within(lua_State *L, int idx, int depth, int *left) {
  if (!(*left)--) return true;
  idx = lua_absindex(L, idx);
  switch (lua_type(L, idx)) {
    case LUA_TNIL:
    case LUA_TBOOLEAN:
    case LUA_TNUMBER:
    case LUA_TSTRING:
    case LUA_TLIGHTUSERDATA: return false;
    case LUA_TTABLE: break;
    default: return true;
  }
  if (depth == LOOK_DEPTH || !lua_checkstack(L, 4)) return true;
  if (lua_getmetatable(L, idx)) {
    lua_pop(L, 1);
    return true;
  }
  bool found = false;
  int top = lua_gettop(L);
  for (lua_pushnil(L); !found && lua_next(L, idx); lua_pop(L, 1))
    found = within(L, -1, depth + 1, left) || within(L, -2, depth + 1, left);
  lua_settop(L, top);
  return found;
}

bool mp_row_within(lua_State *L, int idx) {
  int left = LOOKED_AT;
  return within(L, idx, 0, &left);
}

lua_Integer mp_row_affected(lua_State *L, int idx) {
  struct mp_row *row = lua_touserdata(L, idx);
  struct mp_result *result = row->stmt ? row->stmt->result : row->result;
  if (row->stmt && row->stmt->state != MP_STMT_DONE) mp_stmt_raise(L, row->stmt);
  return atoll(PQcmdTuples(result->pg));
}

struct mp_result *mp_row_result(lua_State *L, int idx) {
  struct mp_row *row = lua_touserdata(L, idx);
  if (row->result) return row->result;
  if (row->stmt->state != MP_STMT_DONE) mp_stmt_raise(L, row->stmt);
  return outcome(L, row->stmt);
}

/* ---- columns ---- */

static int find_column(const PGresult *pg, const char *name) {
  int n = PQnfields(pg);
  for (int i = 0; i < n; i++)
    if (!strcmp(PQfname(pg, i), name)) return i;
  return -1;
}

static MP_NORETURN void raise_unknown(lua_State *L, const PGresult *pg, const char *name) {
  struct mp_err err;
  const char *nearest = NULL;
  size_t best = strlen(name) / 2 + 1;
  for (int i = 0; i < PQnfields(pg); i++) {
    size_t d = mp_distance(name, PQfname(pg, i));
    if (d < best) best = d, nearest = PQfname(pg, i);
  }
  char where[96];
  mp_task_where(L, 1, where, sizeof where);
  mp_err_set(&err, MP_ESCRIPT, "the row has no column `%s`%s%s%s", name,
             nearest ? "; did you mean `" : "", nearest ? nearest : "", nearest ? "`?" : "");
  mp_luaerr_push(L, &err);
  lua_pushstring(L, where);
  lua_setfield(L, -2, "line");
  lua_error(L);
  __builtin_unreachable();
}

static bool is_table(const struct mp_row *row, int col) {
  struct mp_column type = mp_types_column(row->result, col);
  bool may_be = type.type == MP_OID_JSON || type.type == MP_OID_JSONB || type.element;
  return may_be && !PQgetisnull(row->result->pg, row->row, col);
}

/* Pushes the tables that were read from the row. */
static void push_kept(lua_State *L) {
  if (lua_getiuservalue(L, 1, 1) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 1, 1);
}

/* The value of the column `col` is on top. */
static int keep_k(lua_State *L, int status, lua_KContext col) {
  (void)status;
  if (!is_table(lua_touserdata(L, 1), (int)col)) return 1;
  push_kept(L);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, (lua_Integer)col);
  lua_pop(L, 1);
  return 1;
}

/* Continues with k, with the column's value on top; k gets `col`, and calls keep_k. */
static int read_column(lua_State *L, struct mp_row *row, int col, lua_KFunction k) {
  if (is_table(row, col)) {
    push_kept(L);
    if (lua_rawgeti(L, -1, col) != LUA_TNIL) return k(L, LUA_OK, col);
    lua_pop(L, 2);
  }
  return mp_value_read(L, row->result, row->row, col, col, k);
}

static int index_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct mp_row *row = now_settled(L);
  if (lua_type(L, 2) != LUA_TSTRING)
    luaL_error(L, "columns are read by name, not by %s", luaL_typename(L, 2));
  const char *name = lua_tostring(L, 2);
  int col = find_column(row->result->pg, name);
  if (col < 0) raise_unknown(L, row->result->pg, name);
  return read_column(L, row, col, keep_k);
}

static int row_index(lua_State *L) { return with_row(L, index_k); }

static int row_newindex(lua_State *L) {
  return luaL_error(L, "a row is read-only (column `%s`): write with an update statement",
                    lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?");
}

static int next_k(lua_State *L, int status, lua_KContext col) {
  const struct mp_row *row = lua_touserdata(L, 1);
  keep_k(L, status, col);
  lua_pushstring(L, PQfname(row->result->pg, (int)col));
  lua_insert(L, -2);
  return 2;
}

static int next_column(lua_State *L) {
  struct mp_row *row = luaL_checkudata(L, 1, ROW_TYPE);
  if (!settled(L, row)) luaL_error(L, "this row was not read yet: use pairs(row)");
  int n = PQnfields(row->result->pg);
  int col = lua_isnoneornil(L, 2) ? 0 : find_column(row->result->pg, luaL_checkstring(L, 2)) + 1;
  return col < n ? read_column(L, row, col, next_k) : 0;
}

/* pairs gives every column, those that are NULL with nil as the value. */
static int pairs_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  now_settled(L);
  lua_pushcfunction(L, next_column);
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  return 3;
}

static int row_pairs(lua_State *L) { return with_row(L, pairs_k); }

static int len_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_pushinteger(L, PQnfields(now_settled(L)->result->pg));
  return 1;
}

static int row_len(lua_State *L) { return with_row(L, len_k); }

/* A __tostring cannot wait, so when Lua itself calls it a lazy row only gives its type. */
static int row_tostring(lua_State *L) {
  struct mp_row *row = luaL_checkudata(L, 1, ROW_TYPE);
  if (!settled(L, row)) {
    lua_pushfstring(L, "row (not read yet, queued at %s)", row->stmt->where);
    return 1;
  }
  const PGresult *pg = row->result->pg;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "row {");
  for (int i = 0; i < PQnfields(pg); i++) {
    luaL_addstring(&b, i ? ", " : " ");
    luaL_addstring(&b, PQfname(pg, i));
    luaL_addstring(&b, " = ");
    luaL_addstring(&b, PQgetisnull(pg, row->row, i) ? "NULL" : PQgetvalue(pg, row->row, i));
  }
  luaL_addstring(&b, " }");
  luaL_pushresult(&b);
  return 1;
}

static int tostring_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  luaL_tolstring(L, 1, NULL);
  return 1;
}

/* Lua's own cannot wait in a __tostring. */
static int looking_tostring(lua_State *L) {
  luaL_checkany(L, 1);
  bool lazy = luaL_testudata(L, 1, ROW_TYPE) && lua_isyieldable(L);
  return lazy ? with_row(L, tostring_k) : tostring_k(L, LUA_OK, 0);
}

void mp_row_open(lua_State *L) {
  lua_pushcfunction(L, looking_tostring);
  lua_setglobal(L, "tostring");
}

/* "userId" beside user_id: at the border both would be userId. */
static void check_spelling(lua_State *L, const PGresult *pg, int col) {
  const char *name = PQfname(pg, col);
  char snake[256];
  size_t len = strlen(name);
  if (len > sizeof snake / 2 - 1) return;
  size_t n = mp_json_snake(name, len, snake);
  snake[n] = '\0';
  int other = n == len ? -1 : find_column(pg, snake);
  if (other >= 0)
    luaL_error(L, "columns %d (%s) and %d (%s) would both be `%s` in JSON: rename one, with `as`",
               other + 1, snake, col + 1, name, name);
}

static void row_json(lua_State *L, int idx, struct mp_buf *out, unsigned flags) {
  struct mp_row *row = luaL_checkudata(L, idx, ROW_TYPE);
  if (!settled(L, row)) {
    if (row->stmt->state == MP_STMT_FAILED) mp_stmt_raise(L, row->stmt);
    if (flags & MP_JSON_UNREAD) {
      mp_buf_addc(out, MP_JSON_UNREAD_MARK);
      return;
    }
    luaL_error(L, "a row that was not read yet cannot be written as JSON");
  }
  const PGresult *pg = row->result->pg;
  mp_buf_addc(out, '{');
  for (int i = 0; i < PQnfields(pg); i++) {
    const char *name = PQfname(pg, i);
    if (i) mp_buf_addc(out, ',');
    if (flags & MP_JSON_CAMEL) check_spelling(L, pg, i);
    mp_json_add_key(L, out, name, strlen(name), flags);
    mp_value_json(L, row->result, row->row, i, out, flags);
  }
  mp_buf_addc(out, '}');
}

static void register_type(lua_State *L) {
  static const luaL_Reg meta[] = {
      {"__index", row_index}, {"__newindex", row_newindex}, {"__pairs", row_pairs},
      {"__len", row_len},     {"__tostring", row_tostring}, {"__gc", row_gc},
      {NULL, NULL},
  };
  luaL_newmetatable(L, ROW_TYPE);
  luaL_setfuncs(L, meta, 0);
  mp_json_hook_push(L, row_json);
  lua_setfield(L, -2, "__json");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
}
