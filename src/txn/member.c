#include "txn/member.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/account.h"
#include "script/luaerr.h"
#include "script/scope.h"
#include "sql/row.h"
#include "txn/tx_box.h"
#include "txn/txns.h"
#include "util/log.h"
#include "util/pre.h"

/* ---- Lua, called protected ---- */

void *mp_member_argument(lua_State *L) {
  void *argument = lua_touserdata(L, 1);
  lua_settop(L, 0);
  luaL_checkstack(L, 20, NULL);
  return argument;
}

bool mp_member_pcall(struct mp_member *member, lua_CFunction fn, void *argument) {
  lua_State *L = mp_vm_lua(member->work->host->vm);
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
  luaL_unref(mp_vm_lua(member->work->host->vm), LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

void mp_member_set_ref(lua_State *L, int *ref) {
  int taken = luaL_ref(L, LUA_REGISTRYINDEX);
  luaL_unref(L, LUA_REGISTRYINDEX, *ref);
  *ref = taken;
}

/* ---- life ---- */

static const char *unsound(const void *object) {
  const struct mp_member *member = object;
  bool over = member->state != MP_MEMBER_RUNNING && member->state != MP_MEMBER_ANSWERED;
  return member->script && over ? "its script still runs" : NULL;
}

MP_SM_TABLE(sm, "member", MP_MEMBER_MAP, unsound);

void mp_member_move(struct mp_member *member, enum mp_member_state to) {
  bool right = mp_sm_may(&sm, member->state, to);
  member->state = to;
  right = mp_sm_sound(&sm, member, to) && right;
  /* The states are inconsistent: at least no code of its script may run any more. */
  if (!right && member->script) mp_member_kill(member);
}

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
  struct mp_member_key *key = &member->key;
  mp_copy_text(key->id, sizeof key->id, options->key_id);
  mp_copy_text(key->input_hash, sizeof key->input_hash, options->input_hash);
  snprintf(key->set_sql, sizeof key->set_sql, "SET LOCAL moonpool.witness = '%s'", key->id);
  member->options.key_id = key->id;
  member->options.input_hash = key->input_hash;
}

static void on_deadline(struct mp_timer *timer) {
  struct mp_member *member = MP_CONTAINER_OF(timer, struct mp_member, deadline);
  member->work->member_events->on_late(member);
}

int mp_member_init(struct mp_member *member, struct mp_work *work,
                   const struct mp_txn_options *options, void *data, struct mp_err *err) {
  struct mp_host *host = work->host;
  member->work = work;
  member->options = *options;
  member->data = data;
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
  mp_loop_random(host->loop, member->draws.seed, sizeof member->draws.seed);
  if (host->txns->fault)
    mp_fault_begin(host->txns->fault, &member->fault, member->draws.seed, &member->started_us);
  mp_list_push_back(&work->members, &member->node);
  work->nmembers++;
  mp_timer_start_at(&member->deadline, options->tx.deadline_ms);
  return 0;
}

void mp_member_reset(struct mp_member *member) {
  struct mp_fault *fault = member->work->host->txns->fault;
  if (member->state != MP_MEMBER_WAITING) mp_member_move(member, MP_MEMBER_WAITING);
  member->draws.drawn = 0;
  member->key.result = MP_KEY_OPEN;
  member->changed = mp_member_has_key(member);
  member->savepoint = NULL;
  member->wrote = member->gone = false;
  if (fault) mp_fault_restart(fault, &member->fault);
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
  free(member->key.stored);
  free(member->tenant);
  free(member->set_tenant_sql);
}

/* ---- the script ---- */

/* The result, hooks and tasks that the script has left running may hold rows. */
static bool left_nothing(const struct mp_member *member, const struct mp_task *task,
                         lua_State *co) {
  return member->options.restricted && member->hooks_ref == LUA_NOREF && !mp_task_parent(task) &&
         !mp_row_within(co, 1);
}

static void on_script_done(struct mp_task *task, lua_State *co, bool ok, void *data) {
  struct mp_member *member = data;
  struct mp_err err;
  member->script = NULL;
  mp_member_move(member, MP_MEMBER_FINISHED);
  mp_member_over(member);
  if (ok) {
    if (!lua_gettop(co)) lua_pushnil(co);
    lua_settop(co, 1);
    member->gone = left_nothing(member, task, co);
    mp_member_set_ref(co, &member->result_ref);
    member->work->member_events->on_returned(member);
    return;
  }
  mp_luaerr_get(co, -1, &err);
  mp_member_set_ref(co, &member->error_ref);
  member->work->member_events->on_raised(member, &err);
}

/* The call whose limits it shares was ended. */
static void on_script_killed(void *data) {
  struct mp_member *member = data;
  struct mp_err err;
  member->script = NULL;
  mp_member_move(member, MP_MEMBER_FINISHED);
  mp_member_over(member);
  mp_err_set(&err, MP_ECANCELED, "%s was ended together with the call that started it",
             member->name);
  member->work->member_events->on_killed(member, &err);
}

static uint64_t left_ms(const struct mp_member *member) {
  uint64_t now_ms = mp_loop_now_ms(member->work->host->loop);
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
  struct mp_work *work = member->work;
  if (member->options.restricted) settle_scope(L, member);
  const struct mp_task_origin origin = {.scope = member->options.scope,
                                        .label = mp_flight_label(member->options.flight),
                                        .account = member->options.account};
  int nargs = work->calls.push_script(L, member->data);
  mp_tx_box_push(L, work->txn);
  lua_pushvalue(L, -1);
  member->tx_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_insert(L, -nargs - 1);
  member->script =
      mp_task_start(work->host->sched, L, nargs + 1, member->name, &origin, on_script_done, member);
  mp_task_on_killed(member->script, on_script_killed);
  mp_task_set_data(member->script, work->txn);
  set_limits(member);
  return 0;
}

bool mp_member_run(struct mp_member *member) {
  PRE(!member->script);
  mp_member_move(member, MP_MEMBER_RUNNING);
  if (mp_member_pcall(member, start_script_p, member)) return true;
  mp_member_over(member); /* there may be a `tx` without a script */
  return false;
}

void mp_member_over(struct mp_member *member) {
  if (member->tx_ref == LUA_NOREF) return;
  mp_tx_box_empty(mp_vm_lua(member->work->host->vm), member->tx_ref);
  mp_member_unref(member, &member->tx_ref);
}

void mp_member_kill(struct mp_member *member) {
  struct mp_task *script = member->script;
  member->script = NULL;
  if (script) {
    mp_task_on_killed(script, NULL); /* we know */
    mp_task_set_data(script, NULL);  /* a running task ends later, perhaps after us */
    mp_task_kill(script);
  }
  mp_member_over(member);
}

/* ---- all of them ---- */

void mp_members_note(struct mp_work *work, enum mp_note_kind kind, unsigned n, const char *text) {
  MP_LIST_EACH(node, &work->members) {
    const struct mp_member *member = mp_member_at(node);
    if (member->state != MP_MEMBER_ANSWERED) mp_flight_note(member->options.flight, kind, n, text);
  }
}

void mp_members_note_error(struct mp_work *work, enum mp_note_kind kind, unsigned n,
                           const struct mp_err *err) {
  char text[100];
  snprintf(text, sizeof text, "%s%s%.80s", err->sqlstate, err->sqlstate[0] ? " " : "",
           mp_err_shown(err));
  mp_members_note(work, kind, n, text);
}

bool mp_members_change_data(const struct mp_work *work) {
  MP_LIST_EACH(node, &work->members) {
    const struct mp_member *member = mp_member_at(node);
    switch (member->state) {
      case MP_MEMBER_RUNNING:
      case MP_MEMBER_FINISHED:
      case MP_MEMBER_RETURNED:
        if (member->changed) return true;
        break;
      case MP_MEMBER_WAITING:
      case MP_MEMBER_FAILED:
      case MP_MEMBER_ANSWERED: break;
    }
  }
  return false;
}

void mp_members_reset(struct mp_work *work) {
  MP_LIST_EACH(node, &work->members) {
    struct mp_member *member = mp_member_at(node);
    if (member->state != MP_MEMBER_ANSWERED) mp_member_reset(member);
  }
}

void mp_members_over(struct mp_work *work) {
  unsigned conflicts = work->tx.retries_serialization + work->tx.retries_deadlock;
  if (!work->calls.over) return;
  MP_LIST_EACH(node, &work->members) {
    const struct mp_member *member = mp_member_at(node);
    if (member->state != MP_MEMBER_ANSWERED) work->calls.over(member->data, conflicts);
  }
}

struct mp_member *mp_members_only(struct mp_work *work) {
  struct mp_member *only = NULL;
  MP_LIST_EACH(node, &work->members) {
    struct mp_member *member = mp_member_at(node);
    if (member->state == MP_MEMBER_ANSWERED) continue;
    if (only) return NULL;
    only = member;
  }
  return only;
}
