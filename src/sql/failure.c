#include "sql/failure.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "pg/result.h"
#include "script/luaerr.h"
#include "util/buf.h"
#include "util/utf8.h"

#define VALUE_MAX 200 /* bytes of an input's value in a message */

void mp_failure_clear(struct mp_failure *failure) {
  mp_result_unref(failure->result);
  if (failure->text) mp_text_unref(failure->text);
  free(failure->message);
  *failure = (struct mp_failure){0};
}

static void set_text(lua_State *L, const char *name, const char *value) {
  if (!value || !*value) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, name);
}

/* ---- the operation's own error for a constraint ---- */

/* Whether the schema of the input at `idx` has the field. */
static bool is_field(lua_State *L, int idx, const char *name) {
  bool known = false;
  int top = lua_gettop(L);
  if (luaL_getmetafield(L, idx, "__fields") == LUA_TTABLE) {
    lua_pushstring(L, name);
    known = lua_rawget(L, -2) != LUA_TNIL;
  }
  lua_settop(L, top);
  return known;
}

/* The value of the input's field as text, in at most VALUE_MAX bytes. */
static void add_value(lua_State *L, luaL_Buffer *out, int input, const char *name) {
  char text[VALUE_MAX + 1];
  lua_pushstring(L, name);
  int type = lua_rawget(L, input);
  bool none = type == LUA_TNIL || type == LUA_TLIGHTUSERDATA; /* NULL */
  mp_copy_text(text, sizeof text, none ? "NULL" : luaL_tolstring(L, -1, NULL));
  mp_utf8_mend(text);
  lua_pop(L, none ? 1 : 2);
  luaL_addstring(out, text);
}

/* "SKU $sku is taken" with the input's value. [-0, +1] */
static void fill(lua_State *L, const char *message, int input) {
  luaL_Buffer out;
  char name[64];
  luaL_buffinit(L, &out);
  for (const char *at = message; *at;) {
    size_t len =
        *at == '$'
            ? strspn(at + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
            : 0;
    if (!len || len >= sizeof name) {
      luaL_addchar(&out, *at++);
      continue;
    }
    memcpy(name, at + 1, len);
    name[len] = '\0';
    if (input && is_field(L, input, name))
      add_value(L, &out, input, name);
    else
      luaL_addlstring(&out, at, len + 1);
    at += len + 1;
  }
  luaL_pushresult(&out);
}

/* Pages must not show values, so they show the constraint instead of the message. [-0, +0] */
static void set_shown(lua_State *L, int e) {
  lua_getfield(L, e, "constraint");
  lua_getfield(L, e, "line");
  lua_pushfstring(L, "constraint %s%s%s", lua_tostring(L, -2), lua_isnil(L, -1) ? "" : " at ",
                  lua_isnil(L, -1) ? "" : lua_tostring(L, -1));
  lua_setfield(L, e, "shown");
  lua_pop(L, 2);
}

/* The status if the operation gives none for its code: 4xx, because the code makes it the caller's
 * fault. */
static int status_of(lua_State *L, int e) {
  lua_getfield(L, e, "status");
  int status = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return status < 500 ? status : 400;
}

/* `own`: index of { code, status, message }, of which the last two may be missing. */
static void take_own(lua_State *L, int e, int own, int input) {
  const struct mp_code_info *info = NULL;
  if (lua_getfield(L, e, "sqlstate") == LUA_TSTRING)
    info = mp_code_of_sqlstate(lua_tostring(L, -1));
  lua_rawgeti(L, own, 1);
  lua_setfield(L, e, "code");
  if (lua_rawgeti(L, own, 2) == LUA_TNIL) lua_pushinteger(L, status_of(L, e));
  lua_setfield(L, e, "status");
  const char *message = info && info->blame == MP_BLAME_CALLER ? info->told : NULL;
  if (lua_rawgeti(L, own, 3) == LUA_TSTRING) message = lua_tostring(L, -1);
  fill(L, message ? message : "it breaks a rule of what is stored", input);
  lua_setfield(L, e, "message");
  lua_pushboolean(L, 1);
  lua_setfield(L, e, "own_message");
  set_shown(L, e);
}

/* Indexes of the error object, of the operation's errors, and of its input (0: none). [-0, +0] */
static void apply_own(lua_State *L, int e, int errors, int input) {
  int top = lua_gettop(L);
  luaL_checkstack(L, 12, NULL);
  if (lua_getfield(L, e, "constraint") == LUA_TSTRING && lua_rawget(L, errors) == LUA_TTABLE)
    take_own(L, e, lua_gettop(L), input);
  lua_settop(L, top);
}

int mp_failure_own_lua(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  apply_own(L, 1, 2, lua_istable(L, 3) ? 3 : 0);
  return 0;
}

/* ---- the server's report ---- */

/* The number in "unnamed portal parameter $2 = '...'", the last line of the server's CONTEXT. 0:
 * none. */
static int parameter_of(const PGresult *pg) {
  static const char head[] = "unnamed portal parameter $";
  const char *context = PQresultErrorField(pg, PG_DIAG_CONTEXT);
  for (const char *line = context; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (!strncmp(line, head, sizeof head - 1)) return atoi(line + sizeof head - 1);
  }
  return 0;
}

/* The server refused a parameter's value: the error names the parameter. If it is a field of the
 * input, the value is the caller's fault. The error object is on top. */
static void name_parameter(lua_State *L, const struct mp_failure *failure, int input) {
  int n = parameter_of(failure->result->pg);
  if (n < 1 || !failure->text || n > failure->text->nparams || failure->message) return;
  if (!failure->text->names) {
    lua_pushfstring(L, "$%d: %s", n, failure->err.msg);
    lua_setfield(L, -2, "message");
    return;
  }
  const char *name = failure->text->names[n - 1];
  lua_pushfstring(L, "%s: %s", name, failure->err.msg);
  lua_setfield(L, -2, "message");
  set_text(L, "parameter", name);
  if (!input || !is_field(L, input, name)) return;
  lua_pushinteger(L, 400);
  lua_setfield(L, -2, "status");
}

/* The host's own tables are not there, or not granted. */
static void advise(lua_State *L, const struct mp_failure *failure) {
  static const char *const lacks[] = {"42P01", "42501", "3F000", "42883"};
  for (size_t i = 0; failure->text && failure->text->host_schema && i < MP_ARRAY_LEN(lacks); i++) {
    if (strcmp(failure->err.sqlstate, lacks[i]) != 0) continue;
    lua_pushfstring(
        L, "%s: the schema \"moonpool\" is missing or not granted; run: moonpool migrate up",
        failure->err.msg);
    lua_setfield(L, -2, "message");
  }
}

static void set_report(lua_State *L, const PGresult *pg) {
  static const struct {
    const char *name;
    int diag;
  } parts[] = {
      {"detail", PG_DIAG_MESSAGE_DETAIL},      {"hint", PG_DIAG_MESSAGE_HINT},
      {"constraint", PG_DIAG_CONSTRAINT_NAME}, {"table", PG_DIAG_TABLE_NAME},
      {"column", PG_DIAG_COLUMN_NAME},         {"position", PG_DIAG_STATEMENT_POSITION},
  };
  for (size_t i = 0; i < MP_ARRAY_LEN(parts); i++)
    set_text(L, parts[i].name, PQresultErrorField(pg, parts[i].diag));
}

void mp_failure_push(lua_State *L, const struct mp_failure *failure, const struct mp_own *own) {
  luaL_checkstack(L, 8, NULL);
  int input = 0, errors = 0;
  if (own && own->input_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, own->input_ref);
    if (lua_istable(L, -1))
      input = lua_gettop(L);
    else
      lua_pop(L, 1);
  }
  if (own && own->errors_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, own->errors_ref);
    errors = lua_gettop(L);
  }
  mp_luaerr_push(L, &failure->err);
  int e = lua_gettop(L);
  set_text(L, "message", failure->message);
  set_text(L, "line", failure->where);
  set_text(L, "caller", failure->caller);
  if (failure->text) set_text(L, "query", failure->text->sql);
  advise(L, failure);
  if (failure->result) {
    set_report(L, failure->result->pg);
    name_parameter(L, failure, input);
    if (errors) apply_own(L, e, errors, input);
  }
  if (errors) lua_remove(L, errors);
  if (input) lua_remove(L, input);
}
