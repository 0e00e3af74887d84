/* member.c: one call of a transaction: its script as a task, and its result under a key. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/account.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "txn/fault.h"
#include "util/log.h"

/* ---- Lua, called protected ---- */

void *mp_member_argument(lua_State *L) {
  void *argument = lua_touserdata(L, 1);
  lua_settop(L, 0);
  luaL_checkstack(L, 20, NULL);
  return argument;
}

bool mp_member_pcall(struct mp_member *member, lua_CFunction fn, void *argument) {
  lua_State *L = mp_vm_lua(member->txn->host->vm);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, argument);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return true;
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an error";
  mp_log_on(mp_label_about(mp_flight_label(member->options.flight)), MP_LOG_ERROR, "script",
            "%s: %s", member->name, text); /* to make a text may raise */
  lua_pop(L, 1);
  return false;
}

void mp_member_unref(struct mp_member *member, int *ref) {
  luaL_unref(mp_vm_lua(member->txn->host->vm), LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

void mp_member_set_ref(lua_State *L, int *ref) {
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
  struct mp_member *member = mp_member_argument(L);
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
  return mp_member_pcall(member, start_script_p, member);
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

/* ---- its result, under a key ---- */

static int keep_result_p(lua_State *L) {
  struct mp_member *member = mp_member_argument(L);
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
  member->encoded = true;
  lua_pushcfunction(L, mp_luaerr_handler);
  lua_pushcfunction(L, keep_result_p);
  lua_pushlightuserdata(L, member);
  bool ok = lua_pcall(L, 1, 0, -3) == LUA_OK;
  if (!ok) {
    mp_luaerr_get(L, -1, err);
    mp_member_set_ref(L, &member->error_ref);
  }
  lua_pop(L, 1);
  return ok;
}
