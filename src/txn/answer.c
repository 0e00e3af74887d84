#include "txn/answer.h"

#include <lauxlib.h>
#include <string.h>

#include "script/account.h"
#include "script/luaerr.h"
#include "txn/relay_notice.h"
#include "util/log.h"
#include "util/pre.h"
#include "watch/metrics.h"

/* The argument of what is called protected. */
struct telling {
  struct mp_member *member;
  const struct mp_err *err;
  enum mp_tx_outcome outcome;
  struct mp_account *account;
};

/* ---- the error ---- */

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
  struct telling *p = mp_member_argument(L);
  struct mp_member *member = p->member;
  struct mp_work *work = member->work;
  if (member->error_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, member->error_ref);
  } else if (is_failure(p->err, &work->failed.failure)) {
    mp_failure_push(L, &work->failed.failure, &member->options.own);
    if (strcmp(p->err->msg, work->failed.failure.err.msg) != 0) {
      lua_pushstring(L, p->err->msg);
      lua_setfield(L, -2, "message");
    }
  } else {
    mp_luaerr_push(L, p->err);
  }
  if (mp_luaerr_is(L, -1)) {
    lua_pushinteger(L, work->tx.attempt);
    lua_setfield(L, -2, "attempts");
    if (work->tx.failed_attempts) {
      push_history(L, &work->tx);
      lua_setfield(L, -2, "retries");
    }
  }
  mp_member_set_ref(L, &member->error_ref);
  return 0;
}

static int push_nomem_p(lua_State *L) {
  struct mp_member *member = mp_member_argument(L);
  mp_luaerr_push_nomem(L);
  mp_member_set_ref(L, &member->error_ref);
  return 0;
}

/* The caller gets an error even if there is no memory for one. */
void mp_member_make_error(struct mp_member *member, const struct mp_err *err) {
  struct telling p = {.member = member, .err = err};
  mp_member_pcall(member, make_error_p, &p);
  if (member->error_ref == LUA_NOREF) mp_member_pcall(member, make_error_p, &p);
  if (member->error_ref == LUA_NOREF) mp_member_pcall(member, push_nomem_p, member);
}

static int push_stored_p(lua_State *L) {
  struct mp_member *member = mp_member_argument(L);
  lua_pushstring(L, member->key.stored);
  mp_member_set_ref(L, &member->result_ref);
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
  /* No caller hears of a failed hook, so the operator does, whatever its code. */
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
  struct telling *p = mp_member_argument(L);
  struct mp_member *member = p->member;
  struct mp_host *host = member->work->host;
  bool committed = p->outcome == MP_TX_COMMITTED;
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
  if (committed) mp_relay_notice(L, host->sched);
  return 0;
}

/* All hooks of a call share one account, with the limits of its script from the start. */
static void start_hooks(struct mp_member *member, enum mp_tx_outcome outcome) {
  const struct mp_task_limits *limits = &member->options.limits;
  struct mp_account *account = mp_account_ref(member->options.account);
  if (!account && limits->cpu_ms) {
    account = mp_task_account_new(member->work->host->sched, limits);
    if (!account) return;
  }
  mp_member_pcall(member, start_hooks_p, &(struct telling){member, NULL, outcome, account});
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
static void report(const struct mp_member *member, const struct mp_txn_answer *answer) {
  const struct mp_work *work = member->work;
  struct mp_tx_report r = {
      .operation = member->name,
      .isolation = work->options.tx.isolation,
      .end = end_of(answer->outcome, answer->resolved),
      .err = answer->outcome == MP_TX_COMMITTED ? NULL : &answer->err,
      .attempts = answer->attempts,
      .duration_us = answer->duration_us,
  };
  if (member == mp_member_at(work->members.next)) {
    r.group_size = answer->group;
    r.round_trips = answer->round_trips;
    r.retries[MP_RETRY_SERIALIZATION] = answer->retries_serialization;
    r.retries[MP_RETRY_DEADLOCK] = answer->retries_deadlock;
    r.retries[MP_RETRY_CONNECTION] = answer->retries_connection;
    r.refused = answer->retry_refused;
  }
  mp_metrics_transaction(work->host->shared->meters, &r);
}

/* Metrics and recorder use the error that the caller gets, with the code that the operation gave
 * it. */
static void read_error(struct mp_member *member, struct mp_err *err) {
  lua_State *L = mp_vm_lua(member->work->host->vm);
  lua_rawgeti(L, LUA_REGISTRYINDEX, member->error_ref);
  if (mp_luaerr_is(L, -1)) mp_luaerr_get(L, -1, err);
  lua_pop(L, 1);
}

static void take_error(struct mp_member *member, struct mp_txn_answer *answer) {
  /* The script's own error tells more, unless the outcome is unknown. */
  if (answer->outcome != MP_TX_ROLLED_BACK) mp_member_unref(member, &member->error_ref);
  mp_member_make_error(member, &answer->err);
  read_error(member, &answer->err);
}

static struct mp_txn_answer answer_of(const struct mp_member *member, enum mp_tx_outcome outcome) {
  const struct mp_work *work = member->work;
  return (struct mp_txn_answer){
      .outcome = outcome,
      .ref = LUA_NOREF,
      .attempts = work->tx.attempt,
      .round_trips = work->round_trips,
      .statements = work->statements,
      .retries_serialization = work->tx.retries_serialization,
      .retry_refused = work->tx.refused,
      .retries_deadlock = work->tx.retries_deadlock,
      .retries_connection = work->tx.retries_connection,
      .group = work->nmembers,
      .recalled = member->key.result == MP_KEY_RECALLED,
      .resolved = work->tx.resolved,
      .duration_us = (mp_loop_clock_ns(work->host->loop) - member->started_ns) / 1000,
  };
}

/* Answers the call, which is over then: what was borrowed from it is gone. */
static void tell(struct mp_member *member, struct mp_txn_answer *answer) {
  void *data = member->data;
  mp_timer_stop(&member->deadline);
  mp_member_move(member, MP_MEMBER_ANSWERED);
  member->work->calls.on_answer(data, answer);
  luaL_unref(mp_vm_lua(member->work->host->vm), LUA_REGISTRYINDEX, answer->ref);
  member->data = NULL;
  member->options.own = (struct mp_own){LUA_NOREF, LUA_NOREF};
  member->options.caller_ref = LUA_NOREF;
}

void mp_member_answer(struct mp_member *member, enum mp_tx_outcome outcome,
                      const struct mp_err *err) {
  PRE(outcome != MP_TX_PENDING && (err || outcome == MP_TX_COMMITTED));
  struct mp_txn_answer answer = answer_of(member, outcome);
  bool committed = outcome == MP_TX_COMMITTED;
  if (committed) {
    if (member->key.stored) mp_member_pcall(member, push_stored_p, member);
  } else {
    answer.err = *err;
    take_error(member, &answer);
  }
  report(member, &answer);
  if (member->hooks_ref != LUA_NOREF && outcome != MP_TX_UNKNOWN) start_hooks(member, outcome);
  int *ref = committed ? &member->result_ref : &member->error_ref;
  answer.ref = *ref;
  *ref = LUA_NOREF;
  tell(member, &answer);
}

static void retry_ungrouped(struct mp_member *member) {
  struct mp_txn_answer answer = answer_of(member, MP_TX_ROLLED_BACK);
  answer.retry_ungrouped = true;
  tell(member, &answer);
}

void mp_members_answer(struct mp_work *work, bool ungrouped) {
  MP_LIST_EACH(node, &work->members) {
    struct mp_member *member = mp_member_at(node);
    if (member->state == MP_MEMBER_ANSWERED) continue;
    bool own = member->state == MP_MEMBER_FAILED;
    if (ungrouped)
      retry_ungrouped(member);
    else
      mp_member_answer(member, own ? MP_TX_ROLLED_BACK : work->tx.outcome, &work->tx.err);
  }
}

const char *mp_txn_outcome_text(const struct mp_txn_answer *answer) {
  switch (answer->outcome) {
    case MP_TX_COMMITTED:
      return answer->recalled ? "recalled" : answer->resolved ? "resolved_committed" : "committed";
    case MP_TX_UNKNOWN: return "unknown";
    case MP_TX_PENDING:
    case MP_TX_ROLLED_BACK: break;
  }
  return answer->resolved ? "resolved_rolled_back" : "rolled_back";
}
