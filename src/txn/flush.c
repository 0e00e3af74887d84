/* flush.c: what the functions of tx ask of a transaction: to queue statements, to send them and
 * wait for the answer (a flush), and what the running call draws. */
#include <lauxlib.h>

#include "script/luaerr.h"
#include "sql/types.h"
#include "txn/txn_priv.h"

struct mp_txn *mp_txn_of(lua_State *L) {
  struct mp_task *task = mp_task_of(L);
  return task ? mp_task_data(task) : NULL;
}

void mp_txn_push_failure(lua_State *L, struct mp_txn *txn) {
  if (txn->work.failed.failure.err.code)
    mp_failure_push(L, &txn->work.failed.failure, &txn->work.m->options.own);
  else
    mp_luaerr_push(L, &txn->work.tx.err);
}

static MP_NORETURN void raise_failure(lua_State *L, struct mp_txn *txn) {
  mp_txn_push_failure(L, txn);
  lua_error(L);
  __builtin_unreachable();
}

void mp_txn_check(lua_State *L, struct mp_txn *txn, const char *what) {
  if (!txn) mp_luaerr_misuse(L, what, "the transaction is over: tx is only good inside of run");
  if (mp_txn_of(L) != txn) mp_luaerr_misuse(L, what, "this tx belongs to another task");
  if (mp_timer_running(&txn->orphaned))
    mp_luaerr_misuse(L, what, "the code that waited for this transaction's statements was ended");
  if (mp_tx_doomed(&txn->work.tx)) raise_failure(L, txn);
}

static int flush_for_row(lua_State *L, struct mp_stmt *stmt, lua_KFunction k) {
  struct mp_txn *txn = MP_CONTAINER_OF(stmt->owner, struct mp_txn, segment);
  return mp_txn_flush(L, txn, "a look at a row", 0, k);
}

static const struct mp_stmt_driver driver = {.flush = flush_for_row};

void mp_txn_queue(struct mp_txn *txn, struct mp_stmt *stmt) {
  stmt->driver = &driver;
  mp_segment_queue(&txn->segment, stmt);
}

bool mp_txn_queued(const struct mp_txn *txn) { return mp_segment_queued(&txn->segment); }
bool mp_txn_promised(const struct mp_txn *txn) { return mp_segment_unchecked(&txn->segment); }

struct waiter { /* how it goes on after a flush; lies on the Lua stack */
  struct mp_txn *txn;
  lua_KFunction k;
  lua_KContext ctx;
  bool anyway;
};

static int flushed(lua_State *L, int status, lua_KContext ctx) {
  struct waiter w = *(struct waiter *)ctx;
  lua_pop(L, 1); /* the waiter */
  if (!w.anyway && mp_tx_doomed(&w.txn->work.tx)) raise_failure(L, w.txn);
  return w.k(L, status, w.ctx);
}

/* The coroutine that waits was closed, or the task ended from outside: no code takes
 * the answers of the statements under way, and nothing else may be sent in between. */
static void on_abandoned(void *data) {
  struct mp_txn *txn = data;
  if (!txn->work.m->script) return;  /* killed: by us, or told already */
  mp_timer_start(&txn->orphaned, 0); /* the code that ends the coroutine still runs */
}

static int flush(lua_State *L, const char *what, struct waiter w) {
  if (!mp_segment_queued(&w.txn->segment)) return w.k(L, LUA_OK, w.ctx);
  mp_wait_check(L, what);
  struct waiter *waiter = lua_newuserdatauv(L, sizeof *waiter, 0);
  *waiter = w;
  w.txn->waiter = mp_wait_begin(L, on_abandoned, w.txn);
  mp_txn_send_queued(w.txn);
  return mp_wait_yield(L, (lua_KContext)waiter, flushed);
}

int mp_txn_flush(lua_State *L, struct mp_txn *txn, const char *what, lua_KContext ctx,
                 lua_KFunction k) {
  mp_txn_check(L, txn, what);
  return flush(L, what, (struct waiter){txn, k, ctx, false});
}

int mp_txn_flush_anyway(lua_State *L, struct mp_txn *txn, const char *what, lua_KContext ctx,
                        lua_KFunction k) {
  return flush(L, what, (struct waiter){txn, k, ctx, true});
}

int mp_txn_ask_types(lua_State *L, struct mp_txn *txn, const char *what, struct mp_text *text,
                     lua_KContext ctx, lua_KFunction k) {
  mp_wait_check(L, what);
  struct mp_stmt *question = mp_stmt_describe(L, mp_txn_types(txn), text);
  struct mp_list *behind = &txn->segment.queue;
  MP_LIST_EACH(node, &txn->segment.queue) {
    if (MP_LIST_ENTRY(node, struct mp_stmt, node)->control) behind = node;
  }
  question->owner = &txn->segment;
  question->part = txn->work.m;
  question->depth = txn->work.tx.savepoints;
  mp_list_push_front(behind, &question->node);
  return mp_txn_flush(L, txn, what, ctx, k);
}

bool mp_txn_undo_savepoint(struct mp_txn *txn) {
  bool seen = true;
  MP_LIST_EACH(node, &txn->segment.queue) {
    if (MP_LIST_ENTRY(node, struct mp_stmt, node)->control) seen = false;
  }
  mp_segment_drop_queue(&txn->segment);
  mp_tx_savepoint_undone(&txn->work.tx);
  if (!mp_tx_doomed(&txn->work.tx)) mp_failure_clear(&txn->work.failed.failure);
  return seen;
}

bool mp_txn_restricted(const struct mp_txn *txn) { return txn->work.m->options.restricted; }
unsigned mp_txn_attempt(const struct mp_txn *txn) { return txn->work.tx.attempt; }
const struct mp_txn_options *mp_txn_options(const struct mp_txn *txn) {
  return &txn->work.m->options;
}
struct mp_tx *mp_txn_machine(struct mp_txn *txn) {
  return &txn->work.tx;
}
struct mp_types *mp_txn_types(const struct mp_txn *txn) {
  return mp_types_of(txn->work.host, txn->work.options.pool);
}
uint64_t mp_txn_started_us(const struct mp_txn *txn) { return txn->work.m->started_us; }

void mp_txn_push_hooks(lua_State *L, struct mp_txn *txn) {
  if (txn->work.m->hooks_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, txn->work.m->hooks_ref);
    return;
  }
  lua_createtable(L, 0, 2);
  lua_newtable(L);
  lua_setfield(L, -2, "after_commit");
  lua_newtable(L);
  lua_setfield(L, -2, "on_rollback");
  lua_pushvalue(L, -1);
  txn->work.m->hooks_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

double mp_txn_random(struct mp_txn *txn) { return mp_draw_number(&txn->work.m->draws); }

void mp_txn_uuid(struct mp_txn *txn, int version, char out[37]) {
  struct mp_member *m = txn->work.m;
  if (version == 4)
    mp_draw_uuid4(&m->draws, out);
  else
    mp_draw_uuid7(&m->draws, m->started_us, out);
}

void mp_tx_lua_current(lua_State *L) {
  struct mp_txn *txn = mp_txn_of(L);
  if (txn && txn->work.m->tx_ref != LUA_NOREF)
    lua_rawgeti(L, LUA_REGISTRYINDEX, txn->work.m->tx_ref);
  else
    lua_pushnil(L);
}
