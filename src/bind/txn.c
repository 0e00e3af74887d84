/* txn.c: the driver: life of a transaction, its attempts and its answer. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/txn_internal.h"
#include "script/luaerr.h"
#include "util/log.h"

#define CLEANUP_MS \
  5000 /* for a cancel and a rollback nobody waits for; then the connection is closed */

struct mp_tx_now mp_txn_now(struct mp_txn *txn) {
  struct mp_tx_now n = {.ms = mp_loop_now_ms(txn->bind->loop),
                        .no_retry = !mp_budget_left(&txn->bind->retries)};
  mp_loop_random(txn->bind->loop, &n.random, sizeof n.random);
  return n;
}

/* ---- Lua, called protected ---- */

static void on_script_done(struct mp_task *task, lua_State *co, bool ok, void *data);

struct protected {
  struct mp_txn *txn;
  const struct mp_err *err;
};

static int start_script_p(lua_State *L) {
  struct mp_txn *txn = ((struct protected *)lua_touserdata(L, 1))->txn;
  lua_settop(L, 0);
  luaL_checkstack(L, 20, NULL);
  int nargs = txn->calls.push_script(L, txn->data);
  mp_tx_lua_push(L, txn);
  lua_pushvalue(L, -1);
  txn->tx_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_insert(L, -nargs - 1);
  txn->script = mp_task_start(txn->bind->sched, L, nargs + 1, txn->name, on_script_done, txn);
  mp_task_set_data(txn->script, txn);
  /* What it spawns has no transaction, and must not reach another tenant's by a connection of its own. */
  if (txn->tenant && txn->options.restricted) mp_task_set_scope(txn->script, txn);
  return 0;
}

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

static int make_error_p(lua_State *L) {
  struct protected *p = lua_touserdata(L, 1);
  struct mp_txn *txn = p->txn;
  if (txn->error_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, txn->error_ref);
  } else if (txn->failure.err.code && !strcmp(txn->failure.err.msg, p->err->msg)) {
    mp_failure_push(L, &txn->failure, txn->options.errors_ref);
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
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  txn->error_ref = ref;
  return 0;
}

static int push_stored_p(lua_State *L) {
  struct mp_txn *txn = ((struct protected *)lua_touserdata(L, 1))->txn;
  lua_pushstring(L, txn->stored);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  luaL_unref(L, LUA_REGISTRYINDEX, txn->result_ref);
  txn->result_ref = ref;
  return 0;
}

/* False: not even the memory for that. */
static bool in_lua(struct mp_txn *txn, lua_CFunction fn, const struct mp_err *err) {
  lua_State *L = mp_vm_lua(txn->bind->vm);
  struct protected p = {txn, err};
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, &p);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return true;
  mp_log(MP_LOG_ERROR, "script", "%s: %s", txn->name, luaL_tolstring(L, -1, NULL));
  lua_pop(L, 2);
  return false;
}

static void unref(struct mp_txn *txn, int *ref) {
  luaL_unref(mp_vm_lua(txn->bind->vm), LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

/* ---- the connection ---- */

void mp_txn_free_if_done(struct mp_txn *txn) {
  if (!txn->answered || txn->leased || txn->waiting || txn->syncs_open) return;
  mp_timer_stop(&txn->deadline);
  mp_timer_stop(&txn->wait);
  mp_timer_stop(&txn->cleanup);
  mp_txn_drop_list(&txn->queue);
  mp_txn_drop_list(&txn->batch);
  mp_txn_drop_list(&txn->lost);
  mp_failure_clear(&txn->failure);
  unref(txn, &txn->result_ref);
  unref(txn, &txn->error_ref);
  unref(txn, &txn->hooks_ref);
  txn->bind->live_work--;
  free(txn->stored);
  free(txn->tenant);
  free(txn->set_tenant_sql);
  free(txn);
}

static void on_grant(struct mp_lease *lease) {
  struct mp_txn *txn = lease->data;
  txn->waiting = false;
  txn->leased = true;
  txn->bind->scratch_used = false; /* no Lua runs now */
  txn->discard = txn->discard_after = txn->release_wanted = txn->lock_held = false;
  mp_txn_act(txn, mp_tx_granted(&txn->tx));
}

static void on_not_granted(struct mp_lease *lease, const struct mp_err *err) {
  struct mp_txn *txn = lease->data;
  txn->waiting = false;
  mp_txn_act(txn, mp_tx_not_granted(&txn->tx, err, mp_txn_now(txn)));
}

static void acquire(struct mp_txn *txn) {
  struct mp_err err;
  txn->lease = (struct mp_lease){.deadline_ms = txn->options.tx.deadline_ms,
                                 .data = txn,
                                 .on_grant = on_grant,
                                 .on_fail = on_not_granted};
  mp_list_init(&txn->lease.node);
  snprintf(txn->lease.where, sizeof txn->lease.where, "%s", txn->name);
  txn->waiting = true;
  if (!mp_pool_acquire(txn->options.pool, &txn->lease, &err)) return;
  txn->frame_err = err; /* told on the next turn: nobody is called back before his call returns */
  txn->refused = true;
  mp_timer_start(&txn->wait, 0);
}

/* ---- the script ---- */

static bool unchecked(struct mp_txn *txn) {
  MP_LIST_EACH(node, &txn->queue) {
    if (MP_LIST_ENTRY(node, struct mp_stmt, node)->one) return true;
  }
  return false;
}

static void attempt_over(struct mp_txn *txn) {
  if (txn->tx_ref == LUA_NOREF) return;
  mp_tx_lua_empty(mp_vm_lua(txn->bind->vm), txn->tx_ref);
  unref(txn, &txn->tx_ref);
}

/* The text that the key keeps, as the last statement. The result is script's: it may fail. */
static int keep_result_p(lua_State *L) {
  struct mp_txn *txn = ((struct protected *)lua_touserdata(L, 1))->txn;
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, txn->result_ref);
  txn->calls.encode_result(L, txn->data);
  char *stored = strdup(luaL_checkstring(L, -1));
  if (!stored) return luaL_error(L, "not enough memory");
  free(txn->stored);
  txn->stored = stored;
  lua_pushliteral(L, "update moonpool.witness set result = $1 where id = $2");
  struct mp_text *text = mp_text_get(L, -1, "key");
  lua_pushvalue(L, -2);
  lua_pushstring(L, txn->key_id);
  struct mp_stmt *stmt = mp_stmt_new(L, "key", text, lua_gettop(L) - 1);
  stmt->control = true;
  mp_txn_queue(txn, stmt);
  return 0;
}

/* -> false: the result cannot be kept; the error is in txn->error_ref. */
static bool keep_result(struct mp_txn *txn, struct mp_err *err) {
  lua_State *L = mp_vm_lua(txn->bind->vm);
  struct protected p = {txn, NULL};
  txn->encoded = true;
  lua_pushcfunction(L, mp_luaerr_handler);
  lua_pushcfunction(L, keep_result_p);
  lua_pushlightuserdata(L, &p);
  bool ok = lua_pcall(L, 1, 0, -3) == LUA_OK;
  if (!ok) {
    mp_luaerr_get(L, -1, err);
    unref(txn, &txn->error_ref);
    txn->error_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  lua_pop(L, 1);
  return ok;
}

/* The script has returned, and perhaps what it had queued has been seen since: COMMIT, or a look before it. */
static void script_returned(struct mp_txn *txn) {
  bool keyed = txn->options.key_id && !txn->encoded, queued = !mp_list_empty(&txn->queue);
  struct mp_err err;
  if (keyed && !queued) { /* all rows of the result are here */
    if (!keep_result(txn, &err)) {
      mp_txn_act(txn, mp_tx_finished(&txn->tx, &err, false, false));
      return;
    }
    queued = true;
  }
  bool look_first = queued && !txn->encoded &&
                    (keyed || unchecked(txn) || (txn->changed && mp_txn_witness_unknown(txn)));
  mp_txn_act(txn, mp_tx_finished(&txn->tx, NULL, queued, look_first));
}

static void on_script_done(struct mp_task *task, lua_State *co, bool ok, void *data) {
  struct mp_txn *txn = data;
  struct mp_err err;
  (void)task;
  txn->script = NULL;
  txn->finished = true;
  attempt_over(txn);
  if (ok) {
    if (!lua_gettop(co)) lua_pushnil(co);
    lua_settop(co, 1);
    unref(txn, &txn->result_ref);
    txn->result_ref = luaL_ref(co, LUA_REGISTRYINDEX);
    script_returned(txn);
  } else {
    mp_luaerr_get(co, -1, &err);
    unref(txn, &txn->error_ref);
    txn->error_ref = luaL_ref(co, LUA_REGISTRYINDEX);
    mp_txn_drop_list(&txn->queue);
    mp_txn_act(txn, mp_tx_finished(&txn->tx, &err, false, false));
  }
}

static void kill_script(struct mp_txn *txn) {
  struct mp_task *script = txn->script;
  txn->script = NULL;
  txn->killing = true;
  if (script) mp_task_kill(script);
  txn->killing = false;
  attempt_over(txn);
  mp_txn_drop_list(&txn->queue);
  unref(txn, &txn->result_ref);
  unref(txn, &txn->error_ref);
}

static void resume_script(struct mp_txn *txn) {
  if (txn->finished) { /* it looked only because something had to be seen before COMMIT */
    if (mp_tx_doomed(&txn->tx))
      mp_txn_act(txn, mp_tx_finished(&txn->tx, &txn->tx.err, false, false));
    else
      script_returned(txn);
    return;
  }
  mp_wait_ready(txn->bind->sched, txn->look);
}

/* ---- hooks ---- */

static void on_hook_done(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_bind *bind = data;
  struct mp_err err;
  if (ok) return;
  mp_luaerr_get(L, -1, &err);
  bind->stats.hook_errors++;
  mp_log(MP_LOG_ERROR, "script", "%s failed: %s", mp_task_name(task), err.msg);
}

static int start_hooks_p(lua_State *L) {
  struct mp_txn *txn = ((struct protected *)lua_touserdata(L, 1))->txn;
  bool committed = txn->tx.outcome == MP_TX_COMMITTED;
  char name[96];
  snprintf(name, sizeof name, "%s hook of %s", committed ? "after_commit" : "on_rollback",
           txn->name);
  lua_rawgeti(L, LUA_REGISTRYINDEX, txn->hooks_ref);
  lua_getfield(L, -1, committed ? "after_commit" : "on_rollback");
  for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
    if (!committed) lua_rawgeti(L, LUA_REGISTRYINDEX, txn->error_ref);
    mp_task_start(txn->bind->sched, L, committed ? 0 : 1, name, on_hook_done, txn->bind);
  }
  return 0;
}

/* ---- the machine's actions, in their order ---- */

static void count(struct mp_txn *txn) {
  struct mp_bind *bind = txn->bind;
  bind->stats.transactions++;
  bind->stats.transaction_us += (mp_loop_clock_ns(bind->loop) - txn->started_ns) / 1000;
  bind->stats.deadlock_retries += txn->tx.retries_deadlock;
  if (txn->tx.attempt > 1) bind->stats.retried++;
  switch (txn->tx.outcome) {
    case MP_TX_COMMITTED: bind->stats.committed++; break;
    case MP_TX_UNKNOWN: bind->stats.unknown++; break;
    case MP_TX_PENDING:
    case MP_TX_ROLLED_BACK:
      bind->stats.rolled_back++;
      if (txn->tx.err.code != MP_ESCRIPT) bind->stats.failed++;
      break;
  }
}

static void give_answer(struct mp_txn *txn) {
  mp_timer_stop(&txn->deadline);
  count(txn);
  if (txn->stored && txn->tx.outcome == MP_TX_COMMITTED) in_lua(txn, push_stored_p, NULL);
  if (txn->tx.outcome != MP_TX_COMMITTED) {
    /* The script's own error tells more, unless something else decided. */
    bool own = txn->finished && txn->error_ref != LUA_NOREF && txn->tx.outcome == MP_TX_ROLLED_BACK;
    if (!own) unref(txn, &txn->error_ref);
    in_lua(txn, make_error_p, &txn->tx.err);
  }
  if (txn->hooks_ref != LUA_NOREF && txn->tx.outcome != MP_TX_UNKNOWN)
    in_lua(txn, start_hooks_p, NULL);
  txn->calls.on_answer(txn, txn->data);
  txn->answered = true;
}

/* Nothing of an attempt before counts any more. */
static void begin_attempt(struct mp_txn *txn) {
  txn->round_trips = txn->statements = 0;
  txn->drawn = 0;
  txn->finished = txn->orphaned = txn->encoded = false;
  txn->changed = txn->options.key_id;
  mp_failure_clear(&txn->failure);
  mp_txn_drop_list(&txn->lost);
  unref(txn, &txn->hooks_ref);
  unref(txn, &txn->result_ref);
  unref(txn, &txn->error_ref);
}

void mp_txn_act(struct mp_txn *txn, unsigned actions) {
  struct mp_err err;
  if (actions & MP_TX_DO_KILL) kill_script(txn);
  if (actions & MP_TX_DO_CANCEL) {
    mp_timer_start(&txn->cleanup, CLEANUP_MS);
    if (mp_conn_cancel(txn->lease.conn, NULL, NULL, &err))
      mp_log(MP_LOG_WARN, "pool", "%s: %s", txn->name, err.msg);
  }
  if (actions & MP_TX_DO_GRACE) mp_timer_start(&txn->deadline, MP_TX_GRACE_MS);
  if (actions & MP_TX_DO_RESOLVE) mp_txn_send_resolve(txn);
  if (actions & MP_TX_DO_SEND) mp_txn_send_segment(txn);
  if (actions & MP_TX_DO_ROLLBACK) {
    if (!mp_timer_running(&txn->cleanup)) mp_timer_start(&txn->cleanup, CLEANUP_MS);
    mp_txn_send_rollback(txn);
  }
  if (actions & (MP_TX_DO_RELEASE | MP_TX_DO_DISCARD)) {
    txn->release_wanted = true;
    if (actions & MP_TX_DO_DISCARD) txn->discard = true;
    attempt_over(txn);
  }
  if (actions & MP_TX_DO_WAIT) {
    if (!txn->tx.in_doubt) mp_budget_spend(&txn->bind->retries);
    mp_timer_start(&txn->wait, txn->tx.delay_ms);
  }
  if (actions & MP_TX_DO_RUN) {
    begin_attempt(txn);
    if (!in_lua(txn, start_script_p, NULL)) {
      mp_err_set(&err, MP_ENOMEM, "no memory to start the script");
      actions |= mp_tx_abort(&txn->tx, &err);
      if (actions & MP_TX_DO_RELEASE) txn->release_wanted = true;
    }
  }
  /* The caller first: giving the connection back may start others. */
  if (actions & MP_TX_DO_ANSWER) give_answer(txn);
  mp_txn_release_when_quiet(txn);
  if (actions & MP_TX_DO_ACQUIRE) {
    acquire(txn);
    return; /* it may have ended in there */
  }
  if (actions & MP_TX_DO_RESUME) {
    resume_script(txn);
    return;
  }
  mp_txn_free_if_done(txn);
}

void mp_txn_abort(struct mp_txn *txn, const struct mp_err *err) {
  if (txn->waiting) {
    if (txn->refused)
      mp_timer_stop(&txn->wait);
    else
      mp_pool_abandon(&txn->lease);
    txn->waiting = txn->refused = false;
  }
  mp_txn_act(txn, mp_tx_abort(&txn->tx, err));
}

static void on_deadline(struct mp_timer *timer) {
  struct mp_txn *txn = MP_CONTAINER_OF(timer, struct mp_txn, deadline);
  struct mp_err err;
  if (txn->waiting && !txn->refused && !txn->overdue) {
    txn->overdue = true; /* the pool's own failure, due now too, tells who holds the connections */
    mp_timer_start(&txn->deadline, 100);
    return;
  }
  mp_err_set(&err, MP_ETIMEOUT, "%s did not finish within its timeout, at attempt %u", txn->name,
             txn->tx.attempt ? txn->tx.attempt : 1);
  mp_txn_abort(txn, &err);
}

static void on_waited(struct mp_timer *timer) {
  struct mp_txn *txn = MP_CONTAINER_OF(timer, struct mp_txn, wait);
  if (txn->orphaned) {
    struct mp_err err;
    txn->orphaned = false;
    mp_err_set(&err, MP_ECANCELED, "%s: the code that waited for its statements was ended",
               txn->name);
    mp_txn_abort(txn, &err);
    return;
  }
  if (txn->refused) {
    txn->refused = txn->waiting = false;
    mp_txn_act(txn, mp_tx_not_granted(&txn->tx, &txn->frame_err, mp_txn_now(txn)));
    return;
  }
  /* The connection of the last attempt may still be on its way back (its unlock, say). */
  if (txn->leased) {
    mp_timer_start(&txn->wait, 1);
    return;
  }
  mp_txn_act(txn, mp_tx_waited(&txn->tx));
}

static void on_cleanup(struct mp_timer *timer) {
  struct mp_txn *txn = MP_CONTAINER_OF(timer, struct mp_txn, cleanup);
  bool commit = txn->tx.state == MP_TX_COMMITTING;
  mp_log(MP_LOG_WARN, "pool", "%s: the %s took longer than %llu ms: closing its connection",
         txn->name, commit ? "COMMIT" : "rollback",
         (unsigned long long)(commit ? txn->bind->commit_timeout_ms : CLEANUP_MS));
  txn->discard = txn->release_wanted = true;
  /* Closing fails what is under way, and that ends the transaction. */
  mp_txn_release_when_quiet(txn);
}

/* SET LOCAL takes a literal only. The setting's name is an identifier that the operation was loaded with. */
static int set_tenant_text(struct mp_txn *txn, const struct mp_txn_options *options) {
  struct mp_buf sql;
  mp_buf_init(&sql, 0);
  mp_buf_addf(&sql, "SET LOCAL app.%s = '", options->tenant_field);
  for (const char *at = options->tenant; *at; at++) {
    if (*at == '\'') mp_buf_addc(&sql, '\'');
    mp_buf_addc(&sql, *at);
  }
  mp_buf_addc(&sql, '\'');
  txn->tenant = strdup(options->tenant);
  if (sql.failed || !txn->tenant) {
    mp_buf_fini(&sql);
    free(txn->tenant);
    return -1;
  }
  mp_buf_text(&sql);
  txn->set_tenant_sql = sql.data; /* the buffer's memory is ours now */
  txn->options.tenant = txn->tenant;
  txn->options.tenant_field = NULL; /* the caller's; only the text is needed from here on */
  return 0;
}

static void copy_key(struct mp_txn *txn, const struct mp_txn_options *options) {
  snprintf(txn->key_id, sizeof txn->key_id, "%s", options->key_id);
  snprintf(txn->input_hash, sizeof txn->input_hash, "%s", options->input_hash);
  snprintf(txn->set_key_sql, sizeof txn->set_key_sql, "SET LOCAL moonpool.witness = '%s'",
           txn->key_id);
  txn->options.key_id = txn->key_id;
  txn->options.input_hash = txn->input_hash;
  txn->options.tx.keyed = true;
}

int mp_txn_start(struct mp_txn **out, struct mp_bind *bind, const struct mp_txn_options *options,
                 const struct mp_txn_calls *calls, void *data, struct mp_err *err) {
  struct mp_txn *txn = calloc(1, sizeof *txn);
  if (!txn) return mp_err_set(err, MP_ENOMEM, "no memory for a transaction");
  txn->bind = bind;
  txn->options = *options;
  if (!txn->options.pool) txn->options.pool = bind->pool;
  txn->calls = *calls;
  txn->data = data;
  txn->tx_ref = txn->hooks_ref = txn->result_ref = txn->error_ref = LUA_NOREF;
  snprintf(txn->name, sizeof txn->name, "%s", options->name);
  txn->options.name = txn->name;
  if (options->tenant && set_tenant_text(txn, options)) {
    free(txn);
    return mp_err_set(err, MP_ENOMEM, "no memory for a transaction");
  }
  snprintf(txn->lock_text, sizeof txn->lock_text, "%lld", (long long)options->lock_key);
  txn->lock_values[0] = txn->lock_text;
  mp_list_init(&txn->queue);
  mp_list_init(&txn->batch);
  mp_list_init(&txn->lost);
  if (options->key_id) copy_key(txn, options);
  mp_timer_init(&txn->deadline, bind->loop, on_deadline);
  mp_timer_init(&txn->wait, bind->loop, on_waited);
  mp_timer_init(&txn->cleanup, bind->loop, on_cleanup);
  txn->started_ns = mp_loop_clock_ns(bind->loop);
  txn->started_us = mp_loop_wall_us(bind->loop);
  mp_loop_random(bind->loop, txn->seed, sizeof txn->seed);
  bind->live_work++;
  mp_budget_earn(&bind->retries);
  mp_timer_start_at(&txn->deadline, options->tx.deadline_ms);
  *out = txn;
  unsigned actions = mp_tx_start(&txn->tx, &txn->options.tx);
  if (actions != MP_TX_DO_ACQUIRE) abort();
  acquire(txn);
  return 0;
}
