#include "ops/call.h"

#include <lauxlib.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "admit/groups.h"
#include "bind/txn.h"
#include "script/luaerr.h"

/* What a call is doing; it is freed when it has been answered. */
enum stage { IN_LANE, AT_GROUPS, IN_TRANSACTION };

struct call {
  struct mp_ops *ops;
  struct mp_lane_pass pass;
  struct mp_groups *groups; /* the operation's; NULL: its groups are those of one lane */
  struct mp_groups_pass group_pass;
  struct mp_timer deadline; /* while it waits for its turn; the transaction has its own */
  struct mp_token token;
  struct mp_txn *txn;
  struct mp_txn_options options;
  char name[64], tenant_field[64];
  enum stage stage;
  bool begun; /* it has entered its lane, or begun its transaction: on_answer or fail will come */
  bool abandoned, committed;
  bool wants_info;
  bool alone; /* its group came to nothing */
  char key_id[37], input_hash[65];
  unsigned starts;
  uint64_t began_ns, lane_us;
  struct mp_flight *flight; /* the recorder's; NULL: ended, or there was no memory */
  char id[37];
  struct mp_txn_info info;
  struct call_box *box; /* on the waiting task's stack */
  int run_ref, input_ref, again_ref, answer_ref, tenant_ref, encode_ref, groups_ref; /* registry */
};

/* Frees a call whose answer nobody can hear any more, because its task was ended before it was resumed; or that has come to
 * nothing before it had begun. */
struct call_box {
  struct call *call;
};

static lua_State *lua_of(struct call *call) { return mp_vm_lua(call->ops->bind->vm); }

static void unref(struct call *call, int *ref) {
  luaL_unref(lua_of(call), LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

static void end_flight(struct call *call, const char *outcome, const struct mp_err *err) {
  const struct mp_flight_end end = {.outcome = outcome,
                                    .err = err,
                                    .attempts = call->info.attempts,
                                    .round_trips = call->info.round_trips,
                                    .group = call->info.group};
  mp_flight_end(call->flight, &end);
  call->flight = call->options.flight = NULL;
}

static void free_call(struct call *call) {
  end_flight(call, "given up", NULL);
  mp_timer_stop(&call->deadline);
  unref(call, &call->run_ref);
  unref(call, &call->input_ref);
  unref(call, &call->again_ref);
  unref(call, &call->answer_ref);
  unref(call, &call->tenant_ref);
  unref(call, &call->encode_ref);
  unref(call, &call->groups_ref);
  unref(call, &call->options.errors_ref);
  unref(call, &call->options.caller_ref);
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

/* Others are let in before anybody is answered: their turn must not wait for us. */
static void make_way(struct call *call) {
  struct mp_lane_pass *next = mp_lane_leave(call->ops->lanes, &call->pass);
  if (next) turn_came(MP_CONTAINER_OF(next, struct call, pass));
  leave_groups(call);
}

static int push_error_p(lua_State *L) {
  mp_luaerr_push(L, lua_touserdata(L, 1));
  return 1;
}

/* Ends without a transaction's answer. */
static void fail(struct call *call, const struct mp_err *err) {
  lua_State *L = lua_of(call);
  struct mp_err copy = *err;
  end_flight(call, "failed", err);
  make_way(call);
  if (call->abandoned) {
    free_call(call);
    return;
  }
  lua_pushcfunction(L, push_error_p);
  lua_pushlightuserdata(L, &copy);
  (void)lua_pcall(L, 1, 1, 0); /* without memory its message is the error */
  call->answer_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  mp_wait_ready(call->ops->bind->sched, call->token);
}

static void wait_for_turn(struct call *call, enum stage stage) {
  call->stage = stage;
  mp_timer_start_at(&call->deadline, call->options.tx.deadline_ms);
}

/* Its group came to nothing: once more, without one. The one who leads holds the lane already. */
static void do_again(struct call *call) {
  call->alone = true;
  leave_groups(call);
  if (call->abandoned) {
    struct mp_err err;
    mp_err_set(&err, MP_ECANCELED, "nobody waits for %s any more", call->name);
    fail(call, &err);
  } else if (mp_lane_leads(&call->pass)) {
    start_transaction(call);
  } else {
    mp_lane_wait_again(call->ops->lanes, &call->pass);
    wait_for_turn(call, IN_LANE);
  }
}

static void on_answer(struct mp_txn *txn, void *data) {
  struct call *call = data;
  mp_txn_info(txn, &call->info);
  call->txn = NULL;
  if (call->info.again) {
    do_again(call);
    return;
  }
  call->committed = call->info.outcome == MP_TX_COMMITTED;
  end_flight(call, mp_txn_outcome_text(&call->info), call->committed ? NULL : &call->info.err);
  make_way(call);
  if (call->abandoned) {
    free_call(call);
    return;
  }
  call->answer_ref = mp_txn_take_answer(txn);
  mp_wait_ready(call->ops->bind->sched, call->token);
}

/* The script gets the checked input; a further attempt gets one checked anew, since it may have changed it. */
static int push_script(lua_State *L, void *data) {
  struct call *call = data;
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->run_ref);
  if (call->starts++ == 0) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->input_ref);
  } else {
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->again_ref);
    lua_call(L, 0, 1);
  }
  return 1;
}

static void encode_result(lua_State *L, void *data) {
  struct call *call = data;
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->encode_ref);
  lua_insert(L, -2);
  lua_call(L, 1, 1);
}

static void enter_transaction(struct call *call) {
  mp_timer_stop(&call->deadline);
  call->stage = IN_TRANSACTION;
  if (call->alone) return; /* it has had its turn */
  call->lane_us = (mp_loop_clock_ns(call->ops->bind->loop) - call->began_ns) / 1000;
  if (!call->pass.lane && !call->groups) return;
  mp_flight_note(call->flight, MP_NOTE_LANE, 0, NULL);
  mp_metrics_lane(call->ops->bind->meters, call->lane_us);
}

/* A group has one transaction: what is said of that must be the same. A key's row is asked for before. */
static bool fits(const struct mp_txn_options *a, const struct mp_txn_options *b) {
  return b->group > 1 && a->tx.isolation == b->tx.isolation && a->tx.read_only == b->tx.read_only &&
         a->tx.witness == b->tx.witness && !a->tenant == !b->tenant && !b->key_id &&
         !b->statement_timeout_ms && !b->lock_timeout_ms;
}

static struct call *behind_in_lane(struct call *last) {
  struct mp_lane_pass *pass = mp_lane_behind(&last->pass);
  struct call *call = pass ? MP_CONTAINER_OF(pass, struct call, pass) : NULL;
  /* Not one of another generation: its script lives in another state. */
  if (!call || call->alone || call->ops != last->ops || !fits(&last->options, &call->options))
    return NULL;
  mp_lane_join(call->ops->lanes, pass);
  return call;
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

/* Whoever waits right behind in the lane comes along; then whoever else waits for the operation's groups. */
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
                                          .encode_result = encode_result,
                                          .join = join_group,
                                          .committing = next_begins,
                                          .on_answer = on_answer};

/* COMMIT is on its way: who is next in the lane goes on with the connection, without waiting for its answer. */
static void next_begins(struct mp_txn *txn, void *data) {
  struct call *last = data;
  struct mp_lane_pass *pass = mp_lane_behind(&last->pass);
  struct call *call = pass ? MP_CONTAINER_OF(pass, struct call, pass) : NULL;
  struct mp_err err;
  if (!call || call->ops != last->ops || call->groups || !mp_txn_fits_behind(txn, &call->options))
    return;
  mp_lane_join(call->ops->lanes, pass);
  enter_transaction(call);
  if (mp_txn_start_behind(&call->txn, txn, &call->options, &calls, call, &err)) fail(call, &err);
}

static void start_transaction(struct call *call) {
  struct mp_txn_options options = call->options;
  struct mp_err err;
  enter_transaction(call);
  if (call->alone || !fits(&options, &options)) options.group = 0;
  if (mp_txn_start(&call->txn, call->ops->bind, &options, &calls, call, &err)) fail(call, &err);
}

/* It is first in its lane, or needs none. */
static void turn_came(struct call *call) {
  struct mp_err err;
  bool alone = call->alone || !call->groups || !fits(&call->options, &call->options);
  uint64_t order = call->pass.lane ? mp_lane_order(&call->pass) : call->ops->calls;
  if (alone)
    start_transaction(call);
  else if (mp_groups_enter(call->groups, order, &call->group_pass, &err))
    fail(call, &err);
  else if (call->group_pass.leads)
    start_transaction(call);
  else
    wait_for_turn(call, AT_GROUPS);
}

static void on_deadline(struct mp_timer *timer) {
  struct call *call = MP_CONTAINER_OF(timer, struct call, deadline);
  struct mp_err err;
  mp_err_set(&err, MP_ETIMEOUT,
             "%s waited for its turn until its timeout passed; %zu calls wait in lanes", call->name,
             mp_lanes_waiting(call->ops->lanes));
  fail(call, &err);
}

static void on_abandon(void *data) {
  struct call *call = data;
  struct mp_err err;
  call->box->call = NULL; /* the userdata goes with the task */
  call->box = NULL;
  call->abandoned = true;
  mp_err_set(&err, MP_ECANCELED, "nobody waits for %s any more", call->name);
  switch (call->stage) {
    case IN_LANE:
    case AT_GROUPS: fail(call, &err); break;
    case IN_TRANSACTION:
      if (call->txn) mp_txn_abort(call->txn, call, &err);
      break;
  }
}

static int box_gc(lua_State *L) {
  struct call_box *box = lua_touserdata(L, 1);
  struct call *call = box->call;
  if (call && (!call->begun || call->answer_ref != LUA_NOREF)) free_call(call);
  return 0;
}

static int push_info_p(lua_State *L) {
  const struct call *call = lua_touserdata(L, 1);
  const struct mp_txn_info *info = &call->info;
  lua_createtable(L, 0, 12);
  lua_pushstring(L, call->id);
  lua_setfield(L, -2, "id");
#define SET(name, value) (lua_pushinteger(L, (lua_Integer)(value)), lua_setfield(L, -2, name))
  SET("attempts", info->attempts);
  SET("round_trips", info->round_trips);
  SET("statements", info->statements);
  SET("retries_serialization", info->retries_serialization);
  SET("retries_deadlock", info->retries_deadlock);
  SET("retries_connection", info->retries_connection);
  SET("group", info->group);
#undef SET
  lua_pushboolean(L, info->recalled);
  lua_setfield(L, -2, "recalled");
  lua_pushboolean(L, info->resolved);
  lua_setfield(L, -2, "resolved");
  lua_pushnumber(L, (double)info->duration_us / 1000);
  lua_setfield(L, -2, "duration_ms");
  lua_pushnumber(L, (double)call->lane_us / 1000);
  lua_setfield(L, -2, "lane_ms");
  return 1;
}

/* Or nil: what is committed is answered also without memory. */
static void push_info(lua_State *L, struct call *call) {
  lua_pushcfunction(L, push_info_p);
  lua_pushlightuserdata(L, call);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) return;
  lua_pop(L, 1);
  lua_pushnil(L);
}

static int answered(lua_State *L, int status, lua_KContext ctx) {
  struct call *call = (struct call *)ctx;
  (void)status;
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->answer_ref);
  bool committed = call->committed;
  if (committed) {
    if (call->wants_info) push_info(L, call);
  } else if (lua_isnil(L, -1)) {
    mp_luaerr_push_nomem(L);
  } else if (mp_luaerr_is(L, -1)) {
    lua_pushstring(L, call->name);
    lua_setfield(L, -2, "operation");
    lua_pushstring(L, call->id);
    lua_setfield(L, -2, "call_id");
  }
  int n = call->wants_info ? 2 : 1;
  free_call(call);
  return committed ? n : lua_error(L);
}

static const char *string_field(lua_State *L, int idx, const char *name, char *out, size_t size) {
  const char *text = lua_getfield(L, idx, name) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  if (text) mp_copy_text(out, size, text);
  lua_pop(L, 1);
  return text ? out : NULL;
}

static int table_ref(lua_State *L, int idx, const char *name) {
  if (lua_getfield(L, idx, name) == LUA_TTABLE) return luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pop(L, 1);
  return LUA_NOREF;
}

/* The same name means the same lock on every host. */
static int64_t lock_key(const char *lane, size_t len) {
  unsigned char hash[crypto_generichash_BYTES_MIN];
  int64_t key;
  crypto_generichash(hash, sizeof hash, (const unsigned char *)lane, len, NULL, 0);
  memcpy(&key, hash, sizeof key);
  return key;
}

static double number_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  double value = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return value;
}

/* Seconds as milliseconds, rounded up: 0 would mean none. */
static uint64_t ms_field(lua_State *L, const char *name) {
  double ms = number_field(L, name) * 1000;
  uint64_t whole = (uint64_t)ms;
  return whole + ((double)whole < ms);
}

static bool flag_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static int value_ref(lua_State *L, int idx) {
  if (lua_isnil(L, idx)) return LUA_NOREF;
  lua_pushvalue(L, idx);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

#define GROUPS_TYPE "moonpool.groups"

enum { OPERATION = 1, INPUT, AGAIN, LANE, TENANT, CALLER, TIMEOUT, KEY, INFO, LIMITED, ORIGIN };

/* What the definition says of the transaction; its strings live as long as the operation does. */
static void read_operation(lua_State *L, struct call *call) {
  struct mp_txn_options *o = &call->options;
  char isolation[32];
  o->name = string_field(L, OPERATION, "name", call->name, sizeof call->name);
  o->tenant_field =
      string_field(L, OPERATION, "tenant", call->tenant_field, sizeof call->tenant_field);
  o->errors_ref = table_ref(L, OPERATION, "errors");
  o->restricted = true;
  mp_isolation_parse(string_field(L, OPERATION, "isolation", isolation, sizeof isolation),
                     &o->tx.isolation);
  o->tx.read_only = flag_field(L, "read_only");
  o->tx.deferrable = flag_field(L, "deferrable");
  o->tx.witness = flag_field(L, "witness") && !o->tx.read_only;
  if (lua_toboolean(L, LIMITED)) {
    double cpu = number_field(L, "cpu"), memory = number_field(L, "memory");
    o->limits = call->ops->bind->limits;
    if (cpu > 0) o->limits.cpu_ms = (uint64_t)(cpu * 1000);
    if (memory > 0) o->limits.memory = (size_t)memory << 20;
  }
  o->statement_timeout_ms = ms_field(L, "statement_timeout");
  o->lock_timeout_ms = ms_field(L, "lock_timeout");
  o->group = (unsigned)number_field(L, "group");
  o->group_ms = (uint64_t)number_field(L, "group_ms");
  lua_getfield(L, OPERATION, "grouping");
  call->groups = luaL_testudata(L, -1, GROUPS_TYPE);
  call->groups_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  o->tx.max_attempts = (unsigned)number_field(L, "retries") + 1;
  o->tx.backoff_ms = MP_TX_BACKOFF_MS;
  o->tx.backoff_cap_ms = MP_TX_BACKOFF_CAP_MS;
  lua_getfield(L, OPERATION, "run");
  call->run_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* The id of a key's row: of one tenant's keys, so that nobody meets another's. */
static void key_id(const char *tenant, const char *key, size_t len, char out[37]) {
  unsigned char h[16];
  crypto_generichash_state state;
  crypto_generichash_init(&state, NULL, 0, sizeof h);
  if (tenant) crypto_generichash_update(&state, (const unsigned char *)tenant, strlen(tenant));
  crypto_generichash_update(&state, (const unsigned char *)"", 1);
  crypto_generichash_update(&state, (const unsigned char *)key, len);
  crypto_generichash_final(&state, h, sizeof h);
  uint64_t halves[2];
  memcpy(halves, h, sizeof halves);
  mp_bind_format_uuid4(halves, out);
}

/* { key = text, input = what the key stands for, encode = function } at KEY. */
static void read_key(lua_State *L, struct call *call) {
  size_t key_len, input_len;
  unsigned char hash[32];
  lua_getfield(L, KEY, "key");
  const char *key = luaL_checklstring(L, -1, &key_len);
  lua_getfield(L, KEY, "input");
  const char *input = luaL_checklstring(L, -1, &input_len);
  key_id(lua_tostring(L, TENANT), key, key_len, call->key_id);
  crypto_generichash(hash, sizeof hash, (const unsigned char *)input, input_len, NULL, 0);
  sodium_bin2hex(call->input_hash, sizeof call->input_hash, hash, sizeof hash);
  call->options.key_id = call->key_id;
  call->options.input_hash = call->input_hash;
  lua_getfield(L, KEY, "encode");
  call->encode_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pop(L, 2);
}

/* ORIGIN: { call_id=, request_id=, trace_id=, span_id= } of whoever called from outside, or nil. */
static void begin_flight(lua_State *L, struct call *call, const char *lane) {
  char user[64], request[160], trace[40], span[24];
  bool known = lua_istable(L, CALLER) && string_field(L, CALLER, "user_id", user, sizeof user);
  bool origin = lua_istable(L, ORIGIN);
  struct mp_log_about about = {.operation = call->name, .call_id = call->id};
  if (!origin || !string_field(L, ORIGIN, "call_id", call->id, sizeof call->id))
    mp_bind_uuid(call->ops->bind, call->id);
  if (origin) {
    about.request_id = string_field(L, ORIGIN, "request_id", request, sizeof request);
    about.trace_id = string_field(L, ORIGIN, "trace_id", trace, sizeof trace);
    about.span_id = string_field(L, ORIGIN, "span_id", span, sizeof span);
  }
  struct mp_label *label = mp_label_new(&about);
  call->flight = call->options.flight =
      mp_flight_begin(call->ops->bind->recorder, label, known ? user : NULL, lane);
  mp_label_unref(label);
}

/* transact(operation, input, again, lane, tenant, caller, timeout, key, want_info, limited, origin) -> result[, info]. `again`
 * gives the input anew. With a key the result is JSON text. */
static int host_transact(lua_State *L) {
  struct mp_ops *ops = lua_touserdata(L, lua_upvalueindex(1));
  struct mp_err err;
  luaL_checktype(L, OPERATION, LUA_TTABLE);
  luaL_checktype(L, AGAIN, LUA_TFUNCTION);
  lua_settop(L, ORIGIN);
  double timeout_s = luaL_checknumber(L, TIMEOUT);
  mp_wait_check(L, "moonpool.call");
  if (mp_task_scope(mp_task_of(L)))
    mp_luaerr_misuse(L, "moonpool.call", "not in a task that an operation with a tenant started");
  if (ops->draining) {
    mp_err_set(&err, MP_ECLOSED, "the host is shutting down and takes no new calls");
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  /* All that may raise comes first: in a lane, or a transaction, nothing may. */
  struct call_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->call = NULL;
  if (luaL_newmetatable(L, "moonpool.call")) {
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  luaL_checkstack(L, LUA_MINSTACK, "a call");
  struct call *call = calloc(1, sizeof *call);
  if (!call) return luaL_error(L, "not enough memory");
  ops->calls++;
  call->ops = ops;
  mp_timer_init(&call->deadline, ops->bind->loop, on_deadline);
  call->run_ref = call->input_ref = call->again_ref = call->answer_ref = LUA_NOREF;
  call->tenant_ref = call->encode_ref = call->groups_ref = LUA_NOREF;
  call->options.errors_ref = call->options.caller_ref = LUA_NOREF;
  call->box = box;
  box->call = call;
  struct mp_txn_options *o = &call->options;
  read_operation(L, call);
  o->tenant = lua_tostring(L, TENANT);
  call->tenant_ref = value_ref(L, TENANT);
  call->input_ref = value_ref(L, INPUT);
  call->again_ref = value_ref(L, AGAIN);
  o->caller_ref = value_ref(L, CALLER);
  if (!lua_isnil(L, KEY)) read_key(L, call);
  call->wants_info = lua_toboolean(L, INFO);
  call->began_ns = mp_loop_clock_ns(ops->bind->loop);
  o->tx.deadline_ms = mp_loop_now_ms(ops->bind->loop) + (uint64_t)(timeout_s * 1000);
  size_t lane_len = 0;
  const char *lane = lua_tolstring(L, LANE, &lane_len);
  begin_flight(L, call, lane);
  ops->live_calls++;
  call->begun = true;
  if (lane) {
    /* READ COMMITTED work waits for the row itself; snapshots must not be taken before the row is free. */
    o->lock = o->tx.isolation != MP_READ_COMMITTED && !o->tx.read_only;
    if (o->lock) o->lock_key = lock_key(lane, lane_len);
    if (mp_lane_enter(ops->lanes, lane, lane_len, &call->pass, &err)) {
      end_flight(call, "refused", &err);
      free_call(call);
      mp_luaerr_push(L, &err);
      return lua_error(L);
    }
  }
  call->token = mp_wait_begin(L, on_abandon, call);
  if (!lane || call->pass.granted)
    turn_came(call);
  else
    wait_for_turn(call, IN_LANE);
  return mp_wait_yield(L, (lua_KContext)call, answered);
}

/* groups(width) -> what an operation keeps in its field `grouping`: so many transactions at a time */
static int host_groups(lua_State *L) {
  const struct mp_ops *ops = lua_touserdata(L, lua_upvalueindex(1));
  lua_Integer width = luaL_checkinteger(L, 1);
  struct mp_groups *groups = lua_newuserdatauv(L, sizeof *groups, 0);
  mp_groups_init(groups, ops->lanes, (unsigned)width);
  luaL_newmetatable(L, GROUPS_TYPE);
  lua_setmetatable(L, -2);
  return 1;
}

/* lanes() -> { active =, waiting = }: lanes that somebody is in, calls that wait in them */
static int host_lanes(lua_State *L) {
  const struct mp_ops *ops = lua_touserdata(L, lua_upvalueindex(1));
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, (lua_Integer)mp_lanes_active(ops->lanes));
  lua_setfield(L, -2, "active");
  lua_pushinteger(L, (lua_Integer)mp_lanes_waiting(ops->lanes));
  lua_setfield(L, -2, "waiting");
  return 1;
}

void mp_ops_open(struct mp_ops *ops, lua_State *L) {
  lua_pushlightuserdata(L, ops);
  lua_pushcclosure(L, host_transact, 1);
  lua_setfield(L, -2, "transact");
  lua_pushlightuserdata(L, ops);
  lua_pushcclosure(L, host_groups, 1);
  lua_setfield(L, -2, "groups");
  lua_pushlightuserdata(L, ops);
  lua_pushcclosure(L, host_lanes, 1);
  lua_setfield(L, -2, "lanes");
}
