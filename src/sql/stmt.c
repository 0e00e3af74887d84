#include "sql/stmt.h"

#include <lauxlib.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "script/luaerr.h"
#include "script/task.h"
#include "sql/many.h"
#include "sql/param.h"
#include "sql/state.h"
#include "sql/types.h"
#include "sql/value.h"
#include "util/log.h"
#include "util/utf8.h"
#include "values/json.h"

enum {
  MOST_BYTES = 512 << 20, /* of the parameters of a statement, whatever memory there is */
  KEEP_BYTES = 1 << 20,   /* of the buffer that they are packed in */
};

void mp_stmt_ref(struct mp_stmt *stmt) { stmt->refs++; }

void mp_stmt_unref(struct mp_stmt *stmt) {
  if (--stmt->refs) return;
  mp_result_unref(stmt->result);
  mp_text_unref(stmt->text);
  mp_charge_drop(&stmt->charge);
  free(stmt);
}

void mp_stmt_let_go(struct mp_stmt *stmt) {
  stmt->owner = stmt->part = NULL;
  stmt->driver = NULL;
  mp_stmt_unref(stmt);
}

/* ---- parameters ---- */

/* Whether the missing `name` counts as NULL: it is an optional field in a table that a schema has
 * checked. */
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
static bool pack(lua_State *L, const char *what, const struct mp_types *types, struct mp_text *text,
                 int params, int given, struct mp_buf *out, int *at) {
  bool needs_type = false;
  bool known = text->types && (!text->types_of || text->types_of == mp_types_id(types));
  if (text->names && (given < 1 || lua_type(L, params) != LUA_TTABLE))
    mp_luaerr_misuse(L, what, "the statement has $%s: pass a table with the values by name",
                     text->names[0]);
  /* A statement without parameters may be given the whole input and ignores it. */
  bool whole = !text->nparams && given == 1 && lua_type(L, params) == LUA_TTABLE;
  if (!text->names && given != text->nparams && !whole)
    mp_luaerr_misuse(L, what, "%d value%s for %d parameter%s", given, given == 1 ? "" : "s",
                     text->nparams, text->nparams == 1 ? "" : "s");
  int names = lua_gettop(L) + 1;
  if (text->names) lua_rawgeti(L, LUA_REGISTRYINDEX, text->names_ref);
  for (int i = 0; i < text->nparams; i++) {
    char number[24];
    const char *name = number;
    if (text->names) {
      name = text->names[i];
      lua_rawgeti(L, names, i + 1);
      if (lua_rawget(L, params) == LUA_TNIL && !known_field(L, params, name))
        mp_luaerr_misuse(L, what, "no value for $%s; for NULL pass moonpool.null", name);
    } else {
      number[mp_format_int(number, i + 1)] = '\0';
      lua_pushvalue(L, params + i);
    }
    size_t start = out->len;
    struct mp_column type = mp_types_find(types, known ? text->types[i] : 0);
    bool given_value = mp_param_add(L, -1, type, name, out, &needs_type, what);
    lua_pop(L, 1);
    at[i] = given_value ? (int)start : -1;
    if (given_value) mp_buf_addc(out, '\0');
  }
  if (out->failed) {
    struct mp_err err;
    mp_err_set(&err, MP_ENOMEM, "%s: no memory for the parameters; pass less at a time", what);
    mp_luaerr_push(L, &err);
    lua_error(L);
  }
  return !needs_type;
}

static struct mp_stmt *allocate(lua_State *L, struct mp_text *text, size_t more) {
  struct mp_charge charge;
  size_t size = sizeof(struct mp_stmt) + more;
  if (text->refs == 1) size += strlen(text->sql); /* only this statement keeps the text alive */
  mp_charge_take(L, &charge, size, "a statement");
  struct mp_stmt *stmt = malloc(sizeof *stmt + more);
  if (!stmt) {
    mp_charge_drop(&charge);
    luaL_error(L, "not enough memory");
    return NULL;
  }
  memset(stmt, 0, offsetof(struct mp_stmt, err.msg) + 1);
  stmt->charge = charge;
  stmt->refs = 1;
  stmt->text = text;
  mp_text_ref(text);
  stmt->req.sql = text->sql;
  mp_list_init(&stmt->node);
  mp_task_where(L, 1, stmt->where, sizeof stmt->where);
  mp_task_caller(L, 1, stmt->where, stmt->caller, sizeof stmt->caller);
  return stmt;
}

/* Everything that may raise happens before the block is allocated, which Lua would not free. */
static struct mp_stmt *make(lua_State *L, const char *what, struct mp_types *types,
                            struct mp_text *text, int params, bool one, const char *missing) {
  int top = lua_gettop(L);
  int given = params ? top - params + 1 : 0;
  int few[32] = {0}, *at = few;
  struct mp_host *host = mp_host_of(L);
  luaL_checkstack(L, 8, NULL);
  if (text->nparams > (int)MP_ARRAY_LEN(few))
    at = lua_newuserdatauv(L, sizeof *at * (size_t)text->nparams, 0);
  struct mp_buf *out = host->sql.scratch_used ? mp_json_buf_new(L, 0) : &host->sql.scratch;
  bool shared = out == &host->sql.scratch;
  if (shared)
    host->sql.scratch_used =
        true; /* stays so if packing raises, until the next transaction starts */
  mp_buf_clear(out);
  size_t room = mp_task_room(L);                        /* they are charged once they are packed */
  out->max = room < MOST_BYTES ? room + 1 : MOST_BYTES; /* 0 would be no limit */
  bool complete = pack(L, what, types, text, params, given, out, at);
  if (shared) host->sql.scratch_used = false;
  if (!complete) {
    lua_settop(L, top);
    return NULL;
  }
  /* One block: the statement, the pointers to its values, the values, the message. */
  size_t pointers = sizeof(char *) * (size_t)text->nparams;
  size_t message = missing ? strlen(missing) + 1 : 0;
  struct mp_stmt *stmt = allocate(L, text, pointers + out->len + message);
  const char **values = (const char **)(void *)(stmt + 1);
  char *bytes = (char *)(values + text->nparams);
  if (out->len) memcpy(bytes, out->data, out->len);
  for (int i = 0; i < text->nparams; i++) values[i] = at[i] < 0 ? NULL : bytes + at[i];
  stmt->req.nparams = text->nparams;
  stmt->req.values = values;
  stmt->bytes = out->len;
  stmt->one = one;
  if (missing) stmt->missing = memcpy(bytes + out->len, missing, message);
  if (out->cap > KEEP_BYTES) mp_buf_fini(out);
  lua_settop(L, top);
  return stmt;
}

struct mp_stmt *mp_stmt_new(lua_State *L, const char *what, struct mp_types *types,
                            struct mp_text *text, int params_idx) {
  return make(L, what, types, text, params_idx, false, NULL);
}

struct mp_stmt *mp_stmt_one(lua_State *L, const char *what, struct mp_types *types,
                            struct mp_text *text, int params_idx, const char *missing) {
  return make(L, what, types, text, params_idx, true, missing);
}

struct mp_stmt *mp_stmt_control(struct mp_text *text, int nparams, const char *const *values) {
  size_t bytes = sizeof(char *) * (size_t)nparams;
  for (int i = 0; i < nparams; i++) bytes += values[i] ? strlen(values[i]) + 1 : 0;
  struct mp_stmt *stmt = calloc(1, sizeof *stmt + bytes);
  if (!stmt) return NULL;
  const char **at = (const char **)(void *)(stmt + 1);
  char *text_at = (char *)(at + nparams);
  for (int i = 0; i < nparams; i++) {
    at[i] = values[i] ? text_at : NULL;
    if (values[i]) text_at = stpcpy(text_at, values[i]) + 1;
  }
  stmt->refs = 1;
  stmt->control = stmt->patient = true;
  stmt->text = text;
  mp_text_ref(text);
  stmt->req.sql = text->sql;
  stmt->req.nparams = nparams;
  stmt->req.values = at;
  mp_list_init(&stmt->node);
  return stmt;
}

struct mp_stmt *mp_stmt_describe(lua_State *L, const struct mp_types *types, struct mp_text *text) {
  struct mp_stmt *stmt = allocate(L, text, 0);
  stmt->types_of = mp_types_id(types);
  stmt->req.flags = MP_REQ_DESCRIBE;
  return stmt;
}

void mp_stmt_unseen(struct mp_stmt *stmt) {
  const char *sql = stmt->text->many ? mp_many_unseen(stmt->text->many) : NULL;
  if (!sql || stmt->control || mp_stmt_asks(stmt)) return;
  stmt->unseen = true;
  stmt->req.sql = sql;
}

/* False: the server counts a different number of parameters than the host. */
static bool described(struct mp_stmt *stmt) {
  struct mp_text *text = stmt->text;
  const PGresult *pg = stmt->result->pg;
  if (text->types && (!text->types_of || text->types_of == stmt->types_of)) return true;
  if (PQnparams(pg) != text->nparams) return false;
  Oid *types = malloc(sizeof *types * (size_t)(text->nparams ? text->nparams : 1));
  for (int i = 0; types && i < text->nparams; i++) {
    types[i] = PQparamtype(pg, i);
    if (!types[i]) types[i] = MP_OID_TEXT; /* never asked again */
  }
  if (!types) return true;
  free(text->types);
  text->types = types;
  text->types_of = stmt->types_of;
  return true;
}

static void fail(struct mp_stmt *stmt, const struct mp_err *err) {
  stmt->state = MP_STMT_FAILED;
  stmt->err = *err;
  if (!strncmp(err->sqlstate, "42",
               2)) { /* a column may have changed its type: types are asked for again */
    free(stmt->text->types);
    stmt->text->types = NULL;
  }
}

static void on_result_freed(void *data) {
  mp_charge_drop(data);
  free(data);
}

/* The result's command tag and column names, without the rows. */
static struct mp_result *without_rows(const struct mp_result *result) {
  PGresult *pg = PQcopyResult(result->pg, PG_COPYRES_ATTRS);
  return pg ? mp_result_new(pg) : NULL;
}

/* The statement itself has succeeded: only its rows are refused. */
static void refuse_rows(struct mp_stmt *stmt) {
  struct mp_result *bare = without_rows(stmt->result);
  stmt->refused = true;
  if (!bare) return;
  mp_result_unref(stmt->result);
  stmt->result = bare;
}

/* The result is charged to the account of the statement as long as it is held. Of a shared one
 * each row is measured, as if it had come alone. */
static void charge_result(struct mp_host *host, struct mp_stmt *stmt) {
  struct mp_result *result = stmt->result;
  size_t size = PQresultMemorySize(result->pg), limit = host->shared->result_limit;
  if (result->on_freed) return; /* by the first of those that share it */
  if (limit && size / (stmt->shared ? stmt->shared : 1) > limit) {
    mp_err_set(&stmt->err, MP_EINVAL,
               "the result of the statement at %s is larger than MOONPOOL_RESULT_LIMIT: select "
               "less, or in parts",
               stmt->where);
    refuse_rows(stmt);
    return;
  }
  struct mp_charge *charge = stmt->charge.sched ? malloc(sizeof *charge) : NULL;
  if (!charge) return;
  if (mp_charge_take_as(charge, &stmt->charge, size, "the result", &stmt->err)) {
    free(charge);
    refuse_rows(stmt);
    return;
  }
  result->on_freed = on_result_freed;
  result->data = charge;
}

void mp_stmt_scratch_free(struct mp_host *host) { host->sql.scratch_used = false; }

void mp_stmt_answer(struct mp_host *host, struct mp_stmt *stmt, struct mp_result *result,
                    const struct mp_err *err) {
  if (result) stmt->result = mp_result_ref(result);
  stmt->state = MP_STMT_DONE;
  if (err) {
    fail(stmt, err);
  } else if (mp_stmt_asks(stmt)) {
    struct mp_err miscounted;
    mp_err_set(
        &miscounted, MP_EINVAL,
        "the server sees other parameters in this text than the host does: write them as $1, $2");
    if (!described(stmt)) fail(stmt, &miscounted);
  } else if (result) {
    charge_result(host, stmt);
  }
}

/* The value of the parameter whose name begins `at` (of `len` bytes), or NULL. */
static const char *named_value(const struct mp_stmt *stmt, const char *at, size_t len) {
  for (int i = 0; stmt->text->names && i < stmt->text->nparams; i++) {
    const char *name = stmt->text->names[i];
    if (strlen(name) == len && !strncmp(name, at, len))
      return stmt->req.values[i] ? stmt->req.values[i] : "NULL";
  }
  return NULL;
}

/* "Order not found: $order_id": the names are those of the statement's parameters. */
static void expand(const struct mp_stmt *stmt, const char *template, struct mp_buf *out) {
  for (const char *at = template; *at;) {
    size_t name =
        *at == '$'
            ? strspn(at + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
            : 0;
    const char *value = name ? named_value(stmt, at + 1, name) : NULL;
    if (value)
      mp_buf_adds(out, value);
    else
      mp_buf_addc(out, *at);
    at += value ? name + 1 : 1;
  }
}

/* ---- failures ---- */

static void place(struct mp_failure *out, struct mp_stmt *stmt) {
  mp_failure_clear(out);
  out->text = stmt->text;
  mp_text_ref(stmt->text);
  memcpy(out->where, stmt->where, sizeof out->where);
  memcpy(out->caller, stmt->caller, sizeof out->caller);
}

void mp_failure_of_stmt(struct mp_failure *out, struct mp_stmt *stmt) {
  place(out, stmt);
  out->err = stmt->err;
  if (stmt->result) out->result = mp_result_ref(stmt->result);
}

bool mp_stmt_names_clash(const PGresult *pg, struct mp_err *err) {
  int first, second;
  if (!mp_result_name_twice(pg, &first, &second)) return false;
  mp_err_set(err, MP_ESCRIPT,
             "columns %d and %d of the result are both named `%s`: give each a name of its own, "
             "with `as`",
             first + 1, second + 1, PQfname(pg, second));
  return true;
}

bool mp_stmt_swallowed(struct mp_stmt *stmt, struct mp_failure *out) {
  if (stmt->refused || !stmt->text->table || mp_stmt_asks(stmt) || PQntuples(stmt->result->pg))
    return false;
  place(out, stmt);
  mp_err_set(&out->err, MP_EINVAL,
             "the insert into %s stored no row: a BEFORE INSERT trigger or a rule suppressed it",
             stmt->text->table);
  strcpy(out->err.name, "ROW_NOT_STORED");
  return true;
}

bool mp_stmt_broken_promise(struct mp_stmt *stmt, struct mp_failure *out) {
  if (!stmt->one || stmt->state != MP_STMT_DONE) return false;
  int rows = stmt->refused ? 1 : PQntuples(stmt->result->pg);
  struct mp_err clash;
  bool clashes = mp_stmt_names_clash(stmt->result->pg, &clash);
  if (rows == 1 && !clashes) return false;
  place(out, stmt);
  if (clashes) {
    out->err = clash;
  } else if (rows) {
    mp_err_set(&out->err, MP_EINVAL, "expected one row, got %d", rows);
    strcpy(out->err.name, "TOO_MANY_ROWS");
  } else {
    struct mp_buf text;
    mp_buf_init(&text, 64 << 10);
    expand(stmt, stmt->missing ? stmt->missing : "no row found", &text);
    mp_err_set(&out->err, MP_EINVAL, "%s", mp_buf_text(&text));
    out->message = strdup(mp_buf_text(&text)); /* whole: the error value cuts it */
    mp_buf_fini(&text);
    strcpy(out->err.name, "RESOURCE_NOT_FOUND");
  }
  return true;
}

MP_NORETURN void mp_stmt_raise(lua_State *L, struct mp_stmt *stmt) {
  if (stmt->err.code) {
    struct mp_failure failure = {0};
    mp_failure_of_stmt(&failure, stmt);
    mp_failure_push(L, &failure, NULL);
    mp_failure_clear(&failure);
    lua_error(L);
  }
  mp_luaerr_misuse(L, "row", "the statement queued at %s was never sent: its transaction is over",
                   stmt->where);
}
