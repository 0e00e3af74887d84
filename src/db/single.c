/* single.c: one statement on a pooled (or kept) connection, from the call to its result. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "db/source.h"
#include "pool/reap.h"
#include "script/luaerr.h"
#include "sql/row.h"
#include "txn/txn.h"
#include "util/log.h"
#include "watch/health.h"
#include "watch/statements.h"

#define CLEANUP_MS 5000 /* for a canceled statement to end */
#define PARK_POLL_MS 10 /* so often it is looked whether a cancel has ended */
#define SENT_MOST 10    /* times that a statement is sent while it does nothing: stale, moves */

/* Lives in a userdata on the waiting task's stack, and for as long as the wire needs it
 * (`pending`). */
struct shot {
  struct mp_source *source;
  struct mp_stmt *stmt;
  struct mp_lease lease; /* unless the source keeps a connection */
  struct mp_conn *conn;
  struct mp_sync sync;
  struct mp_types_question question; /* what the result's types are */
  struct mp_timer timeout;
  struct mp_token token;
  struct mp_timer parked; /* while a cancel of what the kept connection did before is on its way */
  uint64_t parked_until_ms;
  enum { SHOT_WAITING, SHOT_PARKED, SHOT_SENT, SHOT_DONE } state;
  unsigned sent; /* how often */
  bool kept; /* it went over the connection of a lease, which may be over before its answer is here
              */
  bool abandoned, timed_out, given_up;
  bool dirty;   /* it leaves session state: the connection is not for others */
  int self_ref; /* keeps the userdata alive until it is done */
};

static void shot_over(struct shot *shot) {
  struct mp_host *host = shot->source->host;
  shot->state = SHOT_DONE;
  mp_timer_stop(&shot->timeout);
  mp_timer_stop(&shot->parked);
  host->live_work--;
  shot->source->users--;
  if (!shot->kept && shot->conn) mp_pool_release(&shot->lease, shot->dirty);
  if (!shot->abandoned) mp_wait_ready(host->sched, shot->token);
  luaL_unref(mp_vm_lua(host->vm), LUA_REGISTRYINDEX, shot->self_ref);
}

static void on_stmt(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_stmt *stmt = MP_CONTAINER_OF(req, struct mp_stmt, req);
  struct shot *shot = stmt->owner;
  mp_stmt_answer(shot->source->host, stmt, result, err);
  mp_statement_answered(shot->source->host, stmt, "moonpool.db", NULL);
}

static void transmit(struct shot *shot);

/* The prepared text was stale and has been forgotten. The statement did nothing: it can be sent
 * again. */
static bool stale(const struct shot *shot) {
  return shot->stmt->state == MP_STMT_FAILED && shot->stmt->err.flags & MP_ERRF_STALE &&
         shot->sent < SENT_MOST && !shot->abandoned && !shot->timed_out &&
         mp_conn_tx_status(shot->conn) == PQTRANS_IDLE;
}

static int acquire(struct shot *shot, struct mp_err *err) {
  const struct mp_source *source = shot->source;
  shot->lease.deadline_ms =
      mp_loop_now_ms(source->host->loop) + (source->timeout_ms ? source->timeout_ms : 30000);
  shot->conn = NULL;
  shot->state = SHOT_WAITING;
  return mp_pool_acquire(source->pool, &shot->lease, err);
}

/* The connection leads to a server that takes no writes, so the statement did nothing: it is sent
 * again over another, which may be one of the same kind. A kept connection is the script's own: it
 * is not given to others, and the script is told. */
static bool moves(struct shot *shot) {
  struct mp_source *source = shot->source;
  struct mp_stmt *stmt = shot->stmt;
  struct mp_err err;
  bool discard = false;
  if (!source->pool) return false; /* the lease is over, and its connection given back or closed */
  if (stmt->state != MP_STMT_FAILED || shot->dirty || (shot->kept && source->dirty)) return false;
  if (!mp_health_misled(source->host, source->pool, shot->conn, &stmt->err, &discard)) return false;
  if (!discard) return false;
  if (shot->kept)
    source->dirty = true;
  else
    shot->dirty = true;
  if (shot->kept || shot->sent >= SENT_MOST || shot->abandoned || shot->timed_out) return false;
  mp_timer_stop(&shot->timeout);
  mp_pool_release(&shot->lease, true);
  mp_result_unref(stmt->result);
  stmt->result = NULL;
  shot->dirty = false;
  return !acquire(shot, &err);
}

static void on_types(struct mp_types_question *question, const struct mp_err *lost) {
  (void)lost; /* the result is here; types that are not known are given as text */
  struct shot *shot = MP_CONTAINER_OF(question, struct shot, question);
  mp_types_settle(question->types, shot->stmt->result);
  shot_over(shot);
}

/* It is over, once the types of the result are known. */
static void answered(struct shot *shot) {
  struct mp_stmt *stmt = shot->stmt;
  bool read = stmt->state == MP_STMT_DONE && stmt->result && !shot->abandoned;
  struct mp_types *types = read ? mp_source_types(shot->source) : NULL;
  if (read && mp_types_want(&shot->question, types, stmt->result)) {
    shot->question.on_done = on_types;
    mp_types_ask(&shot->question, shot->conn);
    return;
  }
  if (read) mp_types_settle(types, stmt->result);
  shot_over(shot);
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct shot *shot = MP_CONTAINER_OF(sync, struct shot, sync);
  struct mp_stmt *stmt = shot->stmt;
  bool ended = err || (stmt->state == MP_STMT_FAILED && stmt->err.flags & MP_ERRF_CONN_DEAD);
  if (!ended && stale(shot)) {
    mp_result_unref(stmt->result);
    stmt->result = NULL;
    transmit(shot);
    return;
  }
  if (!ended && moves(shot)) return;
  if (result && err) { /* the statement succeeded and its commit did not: a deferred constraint */
    mp_result_unref(stmt->result);
    stmt->result = mp_result_ref(result);
    stmt->state = MP_STMT_FAILED;
    stmt->err = *err;
  } else if (ended && stmt->text->changes_data) {
    /* It committed by itself, or it did not: nobody is left to tell. */
    if (err) stmt->err = *err;
    stmt->state = MP_STMT_FAILED;
    mp_err_wrap(&stmt->err,
                "the connection was lost while the statement ran; it may or may not be stored");
    stmt->err.flags = MP_ERRF_OUTCOME_UNKNOWN | MP_ERRF_CONN_DEAD;
  }
  if (shot->timed_out && stmt->state == MP_STMT_FAILED && !strcmp(stmt->err.sqlstate, "57014"))
    mp_err_set(&stmt->err, MP_ETIMEOUT, "the statement ran longer than %s and was canceled",
               shot->source->timeout_ms == shot->source->host->shared->query_timeout_ms
                   ? "DB_QUERY_TIMEOUT"
                   : "its connection allows");
  answered(shot);
}

/* Asks the server to end the statement; one that does not answer even that loses its connection. */
static void cancel(struct shot *shot) {
  struct mp_err err;
  (void)mp_conn_cancel(shot->conn, &err);
  mp_timer_start(&shot->timeout, CLEANUP_MS);
  shot->given_up = true;
}

static void on_timeout(struct mp_timer *timer) {
  struct shot *shot = MP_CONTAINER_OF(timer, struct shot, timeout);
  if (!shot->given_up && !shot->source->brief) {
    shot->timed_out = true;
    cancel(shot);
    return;
  }
  const char *what = shot->given_up ? "answered neither a statement nor its cancel"
                                    : "did not answer a statement in time";
  mp_log(MP_LOG_WARN, "pool", "the database %s, at %s: closing its connection", what,
         shot->stmt->where);
  /* What is under way fails, and that ends the statement; so does what a kept connection is asked
   * later. */
  struct mp_err err;
  mp_err_set(&err, MP_ECONN, "the database %s", what);
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  mp_conn_break(shot->conn, &err);
  mp_health_silent(shot->source->host, shot->source->pool, shot->conn);
  if (shot->source->pool) /* its lease may be over */
    mp_reap(shot->source->pool, shot->source->host->loop, mp_conn_backend_pid(shot->conn),
            mp_conn_opened_ms(shot->conn));
}

static void transmit(struct shot *shot) {
  shot->sent++;
  shot->stmt->state = MP_STMT_SENT;
  shot->stmt->sent_ns = mp_loop_clock_ns(shot->source->host->loop);
  shot->stmt->req.on_done = on_stmt;
  shot->sync.on_done = on_sync;
  mp_conn_send(shot->conn, &shot->stmt->req);
  mp_conn_sync(shot->conn, &shot->sync);
}

static void fire(struct shot *shot, struct mp_conn *conn) {
  shot->conn = conn;
  shot->state = SHOT_SENT;
  shot->stmt->owner = shot;
  shot->stmt->patient = shot->source->patient;
  if (shot->stmt->text->leaves_state) {
    if (shot->kept)
      shot->source->dirty = true;
    else
      shot->dirty = true;
  }
  if (shot->source->timeout_ms) mp_timer_start(&shot->timeout, shot->source->timeout_ms);
  transmit(shot);
}

/* A cancel that is on its way would hit whatever the connection does when it arrives. */
static void on_parked(struct mp_timer *timer) {
  struct shot *shot = MP_CONTAINER_OF(timer, struct shot, parked);
  struct mp_err err;
  bool pending = mp_conn_cancel_pending(shot->conn);
  if (pending && mp_loop_now_ms(shot->source->host->loop) < shot->parked_until_ms) {
    mp_timer_start(&shot->parked, PARK_POLL_MS);
    return;
  }
  mp_err_set(&err, MP_ECONN, "a cancel of an earlier statement on the connection does not end");
  err.flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  if (pending) mp_conn_break(shot->conn, &err); /* what is sent now fails with it */
  fire(shot, shot->conn);
}

static void fire_kept(struct shot *shot) {
  shot->conn = shot->source->lease.conn;
  if (!mp_conn_cancel_pending(shot->conn)) {
    fire(shot, shot->conn);
    return;
  }
  shot->state = SHOT_PARKED;
  shot->parked_until_ms = mp_loop_now_ms(shot->source->host->loop) + CLEANUP_MS;
  mp_timer_start(&shot->parked, PARK_POLL_MS);
}

static void on_grant(struct mp_lease *lease) { fire(lease->data, lease->conn); }

static void on_not_granted(struct mp_lease *lease, const struct mp_err *err) {
  struct shot *shot = lease->data;
  shot->stmt->state = MP_STMT_FAILED;
  shot->stmt->err = *err;
  shot_over(shot);
}

static void on_abandon(void *data) {
  struct shot *shot = data;
  shot->abandoned = true;
  if (shot->state == SHOT_WAITING) {
    mp_pool_abandon(&shot->lease);
    shot_over(shot);
  } else if (shot->state == SHOT_PARKED) {
    shot_over(shot);
  } else if (shot->state == SHOT_SENT) {
    cancel(shot); /* it ends soon, and gives the connection back */
  }
}

static int shot_gc(lua_State *L) {
  struct shot *shot = lua_touserdata(L, 1);
  if (shot->stmt) mp_stmt_unref(shot->stmt);
  shot->stmt = NULL;
  return 0;
}

/* Runs the statement and continues with `k`, the row that holds its result on top. Takes the
 * reference. */
int mp_shoot(lua_State *L, struct mp_source *source, struct mp_stmt *stmt, const char *what,
             lua_KContext ctx, lua_KFunction k) {
  struct mp_host *host = source->host;
  struct mp_err err;
  struct shot *shot = lua_newuserdatauv(L, sizeof *shot, 1);
  *shot = (struct shot){.source = source, .stmt = stmt, .kept = source->kept};
  if (luaL_newmetatable(L, "moonpool.shot")) {
    lua_pushcfunction(L, shot_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, lua_upvalueindex(1)); /* the source lives as long as the shot */
  lua_setiuservalue(L, -2, 1);
  mp_wait_check(L, what);
  mp_timer_init(&shot->timeout, host->loop, on_timeout);
  mp_timer_init(&shot->parked, host->loop, on_parked);
  if (!source->kept) {
    shot->lease = (struct mp_lease){.data = shot, .on_grant = on_grant, .on_fail = on_not_granted};
    mp_list_init(&shot->lease.node);
    snprintf(shot->lease.where, sizeof shot->lease.where, "%s", stmt->where);
    if (acquire(shot, &err)) {
      mp_luaerr_push(L, &err);
      return lua_error(L);
    }
  }
  host->live_work++;
  source->users++;
  lua_pushvalue(L, -1);
  shot->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  mp_row_bind(mp_row_push_lazy(L), stmt);
  lua_remove(L, -2); /* the shot is anchored; its place is the row's */
  shot->token = mp_wait_begin(L, on_abandon, shot);
  if (source->kept) fire_kept(shot);
  return mp_wait_yield(L, ctx, k);
}
