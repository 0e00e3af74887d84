#include "txn/fault.h"

#include <lauxlib.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "rules/attempts.h"
#include "rules/budget.h"
#include "script/luaerr.h"
#include "script/memory.h"
#include "util/log.h"

struct note { /* one statement that was sent */
  struct mp_list node;
  unsigned transaction;
  char where[96];
  char sql[]; /* not its values */
};

struct mp_fault {
  /* the order: statement `at` (0: COMMIT) of these attempts of that transaction */
  bool armed;
  unsigned transaction, at, attempt, times;
  bool ends_backend;
  unsigned hits;

  unsigned started, before; /* transactions in all; when the order came */
  bool noting;
  struct mp_list notes; /* of each transaction's last attempt */

  struct mp_req req; /* the failure itself */
  char sql[120];
  bool under_way;
  const struct mp_stmt *stmt; /* in front of which it was sent; NULL: COMMIT */
  const void *owner;          /* whose transaction */
  struct mp_budget *retries;
  uint64_t purse;
  struct mp_err err;
  struct mp_result *result;

  bool fixed;
  uint64_t seed, calls, now_us;
};

static void forget(struct mp_fault *f, unsigned transaction) {
  for (struct mp_list *node = f->notes.next, *next; node != &f->notes; node = next) {
    struct note *note = MP_LIST_ENTRY(node, struct note, node);
    next = node->next;
    if (transaction && note->transaction != transaction) continue;
    mp_list_remove(node);
    free(note);
  }
}

static void forget_failure(struct mp_fault *f) {
  mp_result_unref(f->result);
  f->result = NULL;
  f->err = (struct mp_err){0};
  f->owner = NULL;
  f->stmt = NULL;
}

void mp_fault_free(struct mp_fault *f) {
  if (!f) return;
  forget(f, 0);
  forget_failure(f);
  free(f);
}

/* ---- hooks ---- */

void mp_fault_begin(struct mp_fault *f, struct mp_fault_mark *mark, unsigned char seed[32],
                    uint64_t *started_us) {
  uint64_t number[2];
  mark->number = ++f->started;
  if (!f->fixed) return;
  number[0] = f->seed;
  number[1] = f->calls++;
  crypto_generichash(seed, 32, (const unsigned char *)number, sizeof number, NULL, 0);
  *started_us = f->now_us;
}

void mp_fault_restart(struct mp_fault *f, struct mp_fault_mark *mark) {
  mark->sent = 0;
  if (mark->number) forget(f, mark->number);
}

static void take_note(struct mp_fault *f, unsigned number, const struct mp_stmt *stmt) {
  size_t size = strlen(stmt->text->sql) + 1;
  struct note *note = malloc(sizeof *note + size);
  if (!note) return;
  note->transaction = number;
  memcpy(note->where, stmt->where, sizeof note->where);
  memcpy(note->sql, stmt->text->sql, size);
  mp_list_push_back(&f->notes, &note->node);
}

static void on_failed(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_fault *f = MP_CONTAINER_OF(req, struct mp_fault, req);
  f->under_way = false;
  if (err && err->code == MP_ECANCELED) return; /* something else had failed before */
  f->hits++;
  if (!err || !mp_tx_conflict(err)) mp_budget_refund(f->retries, f->purse);
  if (!err || f->ends_backend) return;
  f->err = *err;
  f->result = result ? mp_result_ref(result) : NULL;
}

static bool ordered(const struct mp_fault *f, const struct mp_fault_mark *mark, unsigned attempt) {
  return mark->number == f->before + f->transaction && f->armed && !f->under_way &&
         attempt >= f->attempt && attempt - f->attempt < f->times;
}

bool mp_fault_counts(const struct mp_fault *f) { return f->armed || f->noting; }

bool mp_fault_comes(const struct mp_fault *f, const struct mp_fault_mark *mark, unsigned ahead,
                    unsigned attempt) {
  return mark->sent + ahead + 1 == f->at && ordered(f, mark, attempt);
}

bool mp_fault_due(struct mp_fault *f, struct mp_fault_mark *mark, const struct mp_stmt *stmt,
                  unsigned attempt) {
  if (stmt) {
    if (stmt->control || mp_stmt_asks(stmt)) return false;
    mark->sent++;
    if (f->noting && mark->number > f->before) take_note(f, mark->number, stmt);
    if (mark->sent != f->at) return false;
  } else if (f->at) {
    return false;
  }
  return ordered(f, mark, attempt);
}

void mp_fault_send(struct mp_fault *f, const void *owner, const struct mp_stmt *stmt,
                   struct mp_conn *conn, struct mp_budget *retries, uint64_t purse) {
  forget_failure(f);
  f->owner = owner;
  f->stmt = stmt;
  f->retries = retries;
  f->purse = purse;
  f->under_way = true;
  f->req = (struct mp_req){.sql = f->sql, .flags = MP_REQ_ONCE, .on_done = on_failed};
  mp_conn_send(conn, &f->req);
}

void mp_fault_answer(struct mp_fault *f, const void *owner, const struct mp_stmt *stmt,
                     struct mp_result **result, const struct mp_err **err) {
  if (!f->err.code || f->owner != owner || f->stmt != stmt) return;
  if (!*err || (*err)->code != MP_ECANCELED) return;
  *err = &f->err;
  *result = f->result;
  f->owner = NULL; /* told; the transaction's block will be another's */
}

/* ---- for moonpool.test ---- */

static struct mp_fault *fault_of(lua_State *L) {
  struct mp_fault **own = lua_touserdata(L, lua_upvalueindex(1));
  if (*own) return *own;
  struct mp_fault *f = calloc(1, sizeof *f);
  if (!f) {
    luaL_error(L, "not enough memory");
    return NULL;
  }
  mp_list_init(&f->notes);
  return *own = f;
}

static unsigned count_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  lua_Integer value = luaL_checkinteger(L, -1);
  lua_pop(L, 1);
  luaL_argcheck(L, value >= 0 && value < 1000000, 1, name);
  return (unsigned)value;
}

/* order{transaction=, at= (0: COMMIT), attempt=, times=, [sqlstate=], [note=]}: from now on.
 * Without a SQLSTATE nothing fails. */
static int fault_order(lua_State *L) {
  struct mp_fault *f = fault_of(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  if (f->under_way)
    return luaL_error(L, "the failure that was requested before is still under way");
  f->armed = false;
  f->hits = 0;
  f->before = f->started;
  forget(f, 0);
  forget_failure(f);
  f->transaction = count_field(L, "transaction");
  f->at = count_field(L, "at");
  f->attempt = count_field(L, "attempt");
  f->times = count_field(L, "times");
  lua_getfield(L, 1, "note");
  f->noting = lua_toboolean(L, -1);
  if (lua_getfield(L, 1, "sqlstate") == LUA_TNIL) return 0;
  const char *state = luaL_checkstring(L, -1);
  if (strlen(state) != 5 || strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 ||
      !strncmp(state, "00", 2))
    return luaL_error(L, "\"%s\" is not the SQLSTATE of an error", state);
  f->ends_backend = !strcmp(state, "57P01");
  if (f->ends_backend)
    strcpy(f->sql, "select pg_terminate_backend(pg_backend_pid())");
  else
    snprintf(f->sql, sizeof f->sql, "select moonpool_fault.raise('%s')", state);
  f->armed = true;
  return 0;
}

/* report() -> { hits =, transactions =, statements = { { transaction =, line =, sql = }, … } }
 * since the order */
static int fault_report(lua_State *L) {
  const struct mp_fault *f = fault_of(L);
  lua_Integer n = 0;
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, f->hits);
  lua_setfield(L, -2, "hits");
  lua_pushinteger(L, f->started - f->before);
  lua_setfield(L, -2, "transactions");
  lua_newtable(L);
  MP_LIST_EACH(node, &f->notes) {
    const struct note *note = MP_LIST_ENTRY(node, struct note, node);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, note->transaction - f->before);
    lua_setfield(L, -2, "transaction");
    lua_pushstring(L, note->where);
    lua_setfield(L, -2, "line");
    lua_pushstring(L, note->sql);
    lua_setfield(L, -2, "sql");
    lua_rawseti(L, -2, ++n);
  }
  lua_setfield(L, -2, "statements");
  return 1;
}

/* fix(seed, now): the draws of the transactions that begin from now on, and their time (seconds);
 * fix(): as ever */
static int fault_fix(lua_State *L) {
  struct mp_fault *f = fault_of(L);
  f->fixed = !lua_isnoneornil(L, 1);
  if (!f->fixed) return 0;
  f->seed = (uint64_t)luaL_checkinteger(L, 1);
  f->now_us = (uint64_t)(luaL_checknumber(L, 2) * 1e6);
  f->calls = 0;
  return 0;
}

/* memory("fail", n, count): from the n-th on so many blocks (1) of Lua's memory are refused;
 * memory("collect", n): all garbage is collected at each n-th; memory(): over -> how many blocks
 * were asked for, how many were refused */
static int fault_memory(lua_State *L) {
  static const char *const names[] = {"none", "fail", "collect", NULL};
  int kind = luaL_checkoption(L, 1, "none", names);
  lua_Integer number = luaL_optinteger(L, 2, 1);
  lua_Integer count = luaL_optinteger(L, 3, 1);
  luaL_argcheck(L, number > 0 && count > 0, 2, "expected numbers from 1");
  struct mp_trial before =
      mp_memory_trial(L, (enum mp_trial_kind)kind, (uint64_t)number, (uint64_t)count);
  lua_pushinteger(L, (lua_Integer)before.asked);
  lua_pushinteger(L, (lua_Integer)before.refused);
  return 2;
}

void mp_fault_open(lua_State *L, struct mp_fault **own) {
  static const luaL_Reg functions[] = {{"order", fault_order},
                                       {"report", fault_report},
                                       {"fix", fault_fix},
                                       {"memory", fault_memory},
                                       {NULL, NULL}};
  luaL_newlibtable(L, functions);
  lua_pushlightuserdata(L, (void *)own);
  luaL_setfuncs(L, functions, 1);
  lua_setfield(L, -2, "fault");
}
