/* copy_row.c: rows in COPY's text format; each value is written like a parameter of its column's
 * type. */
#include <lauxlib.h>

#include "db/copy.h"
#include "sql/param.h"
#include "sql/row.h"
#include "sql/types.h"
#include "sql/value.h"
#include "values/json.h"

#define MOST_BYTES ((size_t)1 << 30) /* of a row: PostgreSQL's limit of a field */

static int have_columns(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  mp_row_result(L, -1); /* a query that cannot be described raises here */
  return 1;
}

int mp_copy_columns(lua_State *L) {
  struct mp_source *source = mp_source_usable(L, "db.copy_in");
  struct mp_text *text = mp_text_get(L, 1, "db.copy_in");
  return mp_single_run(L, source, mp_stmt_describe(L, mp_source_types(source), text), "db.copy_in",
                       0, have_columns);
}

/* PostgreSQL manual, COPY, "Text Format". */
static void add_cell(struct mp_buf *out, const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    switch (text[i]) {
      case '\\': mp_buf_adds(out, "\\\\"); break;
      case '\n': mp_buf_adds(out, "\\n"); break;
      case '\r': mp_buf_adds(out, "\\r"); break;
      case '\t': mp_buf_adds(out, "\\t"); break;
      default: mp_buf_addc(out, text[i]);
    }
  }
}

int mp_copy_row(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const struct mp_result *result = mp_row_result(L, 2);
  const PGresult *pg = result->pg;
  lua_Integer n = lua_getfield(L, 1, "n") == LUA_TNUMBER ? lua_tointeger(L, -1) : luaL_len(L, 1);
  lua_settop(L, 2);
  struct mp_buf *line = mp_json_buf_new(L, 0), *cell = mp_json_buf_new(L, 0);
  size_t room = mp_task_room(L);
  line->max = cell->max = room < MOST_BYTES ? room + 1 : MOST_BYTES; /* 0 would be no limit */
  for (lua_Integer i = 1; i <= n; i++) {
    bool known = i <= PQnfields(pg),
         needs_type = false; /* a value too many: the server refuses the row */
    struct mp_column type = {.type = MP_OID_TEXT};
    if (known) type = mp_types_column(result, (int)i - 1);
    if (i > 1) mp_buf_addc(line, '\t');
    lua_geti(L, 1, i);
    mp_buf_clear(cell);
    if (mp_param_add(L, -1, type, known ? PQfname(pg, (int)i - 1) : "a further column", cell,
                     &needs_type, "db.copy_in"))
      add_cell(line, mp_buf_text(cell), cell->len);
    else
      mp_buf_adds(line, "\\N");
    lua_pop(L, 1);
  }
  mp_buf_addc(line, '\n');
  if (line->failed || cell->failed) return luaL_error(L, "not enough memory");
  lua_pushlstring(L, mp_buf_text(line), line->len);
  return 1;
}
