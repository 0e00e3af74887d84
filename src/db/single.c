/* single.c: one statement on a pooled (or kept) connection, from the call to its result. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "db/batch.h"
#include "db/source.h"
#include "pool/reap.h"
#include "script/luaerr.h"
#include "sql/row.h"
#include "txn/txn.h"
#include "util/log.h"
#include "watch/health.h"
#include "watch/statements.h"

#define CLEANUP_MS 5000 /* for a canceled statement to end */
#define PARK_POLL_MS 10 /* interval of checks whether a cancel has ended */
#define SENT_MOST \
  10 /* limit of sends while the statement has no effect: stale texts, read-only servers */

/* Lives in a userdata on the waiting task's stack; the registry keeps it until the answer is here
 * (`self_ref`). */
struct single {
  struct mp_source *source;
  struct mp_stmt *stmt;
  struct mp_lease lease;     /* unless the source keeps a connection, or it shares one */
  struct mp_list read;       /* of the source's reads that wait */
  struct mp_batch_seat seat; /* while it shares one */
  struct mp_conn *conn;
  struct mp_sync sync;
  struct mp_types_question question; /* for unknown types of the result */
  struct mp_timer timeout;
  struct mp_token token;
  struct mp_timer
      parked; /* while a cancel of an earlier statement on the kept connection is under way */
  uint64_t parked_until_ms;
  enum { SINGLE_WAITING, SINGLE_PARKED, SINGLE_SENT, SINGLE_DONE } state;
  unsigned sent; /* how often */
  bool kept; /* it went over the connection of a lease, which may be over before its answer is here
              */
  bool abandoned, timed_out, given_up;
  bool dirty;   /* it leaves session state: the connection must not be reused */
  int self_ref; /* keeps the userdata alive until it is done */
};

static void single_over(struct single *single) {
  struct mp_host *host = single->source->host;
  single->state = SINGLE_DONE;
  mp_timer_stop(&single->timeout);
  mp_timer_stop(&single->parked);
  host->live_work--;
  single->source->users--;
  if (!single->kept && single->lease.conn) mp_pool_release(&single->lease, single->dirty);
  if (!single->abandoned) mp_wait_ready(host->sched, single->token);
  luaL_unref(mp_vm_lua(host->vm), LUA_REGISTRYINDEX, single->self_ref);
}

static void on_stmt(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_stmt *stmt = MP_CONTAINER_OF(req, struct mp_stmt, req);
  struct single *single = stmt->owner;
  mp_stmt_answer(single->source->host, stmt, result, err);
  mp_statement_answered(single->source->host, stmt, "moonpool.db", NULL);
}

static void transmit(struct single *single);

/* CALL and DO may have committed a part of their work before they failed: they are sent once. */
static bool sent_once(const struct mp_stmt *stmt) {
  return !strcmp(stmt->text->kind, "CallStmt") || !strcmp(stmt->text->kind, "DoStmt");
}

/* The prepared text was stale and has been forgotten. The statement did nothing: it can be sent
 * again. */
static bool stale(const struct single *single) {
  return single->stmt->state == MP_STMT_FAILED && single->stmt->err.flags & MP_ERRF_STALE &&
         single->sent < SENT_MOST && !single->abandoned && !single->timed_out &&
         !sent_once(single->stmt) && mp_conn_tx_status(single->conn) == PQTRANS_IDLE;
}

static uint64_t wait_until_ms(const struct mp_source *source) {
  return mp_loop_now_ms(source->host->loop) + (source->timeout_ms ? source->timeout_ms : 30000);
}

static int acquire(struct single *single, struct mp_err *err) {
  const struct mp_source *source = single->source;
  single->lease.deadline_ms = wait_until_ms(source);
  single->conn = NULL;
  single->state = SINGLE_WAITING;
  return mp_pool_acquire(source->pool, &single->lease, err);
}

/* The server takes no writes, so the statement had no effect: sends it again over another
 * connection, which may lead to such a server too. On a kept connection the script gets the error
 * instead, and the connection is not reused after the lease. */
static bool moves(struct single *single) {
  struct mp_source *source = single->source;
  struct mp_stmt *stmt = single->stmt;
  struct mp_err err;
  bool discard = false;
  if (sent_once(stmt)) return false;
  if (!source->pool) return false; /* the lease is over, and its connection given back or closed */
  if (stmt->state != MP_STMT_FAILED || single->dirty || (single->kept && source->dirty))
    return false;
  if (!mp_health_misled(source->host, source->pool, single->conn, &stmt->err, &discard))
    return false;
  if (!discard) return false;
  if (single->kept)
    source->dirty = true;
  else
    single->dirty = true;
  if (single->kept || single->sent >= SENT_MOST || single->abandoned || single->timed_out)
    return false;
  mp_timer_stop(&single->timeout);
  mp_pool_release(&single->lease, true);
  mp_result_unref(stmt->result);
  stmt->result = NULL;
  single->dirty = false;
  return !acquire(single, &err);
}

static void on_types(struct mp_types_question *question, const struct mp_err *lost) {
  (void)lost; /* the result is complete; columns of unknown types are read as text */
  struct single *single = MP_CONTAINER_OF(question, struct single, question);
  mp_types_settle(question->types, single->stmt->result);
  single_over(single);
}

/* Ends the statement as soon as the types of its result are known. */
static void answered(struct single *single) {
  struct mp_stmt *stmt = single->stmt;
  bool read = stmt->state == MP_STMT_DONE && stmt->result && !single->abandoned;
  struct mp_types *types = read ? mp_source_types(single->source) : NULL;
  if (read && mp_types_want(&single->question, types, stmt->result)) {
    single->question.on_done = on_types;
    mp_types_ask(&single->question, single->conn);
    return;
  }
  if (read) mp_types_settle(types, stmt->result);
  single_over(single);
}

static void set_timed_out(const struct single *single, struct mp_err *err) {
  const struct mp_source *source = single->source;
  bool usual = source->timeout_ms == source->host->shared->query_timeout_ms;
  mp_err_set(err, MP_ETIMEOUT, "the statement ran longer than %s and was canceled",
             usual ? "DB_QUERY_TIMEOUT" : "its connection allows");
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct single *single = MP_CONTAINER_OF(sync, struct single, sync);
  struct mp_stmt *stmt = single->stmt;
  bool ended = err || (stmt->state == MP_STMT_FAILED && stmt->err.flags & MP_ERRF_CONN_DEAD);
  if (!ended && stale(single)) {
    mp_result_unref(stmt->result);
    stmt->result = NULL;
    transmit(single);
    return;
  }
  if (!ended && moves(single)) return;
  if (result && err) { /* the statement succeeded and its commit did not: a deferred constraint */
    mp_result_unref(stmt->result);
    stmt->result = mp_result_ref(result);
    stmt->state = MP_STMT_FAILED;
    stmt->err = *err;
  } else if (ended && stmt->text->changes_data) {
    /* The statement may have committed; its outcome cannot be found out. */
    if (err) stmt->err = *err;
    stmt->state = MP_STMT_FAILED;
    mp_err_wrap(&stmt->err,
                "the connection was lost while the statement ran; it may or may not be stored");
    stmt->err.flags = MP_ERRF_OUTCOME_UNKNOWN | MP_ERRF_CONN_DEAD;
  }
  if (single->timed_out && stmt->state == MP_STMT_FAILED && !strcmp(stmt->err.sqlstate, "57014"))
    set_timed_out(single, &stmt->err);
  answered(single);
}

/* Asks the server to cancel the statement; if even that is not answered in time, its connection is
 * closed. */
static void cancel(struct single *single) {
  struct mp_err err;
  if (single->seat.place) mp_batch_disperse(&single->seat);
  (void)mp_conn_cancel(single->conn, &err);
  mp_timer_start(&single->timeout, CLEANUP_MS);
  single->given_up = true;
}

static void on_timeout(struct mp_timer *timer) {
  struct single *single = MP_CONTAINER_OF(timer, struct single, timeout);
  if (!single->given_up && !single->source->brief) {
    single->timed_out = true;
    cancel(single);
    return;
  }
  const char *what = single->given_up ? "answered neither a statement nor its cancel"
                                      : "did not answer a statement in time";
  mp_log(MP_LOG_WARN, "pool", "the database %s, at %s: closing its connection", what,
         single->stmt->where);
  /* The statement under way fails, and so will later ones on a kept connection. */
  struct mp_err err;
  mp_err_set(&err, MP_ECONN, "the database %s", what);
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  mp_conn_break(single->conn, &err);
  mp_health_silent(single->source->host, single->source->pool, single->conn);
  if (single->source->pool) /* its lease may be over */
    mp_reap(single->source->pool, single->source->host->loop, mp_conn_backend_pid(single->conn),
            mp_conn_opened_ms(single->conn));
}

static void on_its_way(struct single *single) {
  single->sent++;
  single->stmt->state = MP_STMT_SENT;
  single->stmt->sent_ns = mp_loop_clock_ns(single->source->host->loop);
}

static void transmit(struct single *single) {
  on_its_way(single);
  single->stmt->req.on_done = on_stmt;
  single->sync.on_done = on_sync;
  mp_conn_send(single->conn, &single->stmt->req);
  mp_conn_sync(single->conn, &single->sync);
}

static void begin_on(struct single *single, struct mp_conn *conn) {
  single->conn = conn;
  single->state = SINGLE_SENT;
  single->stmt->owner = single;
  single->stmt->patient = single->source->patient;
  if (single->stmt->text->leaves_state) {
    if (single->kept)
      single->source->dirty = true;
    else
      single->dirty = true;
  }
  if (single->source->timeout_ms) mp_timer_start(&single->timeout, single->source->timeout_ms);
}

static void fire(struct single *single, struct mp_conn *conn) {
  begin_on(single, conn);
  transmit(single);
}

/* A cancel that is still under way would hit the next statement on the connection. */
static void on_parked(struct mp_timer *timer) {
  struct single *single = MP_CONTAINER_OF(timer, struct single, parked);
  struct mp_err err;
  bool pending = mp_conn_cancel_pending(single->conn);
  if (pending && mp_loop_now_ms(single->source->host->loop) < single->parked_until_ms) {
    mp_timer_start(&single->parked, PARK_POLL_MS);
    return;
  }
  mp_err_set(&err, MP_ECONN, "a cancel of an earlier statement on the connection does not end");
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  if (pending) mp_conn_break(single->conn, &err); /* the statement sent now fails with that error */
  fire(single, single->conn);
}

static void fire_kept(struct single *single) {
  single->conn = single->source->lease.conn;
  if (!mp_conn_cancel_pending(single->conn)) {
    fire(single, single->conn);
    return;
  }
  single->state = SINGLE_PARKED;
  single->parked_until_ms = mp_loop_now_ms(single->source->host->loop) + CLEANUP_MS;
  mp_timer_start(&single->parked, PARK_POLL_MS);
}

static void stop_waiting(struct single *single) {
  if (mp_list_empty(&single->read)) return;
  mp_list_remove(&single->read);
  single->source->nreads--;
}

static void give_up(struct single *single, const struct mp_err *err) {
  single->stmt->state = MP_STMT_FAILED;
  single->stmt->err = *err;
  single_over(single);
}

static void on_not_granted(struct mp_lease *lease, const struct mp_err *err) {
  stop_waiting(lease->data);
  give_up(lease->data, err);
}

/* ---- reads that share a connection ---- */

static void on_seat_alone(struct mp_batch_seat *seat) {
  struct single *single = MP_CONTAINER_OF(seat, struct single, seat);
  struct mp_err err;
  mp_timer_stop(&single->timeout);
  if (single->timed_out)
    set_timed_out(single, &err);
  else if (!acquire(single, &err))
    return;
  give_up(single, &err);
}

static void on_seat_answer(struct mp_batch_seat *seat, struct mp_result *result) {
  struct single *single = MP_CONTAINER_OF(seat, struct single, seat);
  struct mp_stmt *stmt = single->stmt;
  struct mp_types *types = mp_source_types(single->source);
  if (mp_types_want(&single->question, types, result)) { /* asking takes a connection of its own */
    on_seat_alone(seat);
    return;
  }
  on_stmt(&stmt->req, result, NULL);
  if (stmt->result) mp_types_settle(types, stmt->result);
  single_over(single);
}

static void on_seat_last(struct mp_batch_seat *seat, struct mp_lease *lease,
                         const struct mp_batch_end *end) {
  struct single *single = MP_CONTAINER_OF(seat, struct single, seat);
  mp_pool_pass_on(lease, &single->lease);
  on_stmt(&single->stmt->req, end->result, end->err);
  on_sync(&single->sync, end->sync_result, end->sync_err);
}

static void take_seat(struct single *single, struct mp_batch *batch, struct mp_conn *conn) {
  static const struct mp_batch_events events = {
      .on_alone = on_seat_alone, .on_answer = on_seat_answer, .on_last = on_seat_last};
  stop_waiting(single);
  begin_on(single, conn);
  on_its_way(single);
  single->seat = (struct mp_batch_seat){.stmt = single->stmt, .events = &events};
  mp_batch_add(batch, &single->seat);
}

static bool may_share(const struct single *single) {
  const struct mp_source *source = single->source;
  return !single->stmt->req.flags && !source->brief && !source->patient &&
         mp_batch_takes(single->stmt->text, mp_loop_now_ms(source->host->loop));
}

static void on_grant(struct mp_lease *lease) {
  struct single *single = lease->data;
  struct mp_source *source = single->source;
  unsigned size = mp_list_empty(&single->read) ? 1 : mp_batch_size(source->nreads);
  if (size > source->nreads) size = source->nreads;
  struct mp_batch *batch = size > 1 ? mp_batch_new(source->host->loop) : NULL;
  if (!batch) {
    stop_waiting(single);
    fire(single, lease->conn);
    return;
  }
  take_seat(single, batch, lease->conn);
  while (--size) {
    struct single *other = MP_LIST_ENTRY(source->reads.next, struct single, read);
    mp_pool_abandon(&other->lease);
    take_seat(other, batch, lease->conn);
  }
  mp_batch_send(batch, lease);
}

static void on_abandon(void *data) {
  struct single *single = data;
  single->abandoned = true;
  bool left = single->seat.place && mp_batch_leave(&single->seat);
  if (!left && single->state == SINGLE_WAITING) {
    stop_waiting(single);
    mp_pool_abandon(&single->lease);
  }
  if (!left && single->state == SINGLE_SENT)
    cancel(single); /* it ends soon and releases the connection */
  else if (left || single->state == SINGLE_WAITING || single->state == SINGLE_PARKED)
    single_over(single);
}

static int single_gc(lua_State *L) {
  struct single *single = lua_touserdata(L, 1);
  if (single->stmt) mp_stmt_unref(single->stmt);
  single->stmt = NULL;
  return 0;
}

static int push_single(lua_State *L) {
  struct single *single = lua_newuserdatauv(L, sizeof *single, 1);
  *single = (struct single){.stmt = NULL};
  if (luaL_newmetatable(L, "moonpool.single")) {
    lua_pushcfunction(L, single_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return 1;
}

/* Runs the statement and continues with `k`, the row that holds its result on top. Takes the
 * reference. */
int mp_single_run(lua_State *L, struct mp_source *source, struct mp_stmt *stmt, const char *what,
                  lua_KContext ctx, lua_KFunction k) {
  struct mp_host *host = source->host;
  struct mp_err err;
  lua_pushcfunction(L, push_single);
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
    mp_stmt_unref(stmt); /* it has no other owner yet */
    return lua_error(L);
  }
  struct single *single = lua_touserdata(L, -1);
  *single = (struct single){.source = source, .stmt = stmt, .kept = source->kept};
  lua_pushvalue(L, lua_upvalueindex(1)); /* the source lives as long as this */
  lua_setiuservalue(L, -2, 1);
  mp_wait_check(L, what);
  mp_timer_init(&single->timeout, host->loop, on_timeout);
  mp_timer_init(&single->parked, host->loop, on_parked);
  if (!source->kept) {
    single->lease =
        (struct mp_lease){.data = single, .on_grant = on_grant, .on_fail = on_not_granted};
    mp_list_init(&single->lease.node);
    snprintf(single->lease.where, sizeof single->lease.where, "%s", stmt->where);
    mp_list_init(&single->read);
    if (acquire(single, &err)) {
      mp_luaerr_push(L, &err);
      return lua_error(L);
    }
  }
  if (!source->kept && may_share(single)) {
    mp_list_push_back(&source->reads, &single->read);
    source->nreads++;
  }
  host->live_work++;
  source->users++;
  lua_pushvalue(L, -1);
  single->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  mp_row_bind(mp_row_push_lazy(L), stmt);
  lua_remove(L, -2); /* it is anchored; its place is the row's */
  single->token = mp_wait_begin(L, on_abandon, single);
  if (source->kept) fire_kept(single);
  return mp_wait_yield(L, ctx, k);
}
