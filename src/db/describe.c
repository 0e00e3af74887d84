/* describe.c: what the server knows of a statement that is not executed: db.describe. */
#include <lauxlib.h>

#include "db/source.h"
#include "sql/row.h"

static void set_text(lua_State *L, const char *name, const char *value) {
  if (!*value) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, name);
}

static void push_parameters(lua_State *L, const PGresult *pg, const struct mp_text *text) {
  int n = PQnparams(pg);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, PQparamtype(pg, i));
    lua_setfield(L, -2, "type");
    if (text->names) set_text(L, "name", text->names[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static void push_columns(lua_State *L, const PGresult *pg) {
  int n = PQnfields(pg);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_createtable(L, 0, 4);
    set_text(L, "name", PQfname(pg, i));
    lua_pushinteger(L, PQftype(pg, i));
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, PQftable(pg, i));
    lua_setfield(L, -2, "table");
    lua_pushinteger(L, PQftablecol(pg, i));
    lua_setfield(L, -2, "number");
    lua_rawseti(L, -2, i + 1);
  }
}

/* Stack: the SQL text, the row that holds the description. */
static int described(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  const PGresult *pg = mp_row_result(L, -1)->pg;
  const struct mp_text *text = mp_text_get(L, 1, "db.describe"); /* read before: not NULL */
  lua_createtable(L, 0, 6);
  set_text(L, "sql", text->sql);
  set_text(L, "kind", text->kind);
  set_text(L, "refused", text->refused);
  lua_pushboolean(L, text->names != NULL);
  lua_setfield(L, -2, "named");
  push_parameters(L, pg, text);
  lua_setfield(L, -2, "parameters");
  push_columns(L, pg);
  lua_setfield(L, -2, "columns");
  return 1;
}

int mp_db_describe(lua_State *L) {
  struct mp_source *source = mp_source_usable(L, "db.describe");
  struct mp_text *text = mp_text_get(L, 1, "db.describe");
  if (!text) return mp_text_read(L, 1, "db.describe", mp_db_describe);
  lua_settop(L, 1);
  return mp_single_run(L, source, mp_stmt_describe(L, mp_source_types(source), text), "db.describe",
                       0, described);
}
