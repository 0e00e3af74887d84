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
  struct mp_tx_now n = {.ms = mp_loop_now_ms(txn->bind->loop)};
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
  }
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  txn->error_ref = ref;
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
  mp_failure_clear(&txn->failure);
  unref(txn, &txn->result_ref);
  unref(txn, &txn->error_ref);
  unref(txn, &txn->hooks_ref);
  txn->bind->live_work--;
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
  txn->round_trips = txn->statements = 0;
  mp_failure_clear(&txn->failure);
  txn->drawn = 0;
  txn->finished = txn->orphaned = false;
  mp_txn_act(txn, mp_tx_granted(&txn->tx));
}

static void on_not_granted(struct mp_lease *lease, const struct mp_err *err) {
  struct mp_txn *txn = lease->data;
  txn->waiting = false;
  mp_txn_act(txn, mp_tx_not_granted(&txn->tx, err));
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
    mp_txn_act(txn, mp_tx_finished(&txn->tx, NULL, !mp_list_empty(&txn->queue), unchecked(txn)));
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
    const struct mp_err *err = mp_tx_doomed(&txn->tx) ? &txn->tx.err : NULL;
    mp_txn_act(txn, mp_tx_finished(&txn->tx, err, false, false));
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
  mp_metrics_hook_error(bind->meters);
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

static void report(struct mp_txn *txn) {
  const struct mp_tx *tx = &txn->tx;
  struct mp_tx_report r = {
      .operation = txn->name,
      .isolation = txn->options.tx.isolation,
      .end = tx->outcome == MP_TX_COMMITTED ? MP_TX_END_COMMITTED
             : tx->outcome == MP_TX_UNKNOWN ? MP_TX_END_UNKNOWN
                                            : MP_TX_END_ROLLED_BACK,
      .err = tx->outcome == MP_TX_COMMITTED ? NULL : &tx->err,
      .attempts = tx->attempt,
      .round_trips = txn->round_trips,
      .statements = txn->statements,
      .retries = {tx->retries_serialization, tx->retries_deadlock, tx->retries_connection},
      .duration_us = (mp_loop_clock_ns(txn->bind->loop) - txn->started_ns) / 1000};
  mp_metrics_transaction(txn->bind->meters, &r);
}

static void give_answer(struct mp_txn *txn) {
  mp_timer_stop(&txn->deadline);
  report(txn);
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

void mp_txn_act(struct mp_txn *txn, unsigned actions) {
  struct mp_err err;
  if (actions & MP_TX_DO_KILL) kill_script(txn);
  if (actions & MP_TX_DO_CANCEL) {
    mp_timer_start(&txn->cleanup, CLEANUP_MS);
    if (mp_conn_cancel(txn->lease.conn, NULL, NULL, &err))
      mp_log(MP_LOG_WARN, "pool", "%s: %s", txn->name, err.msg);
  }
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
    unref(txn, &txn->hooks_ref); /* what a failed attempt wanted after its commit is void */
    mp_timer_start(&txn->wait, txn->tx.delay_ms);
  }
  if (actions & MP_TX_DO_RUN && !in_lua(txn, start_script_p, NULL)) {
    mp_err_set(&err, MP_ENOMEM, "no memory to start the script");
    actions |= mp_tx_abort(&txn->tx, &err);
    if (actions & MP_TX_DO_RELEASE) txn->release_wanted = true;
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
    mp_txn_act(txn, mp_tx_not_granted(&txn->tx, &txn->frame_err));
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
  mp_log(MP_LOG_WARN, "pool", "%s: the rollback took longer than %d ms: closing its connection",
         txn->name, CLEANUP_MS);
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
  snprintf(txn->key_text, sizeof txn->key_text, "%lld", (long long)options->lock_key);
  txn->key_values[0] = txn->key_text;
  mp_list_init(&txn->queue);
  mp_list_init(&txn->batch);
  mp_timer_init(&txn->deadline, bind->loop, on_deadline);
  mp_timer_init(&txn->wait, bind->loop, on_waited);
  mp_timer_init(&txn->cleanup, bind->loop, on_cleanup);
  txn->started_ns = mp_loop_clock_ns(bind->loop);
  txn->started_us = mp_loop_wall_us(bind->loop);
  mp_loop_random(bind->loop, txn->seed, sizeof txn->seed);
  bind->live_work++;
  mp_timer_start_at(&txn->deadline, options->tx.deadline_ms);
  *out = txn;
  unsigned actions = mp_tx_start(&txn->tx, &txn->options.tx);
  if (actions != MP_TX_DO_ACQUIRE) abort();
  acquire(txn);
  return 0;
}
