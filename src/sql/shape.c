#include "sql/shape.h"

#include "sql/row.h"
#include "sql/value.h"

int mp_shape_rows(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  mp_row_push_all(L, mp_row_result(L, -1));
  return 1;
}

int mp_shape_first(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct mp_result *result = mp_row_result(L, -1);
  if (PQntuples(result->pg))
    mp_row_push(L, result, 0);
  else
    lua_pushnil(L);
  return 1;
}

int mp_shape_one(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  mp_row_push(L, mp_row_result(L, -1), 0);
  return 1;
}

static int value_k(lua_State *L, int status, lua_KContext ctx) {
  (void)L;
  (void)status;
  (void)ctx;
  return 1;
}

int mp_shape_value(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct mp_result *result = mp_row_result(L, -1);
  if (PQntuples(result->pg) && PQnfields(result->pg))
    return mp_value_read(L, result, 0, 0, 0, value_k);
  lua_pushnil(L);
  return 1;
}

int mp_shape_count(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_pushinteger(L, mp_row_affected(L, -1));
  return 1;
}

int mp_shape_none(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  mp_row_result(L, -1);
  return 0;
}
