/* transaction.c: db.transaction: a function of a script as a transaction, retried like an
 * operation. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "db/source.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "txn/txn.h"

struct waiting_txn { /* in a userdata on the waiting task's stack, which the registry anchors */
  struct mp_host *host;
  struct mp_source *source;
  struct mp_txn *txn;
  struct mp_token token;
  int fn_ref, self_ref, answer_ref;
  bool committed, abandoned;
};

static int push_fn(lua_State *L, void *data) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, ((struct waiting_txn *)data)->fn_ref);
  return 0;
}

static void on_txn_answer(void *data, struct mp_txn_answer *answer) {
  struct waiting_txn *waiting = data;
  lua_State *L = mp_vm_lua(waiting->host->vm);
  waiting->committed = answer->outcome == MP_TX_COMMITTED;
  waiting->txn = NULL;
  waiting->source->users--;
  luaL_unref(L, LUA_REGISTRYINDEX, waiting->fn_ref);
  if (!waiting->abandoned) {
    waiting->answer_ref = mp_txn_answer_take(answer);
    mp_wait_ready(waiting->host->sched, waiting->token);
  }
  luaL_unref(L, LUA_REGISTRYINDEX, waiting->self_ref);
}

static void on_txn_abandoned(void *data) {
  struct waiting_txn *waiting = data;
  struct mp_err err;
  waiting->abandoned = true;
  mp_err_set(&err, MP_ECANCELED, "the task that waited for the transaction was ended");
  if (waiting->txn) mp_txn_abort(waiting->txn, waiting, &err);
}

static int transaction_k(lua_State *L, int status, lua_KContext ctx) {
  struct waiting_txn *waiting = (struct waiting_txn *)ctx;
  (void)status;
  lua_rawgeti(L, LUA_REGISTRYINDEX, waiting->answer_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, waiting->answer_ref);
  waiting->answer_ref = LUA_NOREF;
  return waiting->committed ? 1 : lua_error(L);
}

/* Drops an answer whose task was ended before it was resumed. */
static int waiting_gc(lua_State *L) {
  struct waiting_txn *waiting = lua_touserdata(L, 1);
  luaL_unref(L, LUA_REGISTRYINDEX, waiting->answer_ref);
  return 0;
}

/* The tenant: "id" for the application's own tenant field, or { field = "id" }. The strings stay on
 * the stack. */
static void tenant_option(lua_State *L, int idx, struct mp_host *host,
                          struct mp_txn_options *options) {
  switch (lua_getfield(L, idx, "tenant")) {
    case LUA_TNIL: return;
    case LUA_TSTRING:
      if (!host->tenant_field)
        mp_luaerr_misuse(L, "db.transaction",
                         "no operation names a tenant; pass tenant = { field = value }");
      options->tenant_field = host->tenant_field;
      options->tenant = lua_tostring(L, -1);
      return;
    case LUA_TTABLE:
      lua_pushnil(L);
      if (lua_next(L, -2) && lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
        options->tenant_field = lua_tostring(L, -2);
        options->tenant = lua_tostring(L, -1);
        if (strspn(options->tenant_field, "abcdefghijklmnopqrstuvwxyz_0123456789") ==
            strlen(options->tenant_field))
          return;
      }
      break;
    default: break;
  }
  mp_luaerr_misuse(L, "db.transaction", "tenant is a string or { field = string }");
}

static MP_NORETURN void raise_other_tenant(lua_State *L) {
  struct mp_err err;
  mp_err_set(
      &err, MP_EINVAL,
      "db.transaction: what a call has started stays with the call's tenant; an operation of no "
      "tenant may choose one, and `for_each` runs a scheduled one for each");
  mp_luaerr_push(L, &err);
  lua_pushliteral(L, "MULTI_TENANT_VIOLATION");
  lua_setfield(L, -2, "code");
  lua_pushinteger(L, 403);
  lua_setfield(L, -2, "status");
  lua_error(L);
  abort();
}

/* In code that a call has started, the transaction always has the call's tenant and its guard on
 * statements. */
static void keep_scope(lua_State *L, struct mp_host *host, struct mp_txn_options *options) {
  const struct mp_task_origin origin = mp_task_origin(mp_task_of(L));
  const char *own = mp_scope_tenant(origin.scope);
  options->scope = origin.scope;
  options->account = origin.account;
  options->restricted = origin.scope != NULL;
  if (!own) return;
  bool other = options->tenant && (strcasecmp(options->tenant, own) != 0 || !host->tenant_field ||
                                   strcmp(options->tenant_field, host->tenant_field) != 0);
  if (other) raise_other_tenant(L);
  options->tenant_field = host->tenant_field;
  options->tenant = host->tenant_field ? own : NULL;
}

/* A misspelled option must not silently be ignored. */
static void check_options(lua_State *L, int idx) {
  static const char *const known[] = {"isolation", "read_only", "deferrable", "timeout", "retries",
                                      "tenant",    "witness",   "merge",      "flush"};
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    bool found = false;
    for (size_t i = 0; i < MP_ARRAY_LEN(known); i++) found = found || !strcmp(name, known[i]);
    if (!found)
      mp_luaerr_misuse(
          L, "db.transaction",
          "unknown option `%s`; there are isolation, read_only, deferrable, timeout, retries, "
          "tenant, witness, merge, flush",
          name);
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
    mp_luaerr_misuse(
        L, "db.transaction",
        "isolation \"%s\" must be one of: read committed, repeatable read, serializable",
        luaL_tolstring(L, -1, NULL));
}

static bool flush_option(lua_State *L, const struct mp_host *host) {
  if (lua_getfield(L, 1, "flush") == LUA_TNIL) return host->shared->shared_flush;
  const char *flush = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  bool shared = !strcmp(flush, "shared");
  if (!shared && strcmp(flush, "own") != 0)
    mp_luaerr_misuse(L, "db.transaction", "flush is \"own\" or \"shared\"");
  return shared;
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

/* transaction([{isolation=, read_only=, deferrable=, tenant=, timeout=, retries=, witness=, merge=,
 * flush=}], fn)
 * -> what fn(tx) returns */
int mp_db_transaction(lua_State *L) {
  struct mp_source *source = mp_source_usable(L, "db.transaction");
  struct mp_host *host = source->host;
  struct mp_txn_options options = {.pool = source->pool,
                                   .name = "db.transaction",
                                   .own = {LUA_NOREF, LUA_NOREF},
                                   .caller_ref = LUA_NOREF};
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
  bool witness = flag_option(L, "witness") || lua_isnil(L, -1);
  options.tx.witness = witness && !options.tx.read_only;
  options.merge = flag_option(L, "merge") || lua_isnil(L, -1);
  options.shared_flush = flush_option(L, host);
  if (options.tx.deferrable && !(options.tx.read_only && options.tx.isolation == MP_SERIALIZABLE))
    mp_luaerr_misuse(L, "db.transaction",
                     "deferrable needs isolation = \"serializable\" and read_only = true");
  uint64_t timeout_ms = timeout_option(L);
  options.tx.max_attempts = retries_option(L) + 1;
  tenant_option(L, 1, host, &options);
  keep_scope(L, host, &options);
  options.tx.backoff_ms = MP_TX_BACKOFF_MS;
  options.tx.backoff_cap_ms = MP_TX_BACKOFF_CAP_MS;
  options.tx.deadline_ms = mp_loop_now_ms(host->loop) + timeout_ms;
  mp_wait_check(L, "db.transaction");
  struct waiting_txn *waiting = lua_newuserdatauv(L, sizeof *waiting, 1);
  lua_pushvalue(L, lua_upvalueindex(1)); /* the database lives as long as the transaction */
  lua_setiuservalue(L, -2, 1);
  *waiting = (struct waiting_txn){.host = host, .source = source, .answer_ref = LUA_NOREF};
  if (luaL_newmetatable(L, "moonpool.waiting_txn")) {
    lua_pushcfunction(L, waiting_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  waiting->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 2);
  waiting->fn_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  static const struct mp_txn_calls calls = {.push_script = push_fn, .on_answer = on_txn_answer};
  if (mp_txn_start(&waiting->txn, host, &options, &calls, waiting, &err)) {
    luaL_unref(L, LUA_REGISTRYINDEX, waiting->fn_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, waiting->self_ref);
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  source->users++;
  waiting->token = mp_wait_begin(L, on_txn_abandoned, waiting);
  return mp_wait_yield(L, (lua_KContext)waiting, transaction_k);
}
