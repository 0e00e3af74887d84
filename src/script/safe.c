#include "script/safe.h"

#include <lauxlib.h>
#include <stdint.h>
#include <string.h>

#include "script/pattern.h"
#include "script/task.h"

enum { POLL_EVERY = 4096 }; /* elements between two looks at the clock */

/* `n` counts elements, from 1. */
static void poll(lua_State *L, lua_Integer n, const char *what) {
  if (n % POLL_EVERY == 0) mp_task_checkpoint(L, what);
}

/* Lua's own function is the upvalue; it takes over as if it had been called. */
static int plain(lua_State *L) { return lua_tocfunction(L, lua_upvalueindex(1))(L); }

/* ---- string ---- */

static int str_rep(lua_State *L) {
  size_t len, separator;
  luaL_checklstring(L, 1, &len);
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_optlstring(L, 3, "", &separator);
  if (len + separator) {
    if (n > 0 && (size_t)n < SIZE_MAX / 2 / (len + separator))
      mp_task_reserve(L, 2 * (size_t)n * (len + separator)); /* the buffer, and the string */
    return plain(L);
  }
  lua_pushliteral(L, ""); /* Lua would loop over empty copies as often as asked */
  return 1;
}

static int str_dump(lua_State *L) {
  if (mp_task_limited(mp_task_of(L))) return luaL_error(L, "string.dump is not for operations");
  return plain(L);
}

/* ---- table: as Lua does it, looking at the clock ---- */

static void check_table(lua_State *L, int idx) {
  if (lua_type(L, idx) == LUA_TTABLE) return;
  if (luaL_getmetafield(L, idx, "__index") == LUA_TNIL) luaL_checktype(L, idx, LUA_TTABLE);
  lua_pop(L, 1);
}

static lua_Integer length(lua_State *L, int idx) {
  check_table(L, idx);
  return luaL_len(L, idx);
}

static int tab_insert(lua_State *L) {
  lua_Integer end = (lua_Integer)((lua_Unsigned)length(L, 1) + 1);
  int n = lua_gettop(L);
  if (n == 2) {
    lua_seti(L, 1, end);
    return 0;
  }
  if (n != 3) return luaL_error(L, "wrong number of arguments to 'insert'");
  lua_Integer at = luaL_checkinteger(L, 2);
  luaL_argcheck(L, (lua_Unsigned)at - 1u < (lua_Unsigned)end, 2, "position out of bounds");
  for (lua_Integer i = end; i > at; i--) {
    poll(L, i, "table.insert moves too many elements");
    lua_geti(L, 1, i - 1);
    lua_seti(L, 1, i);
  }
  lua_seti(L, 1, at);
  return 0;
}

static int tab_remove(lua_State *L) {
  lua_Integer size = length(L, 1), at = luaL_optinteger(L, 2, size);
  luaL_argcheck(L, at == size || (lua_Unsigned)at - 1u <= (lua_Unsigned)size, 2,
                "position out of bounds");
  lua_settop(L, 1);
  lua_geti(L, 1, at);
  for (; at < size; at++) {
    poll(L, at, "table.remove moves too many elements");
    lua_geti(L, 1, at + 1);
    lua_seti(L, 1, at);
  }
  lua_pushnil(L);
  lua_seti(L, 1, at);
  return 1;
}

static int tab_move(lua_State *L) {
  lua_Integer from = luaL_checkinteger(L, 2), end = luaL_checkinteger(L, 3),
              to = luaL_checkinteger(L, 4);
  int target = lua_isnoneornil(L, 5) ? 1 : 5;
  check_table(L, 1);
  check_table(L, target);
  if (end >= from) {
    luaL_argcheck(L, from > 0 || end < LUA_MAXINTEGER + from, 3, "too many elements to move");
    lua_Integer n = end - from + 1;
    luaL_argcheck(L, to <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
    bool up = to > end || to <= from || (target != 1 && !lua_compare(L, 1, target, LUA_OPEQ));
    for (lua_Integer i = 0; i < n; i++) {
      lua_Integer k = up ? i : n - 1 - i;
      poll(L, i + 1, "table.move moves too many elements");
      lua_geti(L, 1, from + k);
      lua_seti(L, target, to + k);
    }
  }
  lua_pushvalue(L, target);
  return 1;
}

static void add_field(lua_State *L, luaL_Buffer *b, lua_Integer i) {
  lua_geti(L, 1, i);
  if (!lua_isstring(L, -1))
    luaL_error(L, "invalid value (%s) at index %I in table for 'concat'", luaL_typename(L, -1),
               (LUAI_UACINT)i);
  luaL_addvalue(b);
}

static int tab_concat(lua_State *L) {
  size_t len;
  lua_Integer last = length(L, 1);
  const char *separator = luaL_optlstring(L, 2, "", &len);
  lua_Integer i = luaL_optinteger(L, 3, 1);
  luaL_Buffer b;
  last = luaL_optinteger(L, 4, last);
  luaL_buffinit(L, &b);
  for (; i < last; i++) {
    poll(L, i, "table.concat joins too many elements");
    add_field(L, &b, i);
    luaL_addlstring(&b, separator, len);
  }
  if (i == last) add_field(L, &b, i);
  luaL_pushresult(&b);
  return 1;
}

/* ---- sort: quicksort with the middle of three; the smaller part first, so that the stack stays
 * small ---- */

struct sort {
  lua_State *L;
  lua_Integer compared;
};

/* Is the value at `a` less than the one at `b`? Both are negative indices. */
static bool less(struct sort *s, int a, int b) {
  lua_State *L = s->L;
  poll(L, ++s->compared, "table.sort compares too often");
  if (lua_isnil(L, 2)) return lua_compare(L, a, b, LUA_OPLT);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, a - 1);
  lua_pushvalue(L, b - 2);
  lua_call(L, 2, 1);
  bool yes = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return yes;
}

/* Stack: t[i], t[j] on top; both go. */
static void set_two(lua_State *L, lua_Integer i, lua_Integer j) {
  lua_seti(L, 1, i);
  lua_seti(L, 1, j);
}

/* Puts t[i] and t[j] in order. */
static void order(struct sort *s, lua_Integer i, lua_Integer j) {
  lua_State *L = s->L;
  lua_geti(L, 1, i);
  lua_geti(L, 1, j);
  if (less(s, -1, -2)) {
    set_two(L, i, j);
  } else {
    lua_pop(L, 2);
  }
}

/* t[high - 1] is the pivot, a copy of it on top; t[low] <= it <= t[high]. Gives its place, and pops
 * it. */
static lua_Integer partition(struct sort *s, lua_Integer low, lua_Integer high) {
  lua_State *L = s->L;
  lua_Integer i = low, j = high - 1;
  for (;;) {
    while (lua_geti(L, 1, ++i), less(s, -1, -2)) {
      if (i == high - 1) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
    }
    while (lua_geti(L, 1, --j), less(s, -3, -1)) {
      if (j < i) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
    }
    if (j < i) break;
    set_two(L, i, j);
  }
  lua_pop(L, 1); /* stack: pivot, t[i] */
  lua_geti(L, 1, high - 1);
  lua_insert(L, -2);
  lua_seti(L, 1, high - 1);
  lua_seti(L, 1, i);
  lua_pop(L, 1);
  return i;
}

static void sort_range(struct sort *s, lua_Integer low, lua_Integer high) {
  lua_State *L = s->L;
  while (low < high) {
    order(s, low, high);
    if (high - low == 1) return;
    lua_Integer middle = low + (high - low) / 2;
    order(s, low, middle);
    order(s, middle, high);
    if (high - low == 2) return;
    lua_geti(L, 1, middle);
    lua_pushvalue(L, -1);
    lua_geti(L, 1, high - 1);
    set_two(L, middle, high - 1);
    lua_Integer at = partition(s, low, high);
    if (at - low < high - at) {
      sort_range(s, low, at - 1);
      low = at + 1;
    } else {
      sort_range(s, at + 1, high);
      high = at - 1;
    }
  }
}

static int tab_sort(lua_State *L) {
  lua_Integer n = length(L, 1);
  if (n < 2) return 0;
  luaL_argcheck(L, n < INT32_MAX, 1, "array too big");
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  luaL_checkstack(L, 40, "sort");
  struct sort sort = {L, 0};
  sort_range(&sort, 1, n);
  return 0;
}

/* ---- metatables ---- */

/* Finalizers run without hooks, so an endless one could not be stopped: __gc is refused. Upvalue 2
 * is "__gc". */
static void refuse_gc(lua_State *L, int idx) {
  if (!lua_istable(L, idx)) return;
  lua_pushvalue(L, lua_upvalueindex(2));
  if (lua_rawget(L, idx) != LUA_TNIL)
    luaL_error(L, "__gc is not for operations; use a variable with <close>");
  lua_pop(L, 1);
}

static int set_metatable(lua_State *L) {
  if (mp_task_limited(mp_task_of(L))) refuse_gc(L, 2);
  return plain(L);
}

/* Pushes the metatable of the value at 1, if sandboxed code has set it (upvalue 1 has it as a key).
 */
static bool own(lua_State *L, bool *any) {
  *any = lua_getmetatable(L, 1);
  if (!*any) return false;
  lua_pushvalue(L, -1);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) {
    lua_pop(L, 1);
    return true;
  }
  lua_pop(L, 2);
  return false;
}

static void need_own(lua_State *L, const char *what) {
  bool any;
  luaL_checktype(L, 1, LUA_TTABLE);
  if (own(L, &any)) {
    lua_pop(L, 1);
  } else if (any) {
    luaL_error(L, "%s: this table is not the script's own", what);
  }
}

static int own_setmetatable(lua_State *L) {
  int type = lua_type(L, 2);
  luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
  need_own(L, "setmetatable");
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
    return luaL_error(L, "cannot change a protected metatable");
  refuse_gc(L, 2);
  lua_settop(L, 2);
  if (type == LUA_TTABLE) {
    lua_pushvalue(L, 2);
    lua_pushboolean(L, 1);
    lua_rawset(L, lua_upvalueindex(1));
  }
  lua_setmetatable(L, 1);
  return 1;
}

static int own_getmetatable(lua_State *L) {
  bool any;
  luaL_checkany(L, 1);
  if (own(L, &any)) {
    (void)luaL_getmetafield(L, 1, "__metatable"); /* instead of it, if it has that */
    return 1;
  }
  if (any) {
    lua_pushboolean(L, 0);
  } else {
    lua_pushnil(L);
  }
  return 1;
}

static int own_rawset(lua_State *L) {
  need_own(L, "rawset");
  luaL_checkany(L, 2);
  luaL_checkany(L, 3);
  lua_settop(L, 3);
  lua_rawset(L, 1);
  return 1;
}

int mp_safe_metatables(lua_State *L) {
  static const luaL_Reg functions[] = {{"setmetatable", own_setmetatable},
                                       {"getmetatable", own_getmetatable},
                                       {"rawset", own_rawset},
                                       {NULL, NULL}};
  luaL_newlibtable(L, functions);
  lua_newtable(L); /* the metatables that sandboxed code has set */
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushliteral(L, "__gc");
  luaL_setfuncs(L, functions, 2);
  return 1;
}

/* ---- open ---- */

/* The function `name` of the table on top becomes `guard`, which has it as upvalue. */
static void guard(lua_State *L, const char *name, lua_CFunction function) {
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, function, 1);
  lua_setfield(L, -2, name);
}

void mp_safe_open(lua_State *L) {
  static const luaL_Reg table[] = {{"insert", tab_insert}, {"remove", tab_remove},
                                   {"move", tab_move},     {"concat", tab_concat},
                                   {"sort", tab_sort},     {NULL, NULL}};
  lua_getglobal(L, "string");
  mp_pattern_open(L);
  guard(L, "rep", str_rep);
  guard(L, "dump", str_dump);
  lua_getglobal(L, "table");
  luaL_setfuncs(L, table, 0);
  lua_pop(L, 2);
  lua_getglobal(L, "setmetatable");
  lua_pushliteral(L, "__gc");
  lua_pushcclosure(L, set_metatable, 2);
  lua_setglobal(L, "setmetatable");
}
