/* member.c: one call of a transaction: its script as a task, its result or error, its hooks,
 * its answer. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/account.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "txn/fault.h"
#include "txn/publish.h"
#include "util/log.h"
#include "watch/metrics.h"

/* ---- Lua, called protected ---- */

struct protected {
  struct mp_member *member;
  const struct mp_err *err;
  struct mp_account *account;
};

static struct protected *argument(lua_State *L) {
  struct protected *p = lua_touserdata(L, 1);
  lua_settop(L, 0);
  luaL_checkstack(L, 20, NULL);
  return p;
}

/* False: not even the memory for that. */
static bool run_protected(lua_CFunction fn, struct protected *p) {
  struct mp_member *member = p->member;
  lua_State *L = mp_vm_lua(member->txn->host->vm);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, p);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return true;
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an error";
  mp_log_on(mp_label_about(mp_flight_label(member->options.flight)), MP_LOG_ERROR, "script",
            "%s: %s", member->name, text); /* to make a text may raise */
  lua_pop(L, 1);
  return false;
}

static bool in_lua(struct mp_member *member, lua_CFunction fn, const struct mp_err *err) {
  return run_protected(fn, &(struct protected){member, err, NULL});
}

void mp_member_unref(struct mp_member *member, int *ref) {
  luaL_unref(mp_vm_lua(member->txn->host->vm), LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

static void set_ref(lua_State *L, int *ref) {
  int taken = luaL_ref(L, LUA_REGISTRYINDEX);
  luaL_unref(L, LUA_REGISTRYINDEX, *ref);
  *ref = taken;
}

/* ---- life ---- */

/* SET LOCAL takes a literal only. The setting's name is an identifier that the operation was loaded
 * with. */
static char *set_tenant_text(const struct mp_txn_options *options) {
  struct mp_buf sql;
  mp_buf_init(&sql, 0);
  mp_buf_addf(&sql, "SET LOCAL app.%s = '", options->tenant_field);
  for (const char *at = options->tenant; *at; at++) {
    if (*at == '\'') mp_buf_addc(&sql, '\'');
    mp_buf_addc(&sql, *at);
  }
  mp_buf_addc(&sql, '\'');
  if (sql.failed) mp_buf_fini(&sql);
  mp_buf_text(&sql);
  return sql.failed ? NULL : sql.data; /* the buffer's memory is the caller's now */
}

static void copy_key(struct mp_member *member, const struct mp_txn_options *options) {
  mp_copy_text(member->key_id, sizeof member->key_id, options->key_id);
  mp_copy_text(member->input_hash, sizeof member->input_hash, options->input_hash);
  snprintf(member->set_key_sql, sizeof member->set_key_sql, "SET LOCAL moonpool.witness = '%s'",
           member->key_id);
  member->options.key_id = member->key_id;
  member->options.input_hash = member->input_hash;
}

static void on_deadline(struct mp_timer *timer) {
  mp_txn_member_late(MP_CONTAINER_OF(timer, struct mp_member, deadline));
}

int mp_member_init(struct mp_member *member, struct mp_txn *txn,
                   const struct mp_txn_options *options, void *data, struct mp_err *err) {
  struct mp_host *host = txn->host;
  member->txn = txn;
  member->options = *options;
  member->data = data;
  member->state = MP_MEMBER_WAITING;
  member->tx_ref = member->hooks_ref = member->result_ref = member->error_ref = LUA_NOREF;
  mp_copy_text(member->name, sizeof member->name, options->name);
  member->options.name = member->name;
  mp_account_ref(options->account);
  mp_scope_ref(options->scope);
  if (options->tenant) {
    member->tenant = strdup(options->tenant);
    member->set_tenant_sql = set_tenant_text(options);
    if (!member->tenant || !member->set_tenant_sql) {
      free(member->tenant);
      free(member->set_tenant_sql);
      mp_account_unref(options->account);
      mp_scope_unref(options->scope);
      /* Whoever gives it its answer frees it, as one that holds nothing. */
      member->tenant = member->set_tenant_sql = NULL;
      member->options.account = NULL;
      member->options.scope = NULL;
      member->options.flight = NULL;
      return mp_err_set(err, MP_ENOMEM, "no memory for a transaction");
    }
    member->options.tenant = member->tenant;
    member->options.tenant_field = NULL; /* the caller's; only the text is needed from here on */
  }
  if (options->key_id) copy_key(member, options);
  mp_flight_ref(options->flight);
  mp_timer_init(&member->deadline, host->loop, on_deadline);
  member->started_ns = mp_loop_clock_ns(host->loop);
  member->started_us = mp_loop_wall_us(host->loop);
  mp_loop_random(host->loop, member->seed, sizeof member->seed);
  if (host->txns->fault) mp_fault_begin(member);
  mp_list_push_back(&txn->members, &member->node);
  txn->nmembers++;
  mp_timer_start_at(&member->deadline, options->tx.deadline_ms);
  return 0;
}

void mp_member_reset(struct mp_member *member) {
  member->state = MP_MEMBER_WAITING;
  member->drawn = 0;
  member->finished = member->encoded = false;
  member->changed = member->options.key_id;
  member->savepoint = NULL;
  if (member->txn->host->txns->fault) mp_fault_restart(member);
  mp_member_unref(member, &member->hooks_ref);
  mp_member_unref(member, &member->result_ref);
  mp_member_unref(member, &member->error_ref);
}

void mp_member_fini(struct mp_member *member) {
  mp_timer_stop(&member->deadline);
  mp_member_unref(member, &member->result_ref);
  mp_member_unref(member, &member->error_ref);
  mp_member_unref(member, &member->hooks_ref);
  mp_account_unref(member->options.account);
  mp_scope_unref(member->options.scope);
  mp_flight_unref(member->options.flight);
  free(member->stored);
  free(member->tenant);
  free(member->set_tenant_sql);
}

/* ---- the script ---- */

/* The call whose limits it shares was ended. */
static void on_script_killed(void *data) { mp_txn_script_killed(data); }

static uint64_t left_ms(const struct mp_member *member) {
  uint64_t now_ms = mp_loop_now_ms(member->txn->host->loop);
  uint64_t deadline_ms = member->options.tx.deadline_ms;
  return deadline_ms > now_ms ? deadline_ms - now_ms : 0;
}

static void set_limits(struct mp_member *member) {
  struct mp_task_limits limits = member->options.limits;
  if (member->options.account || !limits.cpu_ms) return;
  limits.wall_ms += left_ms(member);
  mp_task_limit(member->script, &limits);
}

/* What a call is part of stays its scope; but one that code of no tenant makes for a tenant has its
 * own, as has a call from outside. */
static void settle_scope(lua_State *L, struct mp_member *member) {
  struct mp_txn_options *o = &member->options;
  if (o->scope && (mp_scope_tenant(o->scope) || !o->tenant)) return;
  if (o->caller_ref != LUA_NOREF)
    lua_rawgeti(L, LUA_REGISTRYINDEX, o->caller_ref);
  else
    mp_scope_push_caller(L, o->scope);
  struct mp_scope *scope = mp_scope_new(L, o->tenant);
  mp_scope_unref(o->scope);
  o->scope = scope;
}

static int start_script_p(lua_State *L) {
  struct mp_member *member = argument(L)->member;
  struct mp_txn *txn = member->txn;
  if (member->options.restricted) settle_scope(L, member);
  const struct mp_task_origin origin = {.scope = member->options.scope,
                                        .label = mp_flight_label(member->options.flight),
                                        .account = member->options.account};
  int nargs = txn->calls.push_script(L, member->data);
  mp_tx_lua_push(L, txn);
  lua_pushvalue(L, -1);
  member->tx_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_insert(L, -nargs - 1);
  member->script =
      mp_task_start(txn->host->sched, L, nargs + 1, member->name, &origin, mp_txn_script_done, txn);
  mp_task_on_killed(member->script, on_script_killed);
  mp_task_set_data(member->script, txn);
  set_limits(member);
  return 0;
}

bool mp_member_run(struct mp_member *member) {
  member->state = MP_MEMBER_RUNNING;
  return in_lua(member, start_script_p, NULL);
}

void mp_member_over(struct mp_member *member) {
  if (member->tx_ref == LUA_NOREF) return;
  mp_tx_lua_empty(mp_vm_lua(member->txn->host->vm), member->tx_ref);
  mp_member_unref(member, &member->tx_ref);
}

void mp_member_kill(struct mp_member *member) {
  struct mp_task *script = member->script;
  member->script = NULL;
  member->txn->killing = true;
  if (script) {
    mp_task_on_killed(script, NULL); /* we know */
    mp_task_set_data(script, NULL);  /* one that runs now ends later, perhaps later than we do */
    mp_task_kill(script);
  }
  member->txn->killing = false;
  mp_member_over(member);
}

/* ---- what the caller hears ---- */

/* { { reason = "40001", delay_ms = 12 }, ... }: the attempts that failed. [-0, +1] */
static void push_history(lua_State *L, const struct mp_tx *tx) {
  unsigned n = tx->failed_attempts, kept = n < MP_TX_HISTORY ? n : MP_TX_HISTORY;
  lua_createtable(L, (int)kept, 0);
  for (unsigned i = 0; i < kept; i++) {
    const struct mp_tx_retry *entry = &tx->history[(n - kept + i) % MP_TX_HISTORY];
    lua_createtable(L, 0, 2);
    lua_pushstring(L, entry->sqlstate[0] ? entry->sqlstate : mp_code_name(entry->code));
    lua_setfield(L, -2, "reason");
    lua_pushinteger(L, entry->delay_ms);
    lua_setfield(L, -2, "delay_ms");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

/* Is `err` the failure, perhaps with a word in front of its message? */
static bool is_failure(const struct mp_err *err, const struct mp_failure *failure) {
  size_t len = strlen(err->msg), own = strlen(failure->err.msg);
  return failure->err.code && len >= own && !strcmp(err->msg + len - own, failure->err.msg);
}

static int make_error_p(lua_State *L) {
  struct protected *p = argument(L);
  struct mp_member *member = p->member;
  struct mp_txn *txn = member->txn;
  if (member->error_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, member->error_ref);
  } else if (is_failure(p->err, &txn->failure)) {
    mp_failure_push(L, &txn->failure, &member->options.own);
    if (strcmp(p->err->msg, txn->failure.err.msg) != 0) {
      lua_pushstring(L, p->err->msg);
      lua_setfield(L, -2, "message");
    }
  } else {
    mp_luaerr_push(L, p->err);
  }
  if (mp_luaerr_is(L, -1)) {
    lua_pushinteger(L, txn->tx.attempt);
    lua_setfield(L, -2, "attempts");
    if (txn->tx.failed_attempts) {
      push_history(L, &txn->tx);
      lua_setfield(L, -2, "retries");
    }
  }
  set_ref(L, &member->error_ref);
  return 0;
}

static int push_nomem_p(lua_State *L) {
  struct mp_member *member = argument(L)->member;
  mp_luaerr_push_nomem(L);
  set_ref(L, &member->error_ref);
  return 0;
}

/* Also without memory the caller gets an error. */
void mp_member_make_error(struct mp_member *member, const struct mp_err *err) {
  in_lua(member, make_error_p, err);
  if (member->error_ref == LUA_NOREF) in_lua(member, make_error_p, err);
  if (member->error_ref == LUA_NOREF) in_lua(member, push_nomem_p, NULL);
}

static int keep_result_p(lua_State *L) {
  struct mp_member *member = argument(L)->member;
  lua_rawgeti(L, LUA_REGISTRYINDEX, member->result_ref);
  member->txn->calls.encode_result(L, member->data);
  char *stored = strdup(luaL_checkstring(L, -1));
  if (!stored) return luaL_error(L, "not enough memory");
  free(member->stored);
  member->stored = stored;
  struct mp_text *text =
      mp_text_own(L, "update moonpool.witness set result = $1 where id = $2", "key");
  lua_pushstring(L, member->key_id);
  struct mp_stmt *stmt = mp_stmt_new(L, "key", NULL, text, lua_gettop(L) - 1);
  stmt->control = true;
  mp_txn_queue(member->txn, stmt);
  return 0;
}

bool mp_member_keep_result(struct mp_member *member, struct mp_err *err) {
  lua_State *L = mp_vm_lua(member->txn->host->vm);
  struct protected p = {member, NULL, NULL};
  member->encoded = true;
  lua_pushcfunction(L, mp_luaerr_handler);
  lua_pushcfunction(L, keep_result_p);
  lua_pushlightuserdata(L, &p);
  bool ok = lua_pcall(L, 1, 0, -3) == LUA_OK;
  if (!ok) {
    mp_luaerr_get(L, -1, err);
    set_ref(L, &member->error_ref);
  }
  lua_pop(L, 1);
  return ok;
}

static int push_stored_p(lua_State *L) {
  struct mp_member *member = argument(L)->member;
  lua_pushstring(L, member->stored);
  set_ref(L, &member->result_ref);
  return 0;
}

/* ---- hooks ---- */

static void on_hook_done(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_host *host = data;
  struct mp_err err;
  if (ok) return;
  mp_luaerr_get(L, -1, &err);
  const struct mp_log_about *about = mp_label_about(mp_task_label(task));
  mp_metrics_hook_error(host->shared->meters);
  /* What a hook did not do nobody else is told, so it is the operator's, whatever its code. */
  mp_metrics_call_failed(host->shared->meters,
                         about && about->operation ? about->operation : "hook", mp_err_name(&err),
                         500, about ? about->call_id : NULL, mp_loop_wall_us(host->loop));
  mp_log_on(about, MP_LOG_ERROR, "script", "%s failed: %s: %s", mp_task_name(task),
            mp_err_name(&err), err.msg);
}

/* A copy: what the caller will hear is not a hook's to change. */
static void push_own_error(lua_State *L, const struct mp_member *member) {
  lua_pushcfunction(L, mp_luaerr_copy);
  lua_rawgeti(L, LUA_REGISTRYINDEX, member->error_ref);
  if (mp_luaerr_is(L, -1))
    lua_call(L, 1, 1);
  else
    lua_remove(L, -2);
}

static int start_hooks_p(lua_State *L) {
  struct protected *p = argument(L);
  struct mp_member *member = p->member;
  struct mp_host *host = member->txn->host;
  bool committed = member->outcome == MP_TX_COMMITTED;
  const struct mp_task_origin origin = {.scope = member->options.scope,
                                        .label = mp_flight_label(member->options.flight),
                                        .account = p->account};
  char name[96];
  snprintf(name, sizeof name, "%s hook of %s", committed ? "after_commit" : "on_rollback",
           member->name);
  lua_rawgeti(L, LUA_REGISTRYINDEX, member->hooks_ref);
  lua_getfield(L, -1, committed ? "after_commit" : "on_rollback");
  for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
    if (!committed) push_own_error(L, member);
    mp_task_start(host->sched, L, committed ? 0 : 1, name, &origin, on_hook_done, host);
  }
  lua_pop(L, 2);
  if (committed) mp_publish_notify(L, host->sched);
  return 0;
}

/* All of them share what the script might spend, which begins anew. */
static void start_hooks(struct mp_member *member) {
  const struct mp_task_limits *limits = &member->options.limits;
  struct mp_account *account = mp_account_ref(member->options.account);
  if (!account && limits->cpu_ms) {
    account = mp_task_account_new(member->txn->host->sched, limits);
    if (!account) return;
  }
  run_protected(start_hooks_p, &(struct protected){member, NULL, account});
  mp_account_unref(account);
}

/* ---- the answer ---- */

static enum mp_tx_end end_of(enum mp_tx_outcome outcome, bool resolved) {
  switch (outcome) {
    case MP_TX_COMMITTED: return resolved ? MP_TX_END_RESOLVED_COMMITTED : MP_TX_END_COMMITTED;
    case MP_TX_UNKNOWN: return MP_TX_END_UNKNOWN;
    case MP_TX_PENDING:
    case MP_TX_ROLLED_BACK: break;
  }
  return resolved ? MP_TX_END_RESOLVED_ROLLED_BACK : MP_TX_END_ROLLED_BACK;
}

/* What the members of a group have in common is counted with the first. */
static void report(const struct mp_member *member) {
  const struct mp_txn *txn = member->txn;
  const struct mp_tx *tx = &txn->tx;
  struct mp_tx_report r = {
      .operation = member->name,
      .isolation = txn->options.tx.isolation,
      .end = end_of(member->outcome, tx->resolved),
      .err = member->outcome == MP_TX_COMMITTED ? NULL : &member->err,
      .attempts = tx->attempt,
      .duration_us = (mp_loop_clock_ns(txn->host->loop) - member->started_ns) / 1000,
  };
  if (member == &txn->first) {
    r.group_size = txn->nmembers;
    r.round_trips = txn->round_trips;
    r.retries[MP_RETRY_SERIALIZATION] = tx->retries_serialization;
    r.retries[MP_RETRY_DEADLOCK] = tx->retries_deadlock;
    r.retries[MP_RETRY_CONNECTION] = tx->retries_connection;
  }
  mp_metrics_transaction(txn->host->shared->meters, &r);
}

/* What the caller hears is what is counted and recorded: under the code that the operation gave
 * it. */
static void read_error(struct mp_member *member, const struct mp_err *err) {
  lua_State *L = mp_vm_lua(member->txn->host->vm);
  lua_rawgeti(L, LUA_REGISTRYINDEX, member->error_ref);
  member->err = *err;
  if (mp_luaerr_is(L, -1)) mp_luaerr_get(L, -1, &member->err);
  lua_pop(L, 1);
}

void mp_member_answer(struct mp_member *member, enum mp_tx_outcome outcome,
                      const struct mp_err *err, bool again) {
  struct mp_txn *txn = member->txn;
  mp_timer_stop(&member->deadline);
  member->outcome = outcome;
  member->again = again;
  if (!again) {
    if (member->stored && outcome == MP_TX_COMMITTED) in_lua(member, push_stored_p, NULL);
    if (outcome != MP_TX_COMMITTED) {
      /* The script's own error tells more, unless something else decided. */
      bool own = member->finished && member->error_ref != LUA_NOREF && outcome == MP_TX_ROLLED_BACK;
      if (!own) mp_member_unref(member, &member->error_ref);
      mp_member_make_error(member, err);
      read_error(member, err);
    }
    report(member);
    if (member->hooks_ref != LUA_NOREF && outcome != MP_TX_UNKNOWN) start_hooks(member);
  }
  member->state = MP_MEMBER_GONE;
  struct mp_member *current = txn->m;
  txn->m = member; /* whose answer it is */
  txn->calls.on_answer(txn, member->data);
  txn->m = current;
  /* The call is over, and what was borrowed from it is gone. */
  member->data = NULL;
  member->options.own = (struct mp_own){LUA_NOREF, LUA_NOREF};
  member->options.caller_ref = LUA_NOREF;
}
