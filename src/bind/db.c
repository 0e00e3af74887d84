/* db.c: the Lua module "moonpool.db": single statements on pooled connections, each its own transaction;
 * db.transaction, db.lease, db.open. Every function is a closure over the database that it speaks to. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "bind/row.h"
#include "bind/txn.h"
#include "bind/value.h"
#include "script/luaerr.h"

/* A database, or one connection of it that is kept (db.lease). The functions' first upvalue. */
struct source {
  struct mp_bind *bind;
  struct mp_pool *pool;   /* NULL: closed */
  bool own_pool;          /* made by db.open */
  struct mp_lease lease;  /* kept: conn is set */
  bool kept;
  bool dirty;             /* kept: session state was left on it */
  uint64_t timeout_ms;    /* of one statement; 0: none */
  bool patient;           /* kept: held for long, and its statements take long, on purpose */
};

static struct source *source_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

static struct source *usable(lua_State *L, const char *what) {
  struct source *source = source_of(L);
  if (!source->pool) mp_luaerr_misuse(L, what, "this database was closed");
  if (mp_txn_of(L))
    mp_luaerr_misuse(L, what, "not inside a transaction: its statements go through tx, on the connection it has");
  return source;
}

/* ---- one statement ---- */

/* Lives in a userdata on the waiting task's stack, and for as long as the wire needs it (`pending`). */
struct shot {
  struct source *source;
  struct mp_stmt *stmt;
  struct mp_lease lease;     /* unless the source keeps a connection */
  struct mp_conn *conn;
  struct mp_sync sync;
  struct mp_timer timeout;
  struct mp_token token;
  enum { SHOT_WAITING, SHOT_SENT, SHOT_DONE } state;
  bool abandoned, timed_out, sent_again;
  bool dirty;                /* it leaves session state: the connection is not for others */
  int self_ref;              /* keeps the userdata alive until it is done */
};

static void shot_over(struct shot *shot) {
  struct mp_bind *bind = shot->source->bind;
  shot->state = SHOT_DONE;
  mp_timer_stop(&shot->timeout);
  bind->live_work--;
  if (!shot->source->kept && shot->conn) mp_pool_release(&shot->lease, shot->dirty);
  if (!shot->abandoned) mp_wait_ready(bind->sched, shot->token);
  luaL_unref(mp_vm_lua(bind->vm), LUA_REGISTRYINDEX, shot->self_ref);
}

static void on_stmt(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_stmt *stmt = MP_CONTAINER_OF(req, struct mp_stmt, req);
  struct shot *shot = stmt->owner;
  mp_stmt_answer(shot->source->bind, stmt, result, err, "moonpool.db");
}

static void transmit(struct shot *shot);

/* The prepared text was stale and has been forgotten. The statement did nothing: it can be sent again. */
static bool stale(const struct shot *shot) {
  const struct mp_err *err = &shot->stmt->err;
  return shot->stmt->state == MP_STMT_FAILED && !shot->sent_again && err->flags & MP_ERRF_RETRYABLE &&
         (!strcmp(err->sqlstate, "0A000") || !strcmp(err->sqlstate, "26000"));
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct shot *shot = MP_CONTAINER_OF(sync, struct shot, sync);
  struct mp_stmt *stmt = shot->stmt;
  bool ended = err || (stmt->state == MP_STMT_FAILED && stmt->err.flags & MP_ERRF_CONN_DEAD);
  if (!ended && stale(shot)) {
    shot->sent_again = true;
    mp_result_unref(stmt->result);
    stmt->result = NULL;
    transmit(shot);
    return;
  }
  if (result && err) { /* the statement succeeded and its commit did not: a deferred constraint */
    mp_result_unref(stmt->result);
    stmt->result = mp_result_ref(result);
    stmt->state = MP_STMT_FAILED;
    stmt->err = *err;
  } else if (ended && stmt->text->changes_data) {
    /* It committed by itself, or it did not: nobody is left to tell. */
    if (err) stmt->err = *err;
    stmt->state = MP_STMT_FAILED;
    mp_err_wrap(&stmt->err, "the connection was lost while the statement ran; it may or may not be stored");
    stmt->err.flags = MP_ERRF_OUTCOME_UNKNOWN | MP_ERRF_CONN_DEAD;
  }
  if (shot->timed_out && stmt->state == MP_STMT_FAILED && !strcmp(stmt->err.sqlstate, "57014"))
    mp_err_set(&stmt->err, MP_ETIMEOUT, "the statement ran longer than %s and was canceled",
               shot->source->timeout_ms == shot->source->bind->query_timeout_ms ? "DB_QUERY_TIMEOUT"
                                                                                : "its connection allows");
  shot_over(shot);
}

static void on_timeout(struct mp_timer *timer) {
  struct shot *shot = MP_CONTAINER_OF(timer, struct shot, timeout);
  struct mp_err err;
  shot->timed_out = true;
  (void)mp_conn_cancel(shot->conn, NULL, NULL, &err);
}

static void transmit(struct shot *shot) {
  shot->stmt->state = MP_STMT_SENT;
  shot->stmt->sent_ns = mp_loop_clock_ns(shot->source->bind->loop);
  shot->stmt->req.on_done = on_stmt;
  shot->sync.on_done = on_sync;
  mp_conn_send(shot->conn, &shot->stmt->req);
  mp_conn_sync(shot->conn, &shot->sync);
}

static void fire(struct shot *shot, struct mp_conn *conn) {
  shot->conn = conn;
  shot->state = SHOT_SENT;
  shot->stmt->owner = shot;
  shot->stmt->patient = shot->source->patient;
  if (shot->stmt->text->leaves_state) {
    if (shot->source->kept) shot->source->dirty = true;
    else shot->dirty = true;
  }
  if (shot->source->timeout_ms) mp_timer_start(&shot->timeout, shot->source->timeout_ms);
  transmit(shot);
}

static void on_grant(struct mp_lease *lease) { fire(lease->data, lease->conn); }

static void on_not_granted(struct mp_lease *lease, const struct mp_err *err) {
  struct shot *shot = lease->data;
  shot->stmt->state = MP_STMT_FAILED;
  shot->stmt->err = *err;
  shot_over(shot);
}

static void on_abandon(void *data) {
  struct shot *shot = data;
  struct mp_err err;
  shot->abandoned = true;
  if (shot->state == SHOT_WAITING) {
    mp_pool_abandon(&shot->lease);
    shot_over(shot);
  } else if (shot->state == SHOT_SENT) {
    (void)mp_conn_cancel(shot->conn, NULL, NULL, &err); /* it ends soon, and gives the connection back */
  }
}

static int shot_gc(lua_State *L) {
  struct shot *shot = lua_touserdata(L, 1);
  if (shot->stmt) mp_stmt_unref(shot->stmt);
  shot->stmt = NULL;
  return 0;
}

/* Runs the statement and continues with `k`, the row that holds its result on top. Takes the reference. */
static int shoot(lua_State *L, struct source *source, struct mp_stmt *stmt, const char *what, lua_KContext ctx,
                 lua_KFunction k) {
  struct mp_bind *bind = source->bind;
  struct mp_err err;
  struct shot *shot = lua_newuserdatauv(L, sizeof *shot, 1);
  *shot = (struct shot){.source = source, .stmt = stmt};
  if (luaL_newmetatable(L, "moonpool.shot")) {
    lua_pushcfunction(L, shot_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, lua_upvalueindex(1)); /* the source lives as long as the shot */
  lua_setiuservalue(L, -2, 1);
  mp_wait_check(L, what);
  mp_timer_init(&shot->timeout, bind->loop, on_timeout);
  if (!source->kept) {
    shot->lease = (struct mp_lease){.data = shot, .on_grant = on_grant, .on_fail = on_not_granted};
    shot->lease.deadline_ms = mp_loop_now_ms(bind->loop) + (bind->query_timeout_ms ? bind->query_timeout_ms : 30000);
    mp_list_init(&shot->lease.node);
    snprintf(shot->lease.where, sizeof shot->lease.where, "%s", stmt->where);
    if (mp_pool_acquire(source->pool, &shot->lease, &err)) {
      mp_luaerr_push(L, &err);
      return lua_error(L);
    }
  }
  bind->live_work++;
  lua_pushvalue(L, -1);
  shot->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  mp_row_bind(mp_row_push_lazy(L), stmt);
  lua_remove(L, -2); /* the shot is anchored; its place is the row's */
  shot->token = mp_wait_begin(L, on_abandon, shot);
  if (source->kept) fire(shot, source->lease.conn);
  return mp_wait_yield(L, ctx, k);
}

static int again(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  mp_row_result(L, -1); /* a text that cannot be described fails here */
  lua_pop(L, 1);
  return ((lua_CFunction)ctx)(L);
}

static int shape_query(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  mp_row_push_all(L, mp_row_result(L, -1));
  return 1;
}

static int shape_first(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct mp_result *result = mp_row_result(L, -1);
  if (!PQntuples(result->pg)) return 0;
  mp_row_push(L, result, 0);
  return 1;
}

static int shape_one(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  mp_row_push(L, mp_row_result(L, -1), 0);
  return 1;
}

static int shape_value(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct mp_result *result = mp_row_result(L, -1);
  if (!PQntuples(result->pg) || !PQnfields(result->pg)) return 0;
  mp_value_push(L, result->pg, 0, 0);
  return 1;
}

static int shape_count(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_pushinteger(L, atoll(PQcmdTuples(mp_row_result(L, -1)->pg)));
  return 1;
}

static int run(lua_State *L, const char *what, lua_CFunction self, lua_KFunction shape) {
  struct source *source = usable(L, what);
  struct mp_text *text = mp_text_get(L, 1, what);
  struct mp_stmt *stmt = mp_stmt_new(L, what, text, 2);
  if (!stmt) return shoot(L, source, mp_stmt_describe(L, text), what, (lua_KContext)self, again);
  return shoot(L, source, stmt, what, 0, shape);
}

static int db_query(lua_State *L) { return run(L, "db.query", db_query, shape_query); }
static int db_first(lua_State *L) { return run(L, "db.first", db_first, shape_first); }
static int db_value(lua_State *L) { return run(L, "db.value", db_value, shape_value); }
static int db_count(lua_State *L) { return run(L, "db.count", db_count, shape_count); }

/* one(sql, params, message) */
static int db_one(lua_State *L) {
  struct source *source = usable(L, "db.one");
  struct mp_text *text = mp_text_get(L, 1, "db.one");
  const char *message = NULL;
  if (text->names || !text->nparams) {
    lua_settop(L, 3);
    if (!lua_isnil(L, 3)) message = luaL_checkstring(L, 3);
    lua_insert(L, 1); /* out of the way: what follows the text is the parameters */
    if (!text->nparams) lua_settop(L, 2);
  } else {
    lua_pushnil(L);
    lua_insert(L, 1);
  }
  struct mp_stmt *stmt = mp_stmt_one(L, "db.one", text, 3, message);
  lua_rotate(L, 1, -1); /* the arguments as they came, for a second run */
  if (!stmt) return shoot(L, source, mp_stmt_describe(L, text), "db.one", (lua_KContext)db_one, again);
  return shoot(L, source, stmt, "db.one", 0, shape_one);
}

/* insert(table, values) */
static int db_insert(lua_State *L) {
  struct source *source = usable(L, "db.insert");
  if (lua_type(L, 1) != LUA_TSTRING) mp_luaerr_misuse(L, "db.insert", "the name of the table is missing");
  if (lua_type(L, 2) != LUA_TTABLE) mp_luaerr_misuse(L, "db.insert", "the values are missing: pass a table");
  lua_settop(L, 2);
  struct mp_text *text = mp_text_insert(L, lua_tostring(L, 1), 2, "db.insert");
  struct mp_stmt *stmt = mp_stmt_new(L, "db.insert", text, 2);
  if (!stmt) return shoot(L, source, mp_stmt_describe(L, text), "db.insert", (lua_KContext)db_insert, again);
  return shoot(L, source, stmt, "db.insert", 0, shape_one);
}

/* ---- transaction ---- */

struct waiting_txn { /* in a userdata on the waiting task's stack, which the registry anchors */
  struct mp_bind *bind;
  struct mp_txn *txn;
  struct mp_token token;
  int fn_ref, self_ref, answer_ref;
  bool committed, abandoned;
};

static int push_fn(lua_State *L, void *data) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, ((struct waiting_txn *)data)->fn_ref);
  return 0;
}

static void on_txn_answer(struct mp_txn *txn, void *data) {
  struct waiting_txn *waiting = data;
  lua_State *L = mp_vm_lua(waiting->bind->vm);
  struct mp_txn_info info;
  mp_txn_info(txn, &info);
  waiting->committed = info.outcome == MP_TX_COMMITTED;
  waiting->txn = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, waiting->fn_ref);
  if (!waiting->abandoned) {
    waiting->answer_ref = mp_txn_take_answer(txn);
    mp_wait_ready(waiting->bind->sched, waiting->token);
  }
  luaL_unref(L, LUA_REGISTRYINDEX, waiting->self_ref);
}

static void on_txn_abandoned(void *data) {
  struct waiting_txn *waiting = data;
  struct mp_err err;
  waiting->abandoned = true;
  mp_err_set(&err, MP_ECANCELED, "the task that waited for the transaction was ended");
  if (waiting->txn) mp_txn_abort(waiting->txn, &err);
}

static int transaction_k(lua_State *L, int status, lua_KContext ctx) {
  struct waiting_txn *waiting = (struct waiting_txn *)ctx;
  (void)status;
  lua_rawgeti(L, LUA_REGISTRYINDEX, waiting->answer_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, waiting->answer_ref);
  return waiting->committed ? 1 : lua_error(L);
}

static const char *option_string(lua_State *L, int idx, const char *name) {
  return lua_getfield(L, idx, name) == LUA_TSTRING ? lua_tostring(L, -1) : NULL; /* stays on the stack */
}

/* The tenant: "id" for the application's own tenant field, or { field = "id" }. The strings stay on the stack. */
static void tenant_option(lua_State *L, int idx, struct mp_bind *bind, struct mp_txn_options *options) {
  switch (lua_getfield(L, idx, "tenant")) {
    case LUA_TNIL: return;
    case LUA_TSTRING:
      if (!bind->tenant_field)
        mp_luaerr_misuse(L, "db.transaction", "no operation names a tenant; pass tenant = { field = value }");
      options->tenant_field = bind->tenant_field;
      options->tenant = lua_tostring(L, -1);
      return;
    case LUA_TTABLE:
      lua_pushnil(L);
      if (lua_next(L, -2) && lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
        options->tenant_field = lua_tostring(L, -2);
        options->tenant = lua_tostring(L, -1);
        if (strspn(options->tenant_field, "abcdefghijklmnopqrstuvwxyz_0123456789") == strlen(options->tenant_field)) return;
      }
      break;
    default: break;
  }
  mp_luaerr_misuse(L, "db.transaction", "tenant is a string or { field = string }");
}

/* A misspelled option must not become a default. */
static void check_options(lua_State *L, int idx) {
  static const char *const known[] = {"isolation", "read_only", "deferrable", "timeout", "retries", "tenant"};
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    bool found = false;
    for (size_t i = 0; i < MP_ARRAY_LEN(known); i++) found = found || !strcmp(name, known[i]);
    if (!found)
      mp_luaerr_misuse(L, "db.transaction",
                       "unknown option `%s`; there are isolation, read_only, deferrable, timeout, retries, tenant", name);
  }
}

static bool flag_option(lua_State *L, const char *name) {
  if (lua_getfield(L, 1, name) != LUA_TBOOLEAN && !lua_isnil(L, -1))
    mp_luaerr_misuse(L, "db.transaction", "%s is true or false", name);
  return lua_toboolean(L, -1);
}

static void isolation_option(lua_State *L, enum mp_isolation *out) {
  if (lua_getfield(L, 1, "isolation") != LUA_TNIL &&
      (lua_type(L, -1) != LUA_TSTRING || !mp_isolation_parse(lua_tostring(L, -1), out)))
    mp_luaerr_misuse(L, "db.transaction", "isolation \"%s\" is none of: read committed, repeatable read, serializable",
                     luaL_tolstring(L, -1, NULL));
}

static uint64_t timeout_option(lua_State *L) {
  if (lua_getfield(L, 1, "timeout") == LUA_TNIL) return 30000;
  double seconds = lua_tonumber(L, -1);
  if (lua_type(L, -1) != LUA_TNUMBER || !(seconds > 0 && seconds <= 86400))
    mp_luaerr_misuse(L, "db.transaction", "timeout is a number of seconds, up to 86400");
  return (uint64_t)(seconds * 1000);
}

static unsigned retries_option(lua_State *L) {
  if (lua_getfield(L, 1, "retries") == LUA_TNIL) return MP_TX_ATTEMPTS - 1;
  lua_Integer retries = lua_tointeger(L, -1);
  if (!lua_isinteger(L, -1) || retries < 0 || retries > 100)
    mp_luaerr_misuse(L, "db.transaction", "retries is an integer from 0 to 100");
  return (unsigned)retries;
}

/* transaction([{isolation=, read_only=, deferrable=, tenant=, timeout=, retries=}], fn) -> what fn(tx) returns */
static int db_transaction(lua_State *L) {
  struct source *source = usable(L, "db.transaction");
  struct mp_bind *bind = source->bind;
  struct mp_txn_options options = {
      .pool = source->pool, .name = "db.transaction", .errors_ref = LUA_NOREF, .caller_ref = LUA_NOREF};
  struct mp_err err;
  if (source->kept) mp_luaerr_misuse(L, "db.transaction", "not on a kept connection");
  if (lua_isfunction(L, 1)) {
    lua_newtable(L);
    lua_insert(L, 1);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  check_options(L, 1);
  isolation_option(L, &options.tx.isolation);
  options.tx.read_only = flag_option(L, "read_only");
  options.tx.deferrable = flag_option(L, "deferrable");
  uint64_t timeout_ms = timeout_option(L);
  options.tx.max_attempts = retries_option(L) + 1;
  tenant_option(L, 1, bind, &options);
  options.tx.backoff_ms = MP_TX_BACKOFF_MS;
  options.tx.backoff_cap_ms = MP_TX_BACKOFF_CAP_MS;
  options.tx.deadline_ms = mp_loop_now_ms(bind->loop) + timeout_ms;
  mp_wait_check(L, "db.transaction");
  struct waiting_txn *waiting = lua_newuserdatauv(L, sizeof *waiting, 0);
  *waiting = (struct waiting_txn){.bind = bind, .answer_ref = LUA_NOREF};
  lua_pushvalue(L, -1);
  waiting->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 2);
  waiting->fn_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  static const struct mp_txn_calls calls = {push_fn, on_txn_answer};
  if (mp_txn_start(&waiting->txn, bind, &options, &calls, waiting, &err)) {
    luaL_unref(L, LUA_REGISTRYINDEX, waiting->fn_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, waiting->self_ref);
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  waiting->token = mp_wait_begin(L, on_txn_abandoned, waiting);
  return mp_wait_yield(L, (lua_KContext)waiting, transaction_k);
}

/* ---- lease: one connection for a while ---- */

static void push_functions(lua_State *L, bool kept);

static void end_lease(struct source *source) {
  if (!source->kept) return;
  source->kept = false;
  source->pool = NULL;
  mp_pool_release(&source->lease, source->dirty);
}

static int source_gc(lua_State *L) {
  struct source *source = lua_touserdata(L, 1);
  end_lease(source);
  if (source->own_pool && source->pool) source->bind->close_pool(source->bind, source->pool);
  source->pool = NULL;
  return 0;
}

static struct source *push_source(lua_State *L, struct mp_bind *bind, struct mp_pool *pool) {
  struct source *source = lua_newuserdatauv(L, sizeof *source, 0);
  *source = (struct source){.bind = bind, .pool = pool, .timeout_ms = bind->query_timeout_ms};
  if (luaL_newmetatable(L, "moonpool.database")) {
    lua_pushcfunction(L, source_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return source;
}

struct lease_wait {
  struct source *source;
  struct mp_token token;
  struct mp_err err;
};

static void lease_granted(struct mp_lease *lease) {
  struct lease_wait *wait = lease->data;
  wait->source->kept = true;
  lease->leak_told = wait->source->patient;
  mp_wait_ready(wait->source->bind->sched, wait->token);
}

static void lease_failed(struct mp_lease *lease, const struct mp_err *err) {
  struct lease_wait *wait = lease->data;
  wait->err = *err;
  mp_wait_ready(wait->source->bind->sched, wait->token);
}

static void lease_abandoned(void *data) { mp_pool_abandon(&((struct lease_wait *)data)->source->lease); }

/* Stack: 1 function, 2 source, 3 wait, 4 handler, results or error. */
static int lease_ran(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  end_lease(lua_touserdata(L, 2));
  if (status != LUA_OK && status != LUA_YIELD) return lua_error(L);
  return lua_gettop(L) - 4;
}

static int lease_have(lua_State *L, int status, lua_KContext ctx) {
  struct lease_wait *wait = lua_touserdata(L, 3);
  (void)status;
  (void)ctx;
  if (!wait->source->kept) {
    mp_luaerr_push(L, &wait->err);
    return lua_error(L);
  }
  lua_pushcfunction(L, mp_luaerr_handler);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  push_functions(L, true);
  return lease_ran(L, lua_pcallk(L, 1, LUA_MULTRET, 4, 0, lease_ran), 0);
}

/* lease(fn, [{timeout=}]) -> what fn(conn) returns; conn has query, first ... on one connection. `timeout`: seconds
 * that one statement may take, instead of DB_QUERY_TIMEOUT; 0: as long as it takes. */
static int db_lease(lua_State *L) {
  struct source *from = usable(L, "db.lease");
  struct mp_err err;
  double timeout_s = -1;
  if (from->kept) mp_luaerr_misuse(L, "db.lease", "this is a kept connection already");
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    if (lua_getfield(L, 2, "timeout") != LUA_TNIL) timeout_s = luaL_checknumber(L, -1);
  }
  lua_settop(L, 1);
  struct source *source = push_source(L, from->bind, from->pool);
  if (timeout_s >= 0) source->timeout_ms = (uint64_t)(timeout_s * 1000);
  source->patient = timeout_s == 0;
  struct lease_wait *wait = lua_newuserdatauv(L, sizeof *wait, 0);
  *wait = (struct lease_wait){.source = source};
  mp_wait_check(L, "db.lease");
  source->lease = (struct mp_lease){.data = wait, .on_grant = lease_granted, .on_fail = lease_failed};
  source->lease.deadline_ms = mp_loop_now_ms(from->bind->loop) + 30000;
  mp_list_init(&source->lease.node);
  mp_task_where(L, 1, source->lease.where, sizeof source->lease.where);
  if (mp_pool_acquire(from->pool, &source->lease, &err)) {
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  wait->token = mp_wait_begin(L, lease_abandoned, wait);
  return mp_wait_yield(L, 0, lease_have);
}

/* ---- open, close ---- */

/* open{url=, max=} -> a database like moonpool.db */
static int db_open(lua_State *L) {
  struct mp_bind *bind = source_of(L)->bind;
  struct mp_pool *pool;
  struct mp_err err;
  luaL_checktype(L, 1, LUA_TTABLE);
  const char *url = option_string(L, 1, "url");
  if (!url) mp_luaerr_misuse(L, "db.open", "url is missing: db.open{url = \"postgres://...\"}");
  lua_getfield(L, 1, "max");
  unsigned max = lua_isnil(L, -1) ? 2 : (unsigned)luaL_checkinteger(L, -1);
  struct source *source = push_source(L, bind, NULL);
  if (bind->open_pool(bind, url, max, &pool, &err)) {
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  source->pool = pool;
  source->own_pool = true;
  push_functions(L, false);
  return 1;
}

static int db_close(lua_State *L) {
  struct source *source = source_of(L);
  if (!source->own_pool) mp_luaerr_misuse(L, "db.close", "only what db.open gave can be closed");
  if (source->pool) source->bind->close_pool(source->bind, source->pool);
  source->pool = NULL;
  return 0;
}

/* The source is on top; replaces it by the table of functions over it. */
static void push_functions(lua_State *L, bool kept) {
  static const luaL_Reg functions[] = {
      {"query", db_query}, {"first", db_first},   {"value", db_value}, {"count", db_count}, {"exec", db_count},
      {"one", db_one},     {"insert", db_insert}, {NULL, NULL},
  };
  static const luaL_Reg more[] = {
      {"transaction", db_transaction}, {"lease", db_lease}, {"open", db_open}, {"close", db_close}, {NULL, NULL}};
  lua_newtable(L);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 1);
  if (!kept) {
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, more, 1);
  }
  lua_remove(L, -2);
}

int mp_open_db(lua_State *L) {
  struct mp_bind *bind = mp_bind_of(L);
  push_source(L, bind, bind->pool);
  push_functions(L, false);
  return 1;
}
