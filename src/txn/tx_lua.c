/* tx_lua.c: the methods of the `tx` that a transaction's script gets. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "sql/insert.h"
#include "sql/row.h"
#include "sql/shape.h"
#include "txn/publish.h"
#include "txn/tx_box.h"
#include "txn/txn.h"

/* Argument 1 is the tx; raises if it is no good any more. */
static struct mp_txn *self(lua_State *L, const char *what) {
  struct mp_tx_box *box = mp_tx_box_of(L);
  if (!box) mp_luaerr_misuse(L, what, "call it with a colon, as %s(...)", what);
  mp_txn_check(L, box->txn, what);
  return box->txn;
}

struct mp_txn *mp_txn_of_tx(lua_State *L, const char *what) {
  return self(L, what);
}

static int again(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  return ((lua_CFunction)ctx)(L);
}

/* The types of the text's parameters are not known and are needed: asks, then calls `method`
 * again. */
static int describe_first(lua_State *L, struct mp_txn *txn, const char *what, struct mp_text *text,
                          lua_CFunction method) {
  return mp_txn_ask_types(L, txn, what, text, (lua_KContext)method, again);
}

/* NULL: it has to be read first. */
static struct mp_text *check_text(lua_State *L, struct mp_txn *txn, const char *what) {
  struct mp_text *text = mp_text_get(L, 2, what);
  if (!text) return NULL;
  if (mp_txn_restricted(txn) && text->refused[0])
    mp_luaerr_misuse(L, what, "the SQL text %s", text->refused);
  if (!strcmp(text->kind, "TransactionStmt"))
    mp_luaerr_misuse(
        L, what,
        "the transaction is the host's: return to commit, raise to roll back, tx:savepoint");
  return text;
}

/* Queues the statement of a call `method(tx, sql, params...)`. NULL: describe first. */
static struct mp_stmt *queue(lua_State *L, struct mp_txn *txn, const char *what,
                             struct mp_text *text) {
  struct mp_stmt *stmt = mp_stmt_new(L, what, mp_txn_types(txn), text, 3);
  if (stmt) mp_txn_queue(txn, stmt);
  return stmt;
}

/* ---- lazy: one, insert ---- */

static int push_lazy(lua_State *L, struct mp_stmt *stmt) {
  mp_row_bind(mp_row_push_lazy(L), stmt);
  return 1;
}

/* one(sql, params, message): the message is an argument only behind a table of parameters (or
 * nil). */
static int tx_one(lua_State *L) {
  struct mp_txn *txn = self(L, "tx:one");
  struct mp_text *text = check_text(L, txn, "tx:one");
  if (!text) return mp_text_read(L, 2, "tx:one", tx_one);
  const char *message = NULL;
  if (text->names || !text->nparams) {
    lua_settop(L, 4);
    if (!lua_isnil(L, 4)) message = luaL_checkstring(L, 4);
    lua_insert(L, 1); /* out of the way: what follows the text is the parameters */
    if (!text->nparams) lua_settop(L, 3);
  } else {
    lua_pushnil(L);
    lua_insert(L, 1);
  }
  struct mp_stmt *stmt = mp_stmt_one(L, "tx:one", mp_txn_types(txn), text, 4, message);
  lua_rotate(L, 1, -1); /* the arguments as they came, for a second run */
  if (text->nparams && !text->names) lua_pop(L, 1);
  if (!stmt) return describe_first(L, txn, "tx:one", text, tx_one);
  mp_txn_queue(txn, stmt);
  return push_lazy(L, stmt);
}

/* insert(table, values) */
static int tx_insert(lua_State *L) {
  struct mp_txn *txn = self(L, "tx:insert");
  if (lua_type(L, 2) != LUA_TSTRING)
    mp_luaerr_misuse(L, "tx:insert", "the name of the table is missing");
  if (lua_type(L, 3) != LUA_TTABLE)
    mp_luaerr_misuse(L, "tx:insert", "the values are missing: pass a table");
  lua_settop(L, 3);
  struct mp_text *text = mp_insert_text(L, lua_tostring(L, 2), 3, "tx:insert");
  struct mp_stmt *stmt = mp_stmt_new(L, "tx:insert", mp_txn_types(txn), text, 3);
  if (!stmt) return describe_first(L, txn, "tx:insert", text, tx_insert);
  mp_txn_queue(txn, stmt);
  return push_lazy(L, stmt);
}

/* ---- with a result at once: query, first, value, count ---- */

static int flush_for(lua_State *L, const char *what, lua_CFunction method, lua_KFunction shape) {
  struct mp_txn *txn = self(L, what);
  struct mp_text *text = check_text(L, txn, what);
  if (!text) return mp_text_read(L, 2, what, method);
  mp_wait_check(L, what); /* before it is queued: a call that raises must not have happened */
  struct mp_stmt *stmt = queue(L, txn, what, text);
  if (!stmt) return describe_first(L, txn, what, text, method);
  push_lazy(L, stmt);
  return mp_txn_flush(L, txn, what, 0, shape);
}

static int tx_query(lua_State *L) { return flush_for(L, "tx:query", tx_query, mp_shape_rows); }
static int tx_first(lua_State *L) { return flush_for(L, "tx:first", tx_first, mp_shape_first); }
static int tx_value(lua_State *L) { return flush_for(L, "tx:value", tx_value, mp_shape_value); }
static int tx_count(lua_State *L) { return flush_for(L, "tx:count", tx_count, mp_shape_count); }

static int tx_exec(lua_State *L) {
  struct mp_txn *txn = self(L, "tx:exec");
  struct mp_text *text = check_text(L, txn, "tx:exec");
  if (!text) return mp_text_read(L, 2, "tx:exec", tx_exec);
  if (!queue(L, txn, "tx:exec", text)) return describe_first(L, txn, "tx:exec", text, tx_exec);
  return 0;
}

/* ---- savepoints ---- */

/* Stack of a savepoint: 1 tx, 2 function, 3 message handler, 4 and 5 the numbers of hooks that
 * there were, then the function's results or its error. The host makes the names; they tell the
 * depth. */

static void queue_control(lua_State *L, struct mp_txn *txn, const char *format, unsigned depth) {
  lua_pushfstring(L, format, (int)depth);
  int sql = lua_gettop(L);
  struct mp_stmt *stmt =
      mp_stmt_new(L, "tx:savepoint", NULL, mp_text_get(L, sql, "tx:savepoint"), 0);
  stmt->control = true;
  mp_txn_queue(txn, stmt);
  lua_pop(L, 1);
}

static int raise_top(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return lua_error(L);
}

static void push_hook_count(lua_State *L, struct mp_txn *txn, const char *list) {
  mp_txn_push_hooks(L, txn);
  lua_getfield(L, -1, list);
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
  lua_pop(L, 2);
  lua_pushinteger(L, n);
}

/* Hooks for work that is undone are void. */
static void cut_hooks(lua_State *L, struct mp_txn *txn, const char *list, int count_idx) {
  lua_Integer keep = lua_tointeger(L, count_idx);
  mp_txn_push_hooks(L, txn);
  lua_getfield(L, -1, list);
  for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i > keep; i--) {
    lua_pushnil(L);
    lua_rawseti(L, -2, i);
  }
  lua_pop(L, 2);
}

/* The error is on top: undo, then raise it to the caller. */
static int savepoint_undo(lua_State *L, struct mp_txn *txn) {
  unsigned depth = mp_txn_machine(txn)->savepoints;
  cut_hooks(L, txn, "after_commit", 4);
  cut_hooks(L, txn, "on_rollback", 5);
  bool seen = mp_txn_undo_savepoint(txn);
  if (!seen || mp_tx_doomed(mp_txn_machine(txn)))
    return lua_error(L); /* nothing to undo, or it failed before */
  queue_control(L, txn, "ROLLBACK TO SAVEPOINT mp_%d", depth);
  queue_control(L, txn, "RELEASE SAVEPOINT mp_%d", depth);
  return mp_txn_flush_anyway(L, txn, "tx:savepoint", 0, raise_top);
}

static int savepoint_released(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct mp_txn *txn = ((struct mp_tx_box *)lua_touserdata(L, 1))->txn;
  if (mp_tx_doomed(mp_txn_machine(txn))) {
    mp_txn_push_failure(L, txn);
    return savepoint_undo(L, txn);
  }
  mp_tx_savepoint_released(mp_txn_machine(txn));
  return lua_gettop(L) - 5;
}

static int savepoint_ran(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  struct mp_txn *txn = ((struct mp_tx_box *)lua_touserdata(L, 1))->txn;
  if (!txn) return lua_error(L); /* the attempt ended underneath */
  if (status != LUA_OK && status != LUA_YIELD) return savepoint_undo(L, txn);
  if (mp_tx_doomed(
          mp_txn_machine(txn))) { /* its function caught the failure; that does not undo it */
    mp_txn_push_failure(L, txn);
    return savepoint_undo(L, txn);
  }
  queue_control(L, txn, "RELEASE SAVEPOINT mp_%d", mp_txn_machine(txn)->savepoints);
  return mp_txn_flush_anyway(L, txn, "tx:savepoint", 0, savepoint_released);
}

static int savepoint_begin(lua_State *L, int status, lua_KContext read_only) {
  (void)status;
  struct mp_txn *txn = ((struct mp_tx_box *)lua_touserdata(L, 1))->txn;
  struct mp_tx *tx = mp_txn_machine(txn);
  queue_control(L, txn, "SAVEPOINT mp_%d", tx->savepoints + 1); /* its failure is outside of it */
  mp_tx_savepoint(tx);
  /* It ends with the savepoint, released or undone. */
  if (read_only) queue_control(L, txn, "SET TRANSACTION READ ONLY", 0);
  lua_pushcfunction(L, mp_luaerr_handler);
  push_hook_count(L, txn, "after_commit");
  push_hook_count(L, txn, "on_rollback");
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 1);
  return savepoint_ran(L, mp_task_pcallk(L, 1, LUA_MULTRET, 3, 0, savepoint_ran), 0);
}

/* savepoint(fn, [{read_only=}]): what fn returns; an error inside undoes its work and is raised to
 * the caller. */
static int tx_savepoint(lua_State *L) {
  struct mp_txn *txn = self(L, "tx:savepoint");
  luaL_checktype(L, 2, LUA_TFUNCTION);
  bool read_only = lua_istable(L, 3) && lua_getfield(L, 3, "read_only") && lua_toboolean(L, -1);
  lua_settop(L, 2);
  mp_wait_check(L, "tx:savepoint");
  /* What was queued before must fail outside of the savepoint. */
  return mp_txn_flush(L, txn, "tx:savepoint", read_only, savepoint_begin);
}

/* ---- the rest ---- */

static int add_hook(lua_State *L, const char *what, const char *list) {
  struct mp_txn *txn = self(L, what);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  mp_txn_push_hooks(L, txn);
  lua_getfield(L, -1, list);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  return 0;
}

static int tx_after_commit(lua_State *L) { return add_hook(L, "tx:after_commit", "after_commit"); }
static int tx_on_rollback(lua_State *L) { return add_hook(L, "tx:on_rollback", "on_rollback"); }

/* uuid([version]): 7 (later ones sort after earlier ones) or 4 (random). The default is 7 under
 * READ COMMITTED, where the newest rows share few index pages, and 4 under a snapshot isolation:
 * PostgreSQL detects conflicts of SERIALIZABLE work by index page, and with version 7 the newest
 * rows of all tenants meet on one. */
static int tx_uuid(lua_State *L) {
  char text[37];
  struct mp_txn *txn = self(L, "tx:uuid");
  bool snapshot = mp_txn_options(txn)->tx.isolation != MP_READ_COMMITTED;
  lua_Integer version = luaL_optinteger(L, 2, snapshot ? 4 : 7);
  luaL_argcheck(L, version == 4 || version == 7, 2, "the version is 4 or 7");
  mp_txn_uuid(txn, (int)version, text);
  lua_pushlstring(L, text, 36);
  return 1;
}

static int tx_now(lua_State *L) {
  char text[32];
  mp_timestamp_format(mp_txn_started_us(self(L, "tx:now")), text);
  lua_pushstring(L, text);
  return 1;
}

/* random() in [0, 1), random(n) in 1..n */
static int tx_random(lua_State *L) {
  double r = mp_txn_random(self(L, "tx:random"));
  if (lua_isnoneornil(L, 2)) {
    lua_pushnumber(L, r);
  } else {
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_argcheck(L, n >= 1, 2, "must be at least 1");
    lua_pushinteger(L, (lua_Integer)(r * (double)n) + 1);
  }
  return 1;
}

/* Before pcall and after its function: what was queued outside must not fail inside, nor the
 * reverse. */
static int flushed(lua_State *L, int status, lua_KContext ctx) {
  (void)L;
  (void)status;
  (void)ctx;
  return 0;
}

static int tx_flush(lua_State *L) {
  return mp_txn_flush(L, self(L, "tx:flush"), "tx:flush", 0, flushed);
}

/* host.flush_promised(tx): sends what is queued if a row is promised in it (tx:one): that must be
 * answered before COMMIT anyway. Raises if the promise is broken. */
static int host_flush_promised(lua_State *L) {
  struct mp_txn *txn = self(L, "flush_promised");
  return mp_txn_promised(txn) ? mp_txn_flush(L, txn, "flush_promised", 0, flushed) : 0;
}

void mp_tx_lua_host_open(lua_State *L) {
  lua_pushcfunction(L, host_flush_promised);
  lua_setfield(L, -2, "flush_promised");
}

static void push_caller(lua_State *L, const struct mp_txn_options *options) {
  mp_scope_push_caller(L, options->scope);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
}

static int tx_index(lua_State *L) {
  struct mp_tx_box *box = mp_tx_box_of(L);
  luaL_argexpected(L, box, 1, MP_TX_TYPE);
  const char *name = luaL_checkstring(L, 2);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  if (!box->txn)
    mp_luaerr_misuse(L, "tx", "the transaction is over: tx is only good inside of run");
  const struct mp_txn_options *options = mp_txn_options(box->txn);
  if (!strcmp(name, "attempt"))
    lua_pushinteger(L, mp_txn_attempt(box->txn));
  else if (!strcmp(name, "tenant"))
    lua_pushstring(L, options->tenant);
  else if (!strcmp(name, "isolation"))
    lua_pushstring(L, mp_isolation_name(options->tx.isolation));
  else if (!strcmp(name, "grouped"))
    lua_pushboolean(L, options->group > 1);
  else if (!strcmp(name, "caller"))
    push_caller(L, options);
  else
    mp_luaerr_misuse(L, "tx", "there is no tx.%s", name);
  return 1;
}

void mp_tx_lua_open(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"one", tx_one},
      {"insert", tx_insert},
      {"query", tx_query},
      {"first", tx_first},
      {"value", tx_value},
      {"count", tx_count},
      {"exec", tx_exec},
      {"savepoint", tx_savepoint},
      {"after_commit", tx_after_commit},
      {"on_rollback", tx_on_rollback},
      {"uuid", tx_uuid},
      {"now", tx_now},
      {"random", tx_random},
      {"publish", mp_tx_publish},
      {"flush", tx_flush},
      {NULL, NULL},
  };
  luaL_newmetatable(L, MP_TX_TYPE);
  luaL_newlib(L, methods);
  lua_pushcclosure(L, tx_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}
