/* call_lua.c: host.transact: a call as Lua gives it, and its answer as Lua gets it; host.groups,
 * host.lanes. */
#include <lauxlib.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/source.h"
#include "loop/ids.h"
#include "ops/call_priv.h"
#include "ops/crew.h"
#include "rules/budget.h"
#include "script/account.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "util/pre.h"

static int box_gc(lua_State *L) {
  struct call_box *box = lua_touserdata(L, 1);
  struct call *call = box->call;
  if (call && (!call->begun || call->answer.ref != LUA_NOREF)) mp_call_free(call);
  return 0;
}

static int push_info_p(lua_State *L) {
  const struct call *call = lua_touserdata(L, 1);
  const struct mp_txn_answer *info = &call->answer;
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

/* Or nil: a committed call is answered even without memory. */
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
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->answer.ref);
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
  mp_call_free(call);
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

/* Where the arguments of transact are on the stack. */
enum { OPERATION = 1, RUN, INPUT, AGAIN, LANE, TENANT, CALLER, TIMEOUT, KEY, INFO, ORIGIN };

/* The fields of a definition that are settings of the transaction. See also read_operation. */
enum setting_kind { FLAG, COUNT, MS, SECONDS };
static const struct setting {
  const char *name;
  enum setting_kind kind;
  size_t offset;
} settings[] = {
#define SETTING(name, kind, member) \
  { name, kind, offsetof(struct mp_txn_options, member) }
    SETTING("read_only", FLAG, tx.read_only),
    SETTING("deferrable", FLAG, tx.deferrable),
    SETTING("witness", FLAG, tx.witness),
    SETTING("merge", FLAG, merge),
    SETTING("retries", COUNT, tx.max_attempts),
    SETTING("group", COUNT, group),
    SETTING("group_ms", MS, group_ms),
    SETTING("statement_timeout", SECONDS, statement_timeout_ms),
    SETTING("lock_timeout", SECONDS, lock_timeout_ms),
#undef SETTING
};

static struct mp_task_limits read_limits(lua_State *L, const struct mp_ops *ops) {
  struct mp_task_limits limits = ops->host->shared->limits;
  double cpu_s = number_field(L, "cpu"), memory_mb = number_field(L, "memory");
  if (cpu_s > 0) limits.cpu_ms = (uint64_t)(cpu_s * 1000);
  if (memory_mb > 0) limits.memory = (size_t)memory_mb << 20;
  return limits;
}

static void read_settings(lua_State *L, struct mp_txn_options *o) {
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    void *at = (char *)o + settings[i].offset;
    switch (settings[i].kind) {
      case FLAG: *(bool *)at = flag_field(L, settings[i].name); break;
      case COUNT: *(unsigned *)at = (unsigned)number_field(L, settings[i].name); break;
      case MS: *(uint64_t *)at = (uint64_t)number_field(L, settings[i].name); break;
      case SECONDS: *(uint64_t *)at = ms_field(L, settings[i].name); break;
    }
  }
}

/* The transaction's settings in the definition; the strings live as long as the operation. */
static void read_operation(lua_State *L, struct call *call) {
  struct mp_txn_options *o = &call->options;
  char isolation[32], flush_text[8];
  o->name = string_field(L, OPERATION, "name", call->name, sizeof call->name);
  o->tenant_field =
      string_field(L, OPERATION, "tenant", call->tenant_field, sizeof call->tenant_field);
  o->restricted = true;
  mp_isolation_parse(string_field(L, OPERATION, "isolation", isolation, sizeof isolation),
                     &o->tx.isolation);
  read_settings(L, o);
  const char *flush = string_field(L, OPERATION, "flush", flush_text, sizeof flush_text);
  o->shared_flush = flush ? !strcmp(flush, "shared") : call->ops->host->shared->shared_flush;
  o->tx.witness = o->tx.witness && !o->tx.read_only;
  o->tx.max_attempts++; /* the first, and the retries */
  if (flag_field(L, "limited")) {
    o->limits = read_limits(L, call->ops);
    o->limits.wall_ms = ms_field(L, "timeout");
  }
  o->tx.backoff_ms = MP_TX_BACKOFF_MS;
  o->tx.backoff_cap_ms = MP_TX_BACKOFF_CAP_MS;
}

/* What read_operation finds. A definition does not change once it is called, so it is read once and
 * keeps this in its field `plan`. */
struct plan {
  struct mp_txn_options options;
  char name[sizeof((struct call *)0)->name], tenant_field[sizeof((struct call *)0)->tenant_field];
};

static void plan_call(lua_State *L, struct call *call) {
  struct mp_txn_options *o = &call->options;
  lua_getfield(L, OPERATION, "plan");
  struct plan *plan = lua_touserdata(L, -1);
  if (!plan) {
    read_operation(L, call);
    plan = lua_newuserdatauv(L, sizeof *plan, 0);
    plan->options = *o;
    memcpy(plan->name, call->name, sizeof plan->name);
    memcpy(plan->tenant_field, call->tenant_field, sizeof plan->tenant_field);
    lua_setfield(L, OPERATION, "plan");
  } else {
    *o = plan->options;
    memcpy(call->name, plan->name, sizeof plan->name);
    memcpy(call->tenant_field, plan->tenant_field, sizeof plan->tenant_field);
    o->name = o->name ? call->name : NULL;
    o->tenant_field = o->tenant_field ? call->tenant_field : NULL;
  }
  lua_pop(L, 1);
  o->own.errors_ref = table_ref(L, OPERATION, "errors");
  lua_getfield(L, OPERATION, "grouping");
  call->groups = luaL_testudata(L, -1, GROUPS_TYPE);
  call->groups_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Writes the length first, so that different lists of parts never give the same bytes; NULL differs
 * from "". */
static void hash_part(crypto_generichash_state *state, const char *text, size_t len) {
  uint64_t head = text ? (uint64_t)len : UINT64_MAX;
  crypto_generichash_update(state, (const unsigned char *)&head, sizeof head);
  if (text) crypto_generichash_update(state, (const unsigned char *)text, len);
}

/* The field of the caller as text, or NULL. [-0, +1] */
static const char *caller_field(lua_State *L, const char *name, size_t *len) {
  if (lua_istable(L, CALLER))
    lua_getfield(L, CALLER, name);
  else
    lua_pushnil(L);
  if (lua_isnil(L, -1)) return NULL;
  const char *text = luaL_tolstring(L, -1, len);
  lua_remove(L, -2);
  return text;
}

/* The id of a key's row. A key belongs to one operation, one tenant (the call's, else its caller's)
 * and one user, so no caller can reach the key of another. */
static void key_id(lua_State *L, const struct call *call, const char *key, size_t len,
                   char out[37]) {
  unsigned char h[16];
  crypto_generichash_state state;
  size_t user_len = 0, tenant_len = 0;
  const char *user = caller_field(L, "user_id", &user_len),
             *own = caller_field(L, "tenant", &tenant_len);
  const char *tenant = lua_isnil(L, TENANT) ? own : lua_tolstring(L, TENANT, &tenant_len);
  crypto_generichash_init(&state, NULL, 0, sizeof h);
  hash_part(&state, call->name, strlen(call->name));
  hash_part(&state, tenant, tenant_len);
  hash_part(&state, user, user_len);
  hash_part(&state, key, len);
  crypto_generichash_final(&state, h, sizeof h);
  lua_pop(L, 2);
  uint64_t halves[2];
  memcpy(halves, h, sizeof halves);
  mp_uuid4_format(halves, out);
}

/* The purse for retries: of the call's tenant, or else its caller's. */
static uint64_t purse_of(lua_State *L, const struct call *call) {
  size_t len;
  const char *own = caller_field(L, "tenant", &len);
  uint64_t purse = mp_budget_key(call->name, lua_isnil(L, TENANT) ? own : lua_tostring(L, TENANT));
  lua_pop(L, 1);
  return purse;
}

/* { key = text, input = what the key stands for } at KEY. */
static void read_key(lua_State *L, struct call *call) {
  size_t key_len, input_len;
  unsigned char hash[32];
  lua_getfield(L, KEY, "key");
  const char *key = luaL_checklstring(L, -1, &key_len);
  lua_getfield(L, KEY, "input");
  const char *input = luaL_checklstring(L, -1, &input_len);
  key_id(L, call, key, key_len, call->key_id);
  crypto_generichash(hash, sizeof hash, (const unsigned char *)input, input_len, NULL, 0);
  sodium_bin2hex(call->input_hash, sizeof call->input_hash, hash, sizeof hash);
  call->options.key_id = call->key_id;
  call->options.input_hash = call->input_hash;
  lua_pop(L, 2);
}

/* The terms of the lane at the top: { width=, interval=, burst=, limit= } of the definition. */
static void read_terms(lua_State *L, struct mp_lane_terms *terms) {
  lua_getfield(L, -1, "interval");
  lua_getfield(L, -2, "burst");
  lua_getfield(L, -3, "width");
  lua_getfield(L, -4, "limit");
  terms->limit = (size_t)lua_tointeger(L, -1);
  terms->width = (unsigned)lua_tointeger(L, -2);
  terms->burst = (unsigned)lua_tointeger(L, -3);
  terms->interval_ns = (uint64_t)(lua_tonumber(L, -4) * 1e9);
  lua_pop(L, 4);
}

/* LANE: the text of a plain lane; or { text, …, priority = }, whose terms are in the operation's
 * `lanes`; or nil. The texts are borrowed from the stack. */
static void read_lanes(lua_State *L, struct call_lanes *lanes) {
  if (lua_isnil(L, LANE)) return;
  if (!lua_istable(L, LANE)) {
    lanes->count = 1;
    lanes->wants[0].key = luaL_checklstring(L, LANE, &lanes->wants[0].len);
    lanes->wants[0].terms = (struct mp_lane_terms){.width = 1, .burst = 1};
    return;
  }
  lua_getfield(L, LANE, "priority");
  lanes->priority = (int)lua_tointeger(L, -1);
  lua_getfield(L, OPERATION, "lanes");
  luaL_checktype(L, -1, LUA_TTABLE);
  for (unsigned i = 0; i < MP_LANES_OF_CALL; i++) {
    if (lua_rawgeti(L, LANE, i + 1) == LUA_TNIL) break;
    lanes->wants[i].key = luaL_checklstring(L, -1, &lanes->wants[i].len);
    lua_rawgeti(L, -2, i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    read_terms(L, &lanes->wants[i].terms);
    lua_pop(L, 2); /* LANE keeps the text */
    lanes->count++;
  }
}

static const char *lanes_text(const struct call_lanes *lanes, char *out, size_t size) {
  size_t used = 0;
  for (unsigned i = 0; i < lanes->count && used < size; i++)
    used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", lanes->wants[i].key);
  return lanes->count ? out : NULL;
}

/* ORIGIN: { call_id=, request_id=, trace_id=, span_id=, parent_id=, unsampled= } of whoever called
 * from outside, or nil. */
static void begin_flight(lua_State *L, struct call *call, const struct call_lanes *lanes) {
  PRE(call);
  char user[64], request[160], trace[40], span[24], parent[24], lane[80];
  bool known = lua_istable(L, CALLER) && string_field(L, CALLER, "user_id", user, sizeof user);
  bool origin = lua_istable(L, ORIGIN);
  struct mp_log_about about = {.operation = call->name, .call_id = call->id};
  if (!origin || !string_field(L, ORIGIN, "call_id", call->id, sizeof call->id))
    mp_uuid_new(call->ops->host->loop, call->id);
  if (origin) {
    about.request_id = string_field(L, ORIGIN, "request_id", request, sizeof request);
    about.trace_id = string_field(L, ORIGIN, "trace_id", trace, sizeof trace);
    about.span_id = string_field(L, ORIGIN, "span_id", span, sizeof span);
    about.parent_id = string_field(L, ORIGIN, "parent_id", parent, sizeof parent);
    lua_getfield(L, ORIGIN, "unsampled");
    about.unsampled = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  struct mp_label *label = mp_label_new(&about);
  call->flight = call->options.flight =
      mp_flight_begin(call->ops->host->shared->recorder, label, known ? user : NULL,
                      lanes_text(lanes, lane, sizeof lane));
  mp_label_unref(label);
}

/* transact(operation, run, input, again, lane, tenant, caller, timeout, key, want_info, origin)
 * -> result[, info]. `run` is the first attempt's script; `again` is that of further
 * attempts, which makes a fresh copy of the checked input. With a key their result is the text that
 * the key keeps. */
static int host_transact(lua_State *L) {
  struct mp_ops *ops = lua_touserdata(L, lua_upvalueindex(1));
  struct mp_err err;
  lua_settop(L, ORIGIN);
  luaL_checktype(L, OPERATION, LUA_TTABLE);
  luaL_checktype(L, RUN, LUA_TFUNCTION);
  luaL_checktype(L, AGAIN, LUA_TFUNCTION);
  double timeout_s = luaL_checknumber(L, TIMEOUT);
  mp_wait_check(L, "moonpool.call");
  if (ops->draining) {
    mp_err_set(&err, MP_ECLOSED, "the host is shutting down and takes no new calls");
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  /* All that may raise comes first: once the call is in a lane or a transaction, nothing may raise.
   */
  struct call_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->call = NULL;
  if (luaL_newmetatable(L, "moonpool.call")) {
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  luaL_checkstack(L, LUA_MINSTACK, "a call");
  struct call *call = malloc(sizeof *call);
  if (!call) return luaL_error(L, "not enough memory");
  mp_call_init(call, ops);
  call->box = box;
  box->call = call;
  struct mp_txn_options *o = &call->options;
  plan_call(L, call);
  o->tenant = lua_tostring(L, TENANT);
  o->purse = purse_of(L, call);
  call->tenant_ref = value_ref(L, TENANT);
  call->input_ref = o->own.input_ref = value_ref(L, INPUT);
  call->run_ref = value_ref(L, RUN);
  call->again_ref = value_ref(L, AGAIN);
  o->caller_ref = value_ref(L, CALLER);
  if (!lua_isnil(L, KEY)) read_key(L, call);
  const struct mp_task_origin origin = mp_task_origin(mp_task_of(L));
  o->scope = mp_scope_ref(origin.scope);
  o->account = mp_account_ref(origin.account);
  call->wants_info = lua_toboolean(L, INFO);
  call->began_ns = mp_loop_clock_ns(ops->host->loop);
  o->tx.deadline_ms = mp_loop_now_ms(ops->host->loop) + (uint64_t)(timeout_s * 1000);
  struct call_lanes lanes = {0};
  read_lanes(L, &lanes);
  begin_flight(L, call, &lanes);
  if (mp_call_begin(call, &lanes, &err)) {
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  call->task = mp_task_of(L);
  call->token = mp_wait_begin(L, mp_call_abandon, call);
  mp_call_go(call);
  return mp_wait_yield(L, (lua_KContext)call, answered);
}

/* charge(operation): from now on the running task works under the limits of the operation's calls,
 * if the task has limits. */
static int host_charge(lua_State *L) {
  const struct mp_ops *ops = lua_touserdata(L, lua_upvalueindex(1));
  luaL_checktype(L, OPERATION, LUA_TTABLE);
  struct mp_task *task = mp_task_of(L);
  struct mp_task_limits limits = read_limits(L, ops);
  if (task) mp_task_change_limits(task, &limits);
  return 0;
}

/* groups(width) -> what an operation keeps in its field `grouping`: so many transactions at a
 * time */
static int host_groups(lua_State *L) {
  const struct mp_ops *ops = lua_touserdata(L, lua_upvalueindex(1));
  lua_Integer width = luaL_checkinteger(L, 1);
  struct mp_groups *groups = lua_newuserdatauv(L, sizeof *groups, 0);
  mp_groups_init(groups, ops->turns->seat.lanes, (unsigned)width);
  luaL_newmetatable(L, GROUPS_TYPE);
  lua_setmetatable(L, -2);
  return 1;
}

/* lanes() -> { active =, waiting = }: lanes in use, calls that wait in them */
static int host_lanes(lua_State *L) {
  const struct mp_ops *ops = lua_touserdata(L, lua_upvalueindex(1));
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, (lua_Integer)mp_lanes_active(ops->turns->seat.lanes));
  lua_setfield(L, -2, "active");
  lua_pushinteger(L, (lua_Integer)mp_lanes_waiting(ops->turns->seat.lanes));
  lua_setfield(L, -2, "waiting");
  return 1;
}

/* lane_owner(lane) -> the number of the worker that owns it, or nil: it is this one's */
static int host_lane_owner(lua_State *L) {
  const struct mp_ops *ops = lua_touserdata(L, lua_upvalueindex(1));
  size_t len;
  const char *lane = luaL_checklstring(L, 1, &len);
  unsigned owner = ops->crew ? mp_crew_owner(ops->crew, lane, len) : ops->worker;
  if (owner == ops->worker) return 0;
  lua_pushinteger(L, (lua_Integer)owner);
  return 1;
}

/* call_scope() -> boolean, tenant or nil, caller (a table) or nil: the scope that a call made here
 * inherits, if any. Raises where no call may be made. */
static int host_call_scope(lua_State *L) {
  mp_source_check_task(L, "moonpool.call");
  const struct mp_scope *scope = mp_task_scope(mp_task_of(L));
  lua_pushboolean(L, scope != NULL);
  lua_pushstring(L, mp_scope_caller_tenant(scope));
  mp_scope_push_caller(L, scope);
  return 3;
}

void mp_ops_open(struct mp_ops *ops, lua_State *L) {
  lua_pushlightuserdata(L, ops);
  lua_pushcclosure(L, host_transact, 1);
  lua_setfield(L, -2, "transact");
  lua_pushlightuserdata(L, ops);
  lua_pushcclosure(L, host_charge, 1);
  lua_setfield(L, -2, "charge");
  lua_pushlightuserdata(L, ops);
  lua_pushcclosure(L, host_groups, 1);
  lua_setfield(L, -2, "groups");
  lua_pushlightuserdata(L, ops);
  lua_pushcclosure(L, host_lanes, 1);
  lua_setfield(L, -2, "lanes");
  lua_pushlightuserdata(L, ops);
  lua_pushcclosure(L, host_lane_owner, 1);
  lua_setfield(L, -2, "lane_owner");
  lua_pushcfunction(L, host_call_scope);
  lua_setfield(L, -2, "call_scope");
}
