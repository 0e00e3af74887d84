/* call.c: the life of a call: lane, group, transaction, answer. */
#include <lauxlib.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/call_priv.h"
#include "script/account.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "util/buf.h"
#include "util/utf8.h"
#include "watch/metrics.h"

static lua_State *lua_of(struct call *call) { return mp_vm_lua(call->ops->host->vm); }

static void unref(struct call *call, int *ref) {
  luaL_unref(lua_of(call), LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

static void end_flight(struct call *call, const char *outcome, const struct mp_err *err) {
  const struct mp_flight_end end = {.outcome = outcome,
                                    .err = err,
                                    .attempts = call->answer.attempts,
                                    .round_trips = call->answer.round_trips,
                                    .group = call->answer.group};
  mp_flight_end(call->flight, &end);
  call->flight = call->options.flight = NULL;
}

void mp_call_free(struct call *call) {
  end_flight(call, "given up", NULL);
  mp_timer_stop(&call->deadline);
  unref(call, &call->run_ref);
  unref(call, &call->input_ref);
  unref(call, &call->again_ref);
  unref(call, &call->answer.ref);
  unref(call, &call->tenant_ref);
  unref(call, &call->groups_ref);
  unref(call, &call->options.own.errors_ref);
  unref(call, &call->options.caller_ref);
  mp_scope_unref(call->options.scope);
  mp_account_unref(call->options.account);
  if (call->begun) call->ops->live_calls--;
  if (call->box) call->box->call = NULL;
  free(call);
}

static void start_transaction(struct call *call);
static void turn_came(struct call *call);

static void leave_groups(struct call *call) {
  struct mp_groups_pass *next = mp_groups_leave(&call->group_pass);
  if (next) start_transaction(MP_CONTAINER_OF(next, struct call, group_pass));
}

static void leave_brake(struct call *call, unsigned conflicts) {
  struct mp_brakes *brakes = &call->ops->brakes;
  struct mp_brake_pass *next;
  bool ended = call->stage == IN_TRANSACTION;
  uint64_t key = mp_brake_leave(brakes, &call->brake_pass, ended, conflicts);
  while (key && (next = mp_brake_next(brakes, key)))
    start_transaction(MP_CONTAINER_OF(next, struct call, brake_pass));
}

/* The next calls start before this one is answered: they must not wait for its answer. Nothing is
 * left to do when the call has made way before. */
static void make_way(struct call *call, unsigned conflicts) {
  mp_lane_leave(&call->pass, mp_turns_now(call->ops->turns));
  mp_turns_serve(call->ops->turns);
  leave_groups(call);
  leave_brake(call, conflicts);
}

/* Only its flush is waited for. Should that be lost, the call may run again, beside its lane: lanes
 * save waits, and the database alone keeps calls apart. */
static void on_over(void *data, unsigned conflicts) { make_way(data, conflicts); }

static int push_error_p(lua_State *L) {
  mp_luaerr_push(L, lua_touserdata(L, 1));
  return 1;
}

/* Ends a call that never had a transaction. */
static void fail(struct call *call, const struct mp_err *err) {
  lua_State *L = lua_of(call);
  struct mp_err copy = *err;
  end_flight(call, "failed", err);
  make_way(call, 0);
  if (call->abandoned) {
    mp_call_free(call);
    return;
  }
  lua_pushcfunction(L, push_error_p);
  lua_pushlightuserdata(L, &copy);
  (void)lua_pcall(L, 1, 1, 0); /* without memory its message is the error */
  call->answer.ref = luaL_ref(L, LUA_REGISTRYINDEX);
  mp_wait_ready(call->ops->host->sched, call->token);
}

static void wait_for_turn(struct call *call, enum stage stage) {
  call->stage = stage;
  mp_timer_start_at(&call->deadline, call->options.tx.deadline_ms);
}

/* Its group was dissolved: the call runs again, ungrouped. A leader holds its lane already. */
static void retry_ungrouped(struct call *call) {
  call->ungrouped = true;
  leave_groups(call);
  if (call->abandoned) {
    struct mp_err err;
    mp_err_set(&err, MP_ECANCELED, "the caller of %s no longer waits", call->name);
    fail(call, &err);
  } else if (mp_lane_leads(&call->pass)) {
    start_transaction(call);
  } else {
    wait_for_turn(call, IN_LANE);
    mp_lane_wait_again(&call->pass, mp_turns_now(call->ops->turns));
    mp_turns_serve(call->ops->turns);
  }
}

static void on_answer(void *data, struct mp_txn_answer *answer) {
  struct call *call = data;
  call->txn = NULL;
  call->answer = *answer;
  call->answer.ref = LUA_NOREF;
  if (answer->retry_ungrouped) {
    retry_ungrouped(call);
    return;
  }
  call->committed = answer->outcome == MP_TX_COMMITTED;
  end_flight(call, mp_txn_outcome_text(answer), call->committed ? NULL : &answer->err);
  bool conflict = !call->committed && mp_tx_conflict(&answer->err);
  make_way(call, answer->retries_serialization + answer->retries_deadlock + conflict);
  if (call->abandoned) {
    mp_call_free(call);
    return;
  }
  if (call->committed) mp_task_settle(call->task);
  call->answer.ref = mp_txn_answer_take(answer);
  mp_wait_ready(call->ops->host->sched, call->token);
}

/* The script gets the checked input. A further attempt checks the input again, because the script
 * may have changed it; that happens in the attempt's own task and under its limits. */
static int push_script(lua_State *L, void *data) {
  struct call *call = data;
  bool first = call->starts++ == 0;
  lua_rawgeti(L, LUA_REGISTRYINDEX, first ? call->run_ref : call->again_ref);
  if (!first) return 0;
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->input_ref);
  return 1;
}

static void enter_transaction(struct call *call) {
  bool queued = mp_lane_in(&call->pass) || call->groups || call->stage == AT_BRAKE;
  mp_timer_stop(&call->deadline);
  call->stage = IN_TRANSACTION;
  if (call->ungrouped) return; /* it was in a group before */
  call->lane_us = (mp_loop_clock_ns(call->ops->host->loop) - call->began_ns) / 1000;
  if (!queued) return;
  mp_flight_note(call->flight, MP_NOTE_LANE, 0, NULL);
  mp_metrics_lane(call->ops->host->shared->meters, call->lane_us);
}

/* The members of a group share a transaction, so their settings of it must be equal. Calls with a
 * key run alone. */
static bool fits(const struct mp_txn_options *a, const struct mp_txn_options *b) {
  return b->group > 1 && a->tx.isolation == b->tx.isolation && a->tx.read_only == b->tx.read_only &&
         a->tx.witness == b->tx.witness && !a->tenant == !b->tenant && !b->key_id &&
         a->shared_flush == b->shared_flush && !b->statement_timeout_ms && !b->lock_timeout_ms;
}

static struct call *behind_in_lane(struct call *last) {
  uint64_t now_ns = mp_turns_now(last->ops->turns);
  struct mp_lane_pass *pass = mp_lane_behind(&last->pass, now_ns);
  struct call *call = pass ? MP_CONTAINER_OF(pass, struct call, pass) : NULL;
  /* Not a call of another generation: its script lives in another Lua state. */
  if (!call || call->ungrouped || call->ops != last->ops || !fits(&last->options, &call->options))
    return NULL;
  return mp_lane_join(&last->pass, pass, now_ns) ? call : NULL;
}

/* Of another lane, which it holds. */
static struct call *next_at_groups(const struct call *last) {
  struct mp_groups_pass *pass =
      last->groups ? mp_groups_above(last->groups, last->group_pass.order) : NULL;
  struct call *call = pass ? MP_CONTAINER_OF(pass, struct call, group_pass) : NULL;
  if (!call || !fits(&last->options, &call->options)) return NULL;
  mp_groups_join(pass);
  return call;
}

/* The calls right behind it in the lane join; then other calls that wait for the operation's
 * groups. */
static void *join_group(struct mp_txn *txn, void *data, struct mp_txn_options *options) {
  struct call *last = data, *call = behind_in_lane(last);
  if (call)
    call->group_pass.order = last->group_pass.order;
  else
    call = next_at_groups(last);
  if (!call) return NULL;
  enter_transaction(call);
  call->txn = txn;
  *options = call->options;
  return call;
}

static void next_begins(struct mp_txn *txn, void *data);

static const struct mp_txn_calls calls = {.push_script = push_script,
                                          .join = join_group,
                                          .committing = next_begins,
                                          .over = on_over,
                                          .on_answer = on_answer};

/* COMMIT is under way: the next call of the lane goes on with the connection without waiting for
 * COMMIT's answer. */
static void next_begins(struct mp_txn *txn, void *data) {
  struct call *last = data;
  uint64_t now_ns = mp_turns_now(last->ops->turns);
  struct mp_lane_pass *pass = mp_lane_behind(&last->pass, now_ns);
  struct call *call = pass ? MP_CONTAINER_OF(pass, struct call, pass) : NULL;
  struct mp_err err;
  if (!call || call->ops != last->ops || call->groups || !mp_txn_fits_behind(txn, &call->options))
    return;
  if (!mp_lane_join(&last->pass, pass, now_ns)) return;
  enter_transaction(call);
  if (mp_txn_start_behind(&call->txn, txn, &call->options, &calls, call, &err)) fail(call, &err);
}

static void start_transaction(struct call *call) {
  struct mp_txn_options options = call->options;
  struct mp_err err;
  enter_transaction(call);
  if (call->ungrouped || !fits(&options, &options)) options.group = 0;
  if (mp_txn_start(&call->txn, call->ops->host, &options, &calls, call, &err)) fail(call, &err);
}

/* Starts it unless the transactions of its operation and tenant conflict too often (rules/brake.h).
 */
static void start_braked(struct call *call) {
  struct mp_err err;
  if (mp_brake_enter(&call->ops->brakes, call->options.purse, &call->brake_pass, &err)) {
    fail(call, &err);
  } else if (call->brake_pass.waiting) {
    mp_flight_note(call->flight, MP_NOTE_QUEUED, 0,
                   "calls of the same operation and tenant, whose transactions conflict");
    wait_for_turn(call, AT_BRAKE);
  } else {
    start_transaction(call);
  }
}

/* It holds its lanes, or needs none. */
static void turn_came(struct call *call) {
  struct mp_err err;
  bool alone = call->ungrouped || !call->groups || !fits(&call->options, &call->options);
  uint64_t order = mp_lane_in(&call->pass) ? mp_lane_order(&call->pass) : call->ops->calls;
  if (!alone && mp_groups_enter(call->groups, order, &call->group_pass, &err))
    fail(call, &err);
  else if (alone && !mp_lane_in(&call->pass) && !call->ungrouped)
    start_braked(call);
  else if (alone || call->group_pass.leads)
    start_transaction(call);
  else
    wait_for_turn(call, AT_GROUPS);
}

static void on_deadline(struct mp_timer *timer) {
  struct call *call = MP_CONTAINER_OF(timer, struct call, deadline);
  struct mp_lane_report lane;
  struct mp_err err;
  if (mp_lane_report(&call->pass, mp_turns_now(call->ops->turns), &lane))
    mp_err_set(&err, MP_ETIMEOUT,
               "%s waited for its turn in lane %s until its timeout passed: it was number %zu of "
               "the %zu that wait, %u of %u places are held%s",
               call->name, lane.key, lane.place, lane.waiting, lane.held, lane.width,
               lane.rated ? ", and the lane's rate is used up" : "");
  else
    mp_err_set(&err, MP_ETIMEOUT,
               "%s waited for its turn until its timeout passed; %zu calls wait in lanes",
               call->name, mp_lanes_waiting(call->ops->turns->seat.lanes));
  fail(call, &err);
}

void mp_call_abandon(void *data) {
  struct call *call = data;
  struct mp_err err;
  call->box->call = NULL; /* the userdata goes with the task */
  call->box = NULL;
  call->abandoned = true;
  mp_err_set(&err, MP_ECANCELED, "the caller of %s no longer waits", call->name);
  switch (call->stage) {
    case IN_LANE:
    case AT_GROUPS:
    case AT_BRAKE: fail(call, &err); break;
    case IN_TRANSACTION:
      if (call->txn) mp_txn_abort(call->txn, call, &err);
      break;
  }
}

/* ---- its beginning ---- */

void mp_call_init(struct call *call, struct mp_ops *ops) {
  *call = (struct call){.ops = ops,
                        .run_ref = LUA_NOREF,
                        .input_ref = LUA_NOREF,
                        .again_ref = LUA_NOREF,
                        .answer.ref = LUA_NOREF,
                        .tenant_ref = LUA_NOREF,
                        .groups_ref = LUA_NOREF,
                        .options = {.own = {LUA_NOREF, LUA_NOREF}, .caller_ref = LUA_NOREF}};
  mp_timer_init(&call->deadline, ops->host->loop, on_deadline);
  ops->calls++;
}

/* The same name means the same lock on every host. */
static int64_t lock_key(const char *lane, size_t len) {
  unsigned char hash[crypto_generichash_BYTES_MIN];
  int64_t key;
  crypto_generichash(hash, sizeof hash, (const unsigned char *)lane, len, NULL, 0);
  memcpy(&key, hash, sizeof key);
  return key;
}

int mp_call_begin(struct call *call, const struct call_lanes *lanes, struct mp_err *err) {
  struct mp_txn_options *o = &call->options;
  const struct mp_lane_want *first = &lanes->wants[0];
  call->ops->live_calls++;
  call->begun = true;
  if (!lanes->count) return 0;
  /* READ COMMITTED work waits for the row itself. A snapshot must not be taken before the row is
   * free. */
  o->lock = o->tx.isolation != MP_READ_COMMITTED && !o->tx.read_only && lanes->count == 1 &&
            first->terms.width == 1;
  if (o->lock) o->lock_key = lock_key(first->key, first->len);
  int rc = mp_lane_enter(&call->ops->turns->seat, lanes->wants, lanes->count, lanes->priority,
                         mp_turns_now(call->ops->turns), &call->pass, err);
  if (rc) {
    end_flight(call, "refused", err);
    mp_call_free(call);
  }
  return rc;
}

/* Its place in the queue, and who holds the lane. */
static void note_queued(struct call *call) {
  struct mp_lane_report lane;
  char who[128] = "calls of other workers", text[224];
  if (!mp_lane_report(&call->pass, mp_turns_now(call->ops->turns), &lane)) return;
  if (lane.rated)
    mp_copy_text(who, sizeof who, "the rate of the lane");
  else if (lane.first_of_seat)
    mp_flight_say(MP_CONTAINER_OF(lane.first_of_seat, const struct call, pass)->flight, who,
                  sizeof who);
  mp_utf8_mend(lane.key);
  snprintf(text, sizeof text, "%s (lane %s)", who, lane.key);
  mp_flight_note(call->flight, MP_NOTE_QUEUED, (unsigned)lane.place,
                 call->pass.count > 1 ? text : who);
}

void mp_call_go(struct call *call) {
  struct mp_turns *turns = call->ops->turns; /* the call may end at once */
  if (!mp_lane_in(&call->pass) || call->pass.granted) {
    turn_came(call);
  } else {
    note_queued(call);
    wait_for_turn(call, IN_LANE);
  }
  mp_turns_serve(turns);
}

void mp_ops_turn(struct mp_lane_pass *pass) { turn_came(MP_CONTAINER_OF(pass, struct call, pass)); }

void mp_ops_fini(struct mp_ops *ops) { mp_brakes_fini(&ops->brakes); }
