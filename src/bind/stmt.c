#include "bind/stmt.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/json.h"
#include "bind/value.h"
#include "script/luaerr.h"
#include "script/task.h"

void mp_stmt_ref(struct mp_stmt *stmt) { stmt->refs++; }

void mp_stmt_unref(struct mp_stmt *stmt) {
  if (--stmt->refs) return;
  mp_result_unref(stmt->result);
  mp_text_unref(stmt->text);
  free((void *)(uintptr_t)stmt->missing);
  free((void *)(uintptr_t)stmt->req.values);
  free(stmt);
}

/* ---- parameters ---- */

/* May the absent `name` be read as NULL? Tables that a schema has checked name their optional fields. */
static bool known_field(lua_State *L, int table, const char *name) {
  bool known = false;
  int top = lua_gettop(L);
  if (luaL_getmetafield(L, table, "__fields") == LUA_TTABLE) {
    lua_pushstring(L, name);
    known = lua_rawget(L, -2) != LUA_TNIL;
  }
  lua_settop(L, top);
  return known;
}

/* The values are packed behind one another in `out`, offsets in `at` (-1: NULL). */
static enum mp_param_form pack(lua_State *L, const char *what, struct mp_text *text, int params, int given, struct mp_buf *out,
                 int *at) {
  enum mp_param_form form = MP_PARAM_SURE;
  if (text->names && (given < 1 || lua_type(L, params) != LUA_TTABLE))
    mp_luaerr_misuse(L, what, "the statement has $%s: pass a table with the values by name", text->names[0]);
  /* A statement without parameters may get the whole input; it takes nothing from it. */
  bool whole = !text->nparams && given == 1 && lua_type(L, params) == LUA_TTABLE;
  if (!text->names && given != text->nparams && !whole)
    mp_luaerr_misuse(L, what, "%d value%s for %d parameter%s", given, given == 1 ? "" : "s", text->nparams,
                     text->nparams == 1 ? "" : "s");
  for (int i = 0; i < text->nparams; i++) {
    char number[12];
    const char *name = number;
    if (text->names) {
      name = text->names[i];
      lua_pushstring(L, name);
      if (lua_rawget(L, params) == LUA_TNIL && !known_field(L, params, name))
        mp_luaerr_misuse(L, what, "no value for $%s; for NULL pass moonpool.null", name);
    } else {
      snprintf(number, sizeof number, "%d", i + 1);
      lua_pushvalue(L, params + i);
    }
    size_t start = out->len;
    bool given_value = mp_param_add(L, -1, text->types ? text->types[i] : 0, name, out, &form, what);
    lua_pop(L, 1);
    at[i] = given_value ? (int)start : -1;
    if (given_value) mp_buf_addc(out, '\0');
  }
  if (out->failed) luaL_error(L, "not enough memory");
  return form;
}

/* Everything that may raise happens before anything is allocated that Lua would not free. */
static struct mp_stmt *make(lua_State *L, const char *what, struct mp_text *text, int params, bool may_guess) {
  int top = lua_gettop(L);
  int given = params ? top - params + 1 : 0;
  size_t head = sizeof(char *) * (size_t)(text->nparams + 1);
  int few[32], *at = few;
  if (text->nparams > (int)MP_ARRAY_LEN(few))
    at = lua_newuserdatauv(L, sizeof *at * (size_t)text->nparams, 0);
  struct mp_buf *out = mp_json_buf_new(L, 0);
  char where[sizeof((struct mp_stmt *)0)->where];
  mp_task_where(L, 1, where, sizeof where);
  enum mp_param_form form = pack(L, what, text, params, given, out, at);
  if (form == MP_PARAM_GUESSED && (!may_guess || text->ask)) form = MP_PARAM_NEEDS_TYPE;
  if (form == MP_PARAM_NEEDS_TYPE) {
    lua_settop(L, top);
    return NULL;
  }
  struct mp_stmt *stmt = calloc(1, sizeof *stmt);
  char *block = malloc(head + out->len);
  if (!stmt || !block) {
    free(stmt);
    free(block);
    luaL_error(L, "not enough memory");
    return NULL; /* not reached */
  }
  const char **values = (const char **)(void *)block;
  if (out->len) memcpy(block + head, out->data, out->len);
  for (int i = 0; i < text->nparams; i++) values[i] = at[i] < 0 ? NULL : block + head + at[i];
  stmt->refs = 1;
  stmt->guessed = form == MP_PARAM_GUESSED;
  stmt->text = text;
  mp_text_ref(text);
  stmt->req = (struct mp_req){.sql = text->sql, .nparams = text->nparams, .values = values};
  mp_list_init(&stmt->node);
  memcpy(stmt->where, where, sizeof where);
  mp_buf_fini(out); /* not left to the collector: this is the hot path */
  lua_settop(L, top);
  return stmt;
}

struct mp_stmt *mp_stmt_new(lua_State *L, const char *what, int sql_idx, int params_idx, bool may_guess) {
  return make(L, what, mp_text_get(L, sql_idx, what), params_idx, may_guess);
}

struct mp_stmt *mp_stmt_insert(lua_State *L, const char *what, int table_idx, int values_idx, bool may_guess) {
  if (lua_type(L, table_idx) != LUA_TSTRING) mp_luaerr_misuse(L, what, "the name of the table is missing");
  if (lua_type(L, values_idx) != LUA_TTABLE) mp_luaerr_misuse(L, what, "the values are missing: pass a table");
  lua_settop(L, values_idx);
  return make(L, what, mp_text_insert(L, lua_tostring(L, table_idx), values_idx, what), values_idx, may_guess);
}

struct mp_stmt *mp_stmt_describe(lua_State *L, struct mp_text *text) {
  struct mp_stmt *stmt = calloc(1, sizeof *stmt);
  if (!stmt) luaL_error(L, "not enough memory");
  stmt->refs = 1;
  stmt->text = text;
  mp_text_ref(text);
  stmt->req = (struct mp_req){.sql = text->sql, .flags = MP_REQ_DESCRIBE};
  mp_list_init(&stmt->node);
  mp_task_where(L, 1, stmt->where, sizeof stmt->where);
  return stmt;
}

void mp_stmt_described(struct mp_stmt *stmt) {
  struct mp_text *text = stmt->text;
  const PGresult *pg = stmt->result->pg;
  if (text->types || PQnparams(pg) != text->nparams) return;
  Oid *types = malloc(sizeof *types * (size_t)(text->nparams ? text->nparams : 1));
  for (int i = 0; types && i < text->nparams; i++) types[i] = PQparamtype(pg, i);
  text->types = types;
}

void mp_stmt_set_missing(struct mp_stmt *stmt, const char *message) { stmt->missing = strdup(message); }

/* The value of the parameter whose name begins `at` (of `len` bytes), or NULL. */
static const char *named_value(const struct mp_stmt *stmt, const char *at, size_t len) {
  for (int i = 0; stmt->text->names && i < stmt->text->nparams; i++) {
    const char *name = stmt->text->names[i];
    if (strlen(name) == len && !strncmp(name, at, len)) return stmt->req.values[i] ? stmt->req.values[i] : "NULL";
  }
  return NULL;
}

/* "Vehicle not found: $vehicle_id": the names are those of the statement's parameters. */
static void expand(const struct mp_stmt *stmt, const char *template, char *out, size_t size) {
  size_t used = 0;
  for (const char *at = template; *at && used + 1 < size;) {
    size_t name = *at == '$' ? strspn(at + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") : 0;
    const char *value = name ? named_value(stmt, at + 1, name) : NULL;
    if (!value) {
      out[used++] = *at++;
      continue;
    }
    used += (size_t)snprintf(out + used, size - used, "%s", value);
    if (used >= size) used = size - 1;
    at += name + 1;
  }
  out[used] = '\0';
}

/* ---- failures ---- */

void mp_failure_clear(struct mp_failure *failure) {
  mp_result_unref(failure->result);
  if (failure->text) mp_text_unref(failure->text);
  *failure = (struct mp_failure){0};
}

static void place(struct mp_failure *out, struct mp_stmt *stmt) {
  mp_failure_clear(out);
  out->text = stmt->text;
  mp_text_ref(stmt->text);
  memcpy(out->where, stmt->where, sizeof out->where);
}

void mp_failure_of_stmt(struct mp_failure *out, struct mp_stmt *stmt) {
  place(out, stmt);
  out->err = stmt->err;
  if (stmt->result) out->result = mp_result_ref(stmt->result);
}

bool mp_stmt_broken_promise(struct mp_stmt *stmt, struct mp_failure *out) {
  if (!stmt->one || stmt->state != MP_STMT_DONE) return false;
  int rows = PQntuples(stmt->result->pg);
  if (rows == 1) return false;
  char text[300];
  place(out, stmt);
  if (rows) {
    mp_err_set(&out->err, MP_EINVAL, "one row was expected and %d came", rows);
    strcpy(out->code, "TOO_MANY_ROWS");
    out->status = 500;
  } else {
    expand(stmt, stmt->missing ? stmt->missing : "no row found", text, sizeof text);
    mp_err_set(&out->err, MP_EINVAL, "%s", text);
    strcpy(out->code, "RESOURCE_NOT_FOUND");
    out->status = 404;
  }
  return true;
}

/* Names and status of what the server reports, where the code alone says enough. */
static const struct {
  const char *sqlstate, *code;
  int status;
} known[] = {
    {"23505", "UNIQUE_VIOLATION", 409},      {"23503", "FOREIGN_KEY_VIOLATION", 409},
    {"23514", "CHECK_VIOLATION", 400},       {"23502", "NOT_NULL_VIOLATION", 400},
    {"23P01", "EXCLUSION_VIOLATION", 409},   {"40001", "SERIALIZATION_FAILURE", 503},
    {"40P01", "DEADLOCK", 503},              {"57014", "QUERY_CANCELED", 504},
    {"55P03", "LOCK_TIMEOUT", 503},          {"42501", "PERMISSION_DENIED", 403},
    {"53300", "TOO_MANY_CONNECTIONS", 503},  {"53100", "DISK_FULL", 503},
    {"25006", "READ_ONLY", 400},
};

static void set_field(lua_State *L, const char *name, const PGresult *pg, int diag) {
  const char *value = PQresultErrorField(pg, diag);
  if (!value) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, name);
}

/* The caller's own name for a broken constraint. [-0, +0], the error object is on top */
static void map_constraint(lua_State *L, int errors_ref) {
  int top = lua_gettop(L);
  if (errors_ref != LUA_NOREF && lua_rawgeti(L, LUA_REGISTRYINDEX, errors_ref) == LUA_TTABLE &&
      lua_getfield(L, top, "constraint") == LUA_TSTRING) {
    lua_rawget(L, -2);
    if (lua_type(L, -1) == LUA_TTABLE) {
      static const char *const fields[] = {"code", "status", "message"};
      for (int i = 0; i < 3; i++) {
        if (lua_rawgeti(L, -1, i + 1) != LUA_TNIL) lua_setfield(L, top, fields[i]);
        else lua_pop(L, 1);
      }
    }
  }
  lua_settop(L, top);
}

void mp_failure_push(lua_State *L, const struct mp_failure *failure, int errors_ref) {
  mp_luaerr_push(L, &failure->err);
  if (failure->code[0]) {
    lua_pushstring(L, failure->code);
    lua_setfield(L, -2, "code");
    lua_pushinteger(L, failure->status);
    lua_setfield(L, -2, "status");
  }
  for (size_t i = 0; i < MP_ARRAY_LEN(known); i++) {
    if (strcmp(failure->err.sqlstate, known[i].sqlstate) != 0) continue;
    lua_pushstring(L, known[i].code);
    lua_setfield(L, -2, "code");
    lua_pushinteger(L, known[i].status);
    lua_setfield(L, -2, "status");
  }
  if (failure->where[0]) {
    lua_pushstring(L, failure->where);
    lua_setfield(L, -2, "line");
  }
  if (failure->text) {
    lua_pushstring(L, failure->text->sql);
    lua_setfield(L, -2, "query");
  }
  if (failure->result) {
    const PGresult *pg = failure->result->pg;
    set_field(L, "detail", pg, PG_DIAG_MESSAGE_DETAIL);
    set_field(L, "hint", pg, PG_DIAG_MESSAGE_HINT);
    set_field(L, "constraint", pg, PG_DIAG_CONSTRAINT_NAME);
    set_field(L, "table", pg, PG_DIAG_TABLE_NAME);
    set_field(L, "column", pg, PG_DIAG_COLUMN_NAME);
    map_constraint(L, errors_ref);
  }
}
