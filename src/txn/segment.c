/* segment.c: what a transaction sends: segments framed by BEGIN and COMMIT, a lock around them,
 * ROLLBACK. */
#include <string.h>

#include "txn/fault.h"
#include "util/log.h"
#include "watch/health.h"
#include "watch/statements.h"

/* ---- statements ---- */

void mp_txn_drop_list(struct mp_list *list) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(list))) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->state != MP_STMT_DONE) stmt->state = MP_STMT_FAILED;
    mp_stmt_let_go(stmt);
  }
}

static void on_stmt(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_stmt *stmt = MP_CONTAINER_OF(req, struct mp_stmt, req);
  struct mp_txn *txn = stmt->owner;
  /* The host's own savepoints end with the transaction. */
  if (stmt->text->leaves_state && !stmt->control) txn->discard_after = true;
  if (txn->host->txns->fault) mp_fault_answer(txn, stmt, &result, &err);
  mp_stmt_answer(txn->host, stmt, result, err);
  mp_statement_answered(txn->host, stmt, txn->m->name, mp_txn_about(txn));
}

static void on_frame(struct mp_txn *txn, struct mp_result *result, const struct mp_err *err) {
  if (!err || err->code == MP_ECANCELED || txn->frame_failed) return;
  txn->frame_failed = true;
  txn->frame_err = *err;
  mp_failure_clear(&txn->failure);
  txn->failure.err = *err;
  if (result) txn->failure.result = mp_result_ref(result); /* a deferred constraint, say */
}

#define FRAME_CALLBACK(name)                                                                      \
  static void on_##name(struct mp_req *req, struct mp_result *result, const struct mp_err *err) { \
    on_frame(MP_CONTAINER_OF(req, struct mp_txn, name), result, err);                             \
  }
FRAME_CALLBACK(begin)
FRAME_CALLBACK(set_tenant)
FRAME_CALLBACK(set_timeout)
FRAME_CALLBACK(set_lock_timeout)

static void on_commit(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_txn *txn = MP_CONTAINER_OF(req, struct mp_txn, commit);
  if (txn->host->txns->fault) mp_fault_answer(txn, NULL, &result, &err);
  on_frame(txn, result, err);
  /* COMMIT of a failed transaction succeeds, with the tag ROLLBACK. */
  txn->committed = !err && !strcmp(PQcmdStatus(result->pg), "COMMIT");
}

/* The lock serves speed, never correctness: whether it was had is no matter here. A wait for it
 * that was canceled in the moment in which it was granted fails and leaves it held all the same, so
 * lock_held stays as it is. */
static void on_lock(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)req;
  (void)result;
  (void)err;
}

static void on_unlock(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  if (!err) MP_CONTAINER_OF(req, struct mp_txn, unlock)->lock_held = false;
}

static void on_rollback(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  struct mp_txn *txn = MP_CONTAINER_OF(req, struct mp_txn, rollback);
  if (err) txn->discard = true;
}

/* ---- segments ---- */

static void segment_over(struct mp_txn *txn) {
  txn->syncs_open--;
  mp_txn_release_when_quiet(txn);
}

static void on_lock_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  (void)err; /* a lost connection is told by the segment behind */
  segment_over(MP_CONTAINER_OF(sync, struct mp_txn, lock_sync));
}

static void on_unlock_sync(struct mp_sync *sync, struct mp_result *result,
                           const struct mp_err *err) {
  (void)result;
  struct mp_txn *txn = MP_CONTAINER_OF(sync, struct mp_txn, unlock_sync);
  if (err) txn->discard = true;
  txn->unlocking = false;
  segment_over(txn);
  mp_txn_free_if_done(txn);
}

/* The first failure of the batch in the order in which the script wrote it; a failure that calls
 * for a retry comes before all. NULL: none. */
static struct mp_err *first_failure(struct mp_txn *txn) {
  struct mp_failure broken = {0};
  bool found = false;
  txn->failed_depth = 0; /* the frame's */
  if (txn->frame_failed && txn->frame_err.flags & MP_ERRF_RETRYABLE) return &txn->frame_err;
  MP_LIST_EACH(node, &txn->batch) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    bool failed = stmt->state == MP_STMT_FAILED && stmt->err.code != MP_ECANCELED;
    if (failed && (!found || stmt->err.flags & MP_ERRF_RETRYABLE)) {
      mp_failure_of_stmt(&txn->failure, stmt);
      txn->failed_member = stmt->part;
      txn->failed_depth = stmt->depth;
      txn->control_failed = stmt->control;
      found = true;
    } else if (!found && mp_stmt_broken_promise(stmt, &broken)) {
      mp_failure_clear(&txn->failure);
      txn->failure = broken;
      txn->failed_member = stmt->part;
      txn->failed_depth = stmt->depth;
      txn->control_failed = false;
      found = true;
    }
  }
  if (found) return &txn->failure.err;
  return txn->frame_failed ? &txn->frame_err : NULL;
}

/* It failed because of where the connection leads: that is not the script's fault, unless it wished
 * only to read. */
static void judge_server(struct mp_txn *txn, struct mp_err *failed) {
  bool discard = false;
  if (txn->options.tx.read_only || !txn->lease.conn) return;
  if (mp_health_misled(txn->host, txn->options.pool, txn->lease.conn, failed, &discard))
    txn->discard_after |= discard;
}

static void settle_batch(struct mp_txn *txn) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(&txn->batch))) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->state == MP_STMT_DONE && stmt->result)
      mp_types_settle(mp_txn_types(txn), stmt->result);
    mp_stmt_let_go(stmt);
  }
}

static void send_unlock(struct mp_txn *txn) {
  struct mp_conn *conn = txn->lease.conn;
  txn->unlock = (struct mp_req){.sql = "select pg_advisory_unlock($1)",
                                .nparams = 1,
                                .values = txn->lock_values,
                                .on_done = on_unlock};
  txn->unlock_sync = (struct mp_sync){.on_done = on_unlock_sync};
  mp_conn_send(conn, &txn->unlock);
  mp_conn_sync(conn, &txn->unlock_sync);
  txn->unlocking = true;
  txn->syncs_open++;
}

static void segment_answered(struct mp_txn *txn, struct mp_result *result,
                             const struct mp_err *err);

static void on_types(struct mp_types_question *question, const struct mp_err *lost) {
  struct mp_txn *txn = MP_CONTAINER_OF(question, struct mp_txn, question);
  if (!lost && question->err.code) on_frame(txn, NULL, &question->err);
  segment_answered(txn, NULL, lost);
}

/* Before the script goes on: are there types among the results that nobody knows? Not behind a
 * failure, which has ended the transaction, nor behind COMMIT, when the connection may be
 * another's. */
static bool ask_types(struct mp_txn *txn) {
  struct mp_types *types = mp_txn_types(txn);
  bool wanted = false;
  txn->question.count = 0;
  if (txn->tx.state != MP_TX_OPEN || txn->frame_failed) return false;
  MP_LIST_EACH(node, &txn->batch) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->state != MP_STMT_DONE) return false;
    wanted |= mp_types_want(&txn->question, types, stmt->result);
  }
  if (!wanted) return false;
  txn->question.on_done = on_types;
  mp_types_ask(&txn->question, txn->lease.conn);
  return true;
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_txn *txn = MP_CONTAINER_OF(sync, struct mp_txn, sync);
  if (err || result || !ask_types(txn)) segment_answered(txn, result, err);
}

static void segment_answered(struct mp_txn *txn, struct mp_result *result,
                             const struct mp_err *err) {
  if (result &&
      err) { /* it answers, so it is not lost; inside BEGIN and COMMIT this should not come */
    on_frame(txn, result, err);
    txn->committed = false;
    err = NULL;
  }
  bool rolling_back = txn->tx.state == MP_TX_ROLLING_BACK;
  bool commit = txn->tx.frame.commit && !rolling_back;
  /* The tag of COMMIT decides alone. */
  struct mp_err *failed = err || rolling_back || txn->committed ? NULL : first_failure(txn);
  if (failed) judge_server(txn, failed);
  struct mp_err lost;
  unsigned actions;
  if (!txn->asking) mp_txn_note(txn, MP_NOTE_ANSWERED, txn->round_trips, NULL);
  if (err || failed) mp_txn_note_error(txn, MP_NOTE_FAILED, 0, err ? err : failed);
  if (txn->tx.state == MP_TX_COMMITTING) mp_timer_stop(&txn->cleanup);
  if (err) {
    lost = *err;
    if (txn->hold == MP_HOLD_BEREFT) lost.flags |= MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
    txn->discard = true;
    mp_failure_clear(&txn->failure);
    mp_txn_reap(txn, err);
    if (txn->commit_sent)
      mp_txn_keep_lost(txn);
    else
      settle_batch(txn);
    actions = mp_tx_lost(&txn->tx, &lost, txn->commit_sent, mp_txn_now(txn));
  } else if (rolling_back) {
    actions = mp_tx_rolled_back(&txn->tx, !txn->discard, mp_txn_now(txn));
  } else {
    settle_batch(txn);
    actions = mp_txn_was_misplaced(txn)
                  ? mp_tx_misplaced(&txn->tx, &txn->frame_err)
                  : mp_tx_segment(&txn->tx, failed, txn->committed, mp_txn_now(txn));
    if (failed) mp_tx_failed_at(&txn->tx, txn->failed_depth);
  }
  txn->misplaced = false;
  txn->syncs_open--;
  if (commit) {
    actions = mp_txn_pass_on(txn, err, actions);
    if (txn->committed && txn->lock_held && !txn->unlocking) send_unlock(txn);
  }
  mp_txn_act(txn, actions);
}

/* SET LOCAL: nobody else who uses the connection meets it. */
static void send_setting(struct mp_txn *txn, struct mp_req *req, char *sql, size_t size,
                         const char *name, uint64_t ms,
                         void (*on_done)(struct mp_req *, struct mp_result *,
                                         const struct mp_err *)) {
  snprintf(sql, size, "SET LOCAL %s = %llu", name, (unsigned long long)ms);
  *req = (struct mp_req){.sql = sql, .flags = MP_REQ_ONCE, .on_done = on_done};
  mp_conn_send(txn->lease.conn, req);
}

static void send_begin(struct mp_txn *txn) {
  struct mp_conn *conn = txn->lease.conn;
  if (txn->options.lock && !txn->lock_inherited) {
    /* In front of BEGIN and in a segment of its own, so that the snapshot is taken when the lock is
     * held. */
    txn->lock = (struct mp_req){.sql = "select pg_advisory_lock($1)",
                                .nparams = 1,
                                .values = txn->lock_values,
                                .on_done = on_lock};
    txn->lock_sync = (struct mp_sync){.on_done = on_lock_sync};
    txn->lock_held = true; /* as good as held until we know better */
    mp_conn_send(conn, &txn->lock);
    mp_conn_sync(conn, &txn->lock_sync);
    txn->syncs_open++;
  }
  txn->begin = (struct mp_req){.sql = mp_tx_begin_sql(&txn->options.tx), .on_done = on_begin};
  mp_conn_send(conn, &txn->begin);
  if (txn->m->tenant && !txn->grouped) {
    /* A literal, not set_config(): scripts have no right to that one, and neither have we. */
    txn->set_tenant = (struct mp_req){
        .sql = txn->m->set_tenant_sql, .flags = MP_REQ_ONCE, .on_done = on_set_tenant};
    mp_conn_send(conn, &txn->set_tenant);
  }
  if (txn->options.statement_timeout_ms)
    send_setting(txn, &txn->set_timeout, txn->timeout_sql, sizeof txn->timeout_sql,
                 "statement_timeout", txn->options.statement_timeout_ms, on_set_timeout);
  if (txn->options.lock_timeout_ms)
    send_setting(txn, &txn->set_lock_timeout, txn->lock_timeout_sql, sizeof txn->lock_timeout_sql,
                 "lock_timeout", txn->options.lock_timeout_ms, on_set_lock_timeout);
  if (mp_txn_witness_unknown(txn)) mp_txn_ask_witness(txn);
  if (txn->m->options.key_id) mp_txn_send_key(txn);
}

static bool changes_data(const struct mp_txn *txn) {
  bool changes = false;
  MP_LIST_EACH(node, &txn->members) {
    const struct mp_member *member = MP_LIST_ENTRY(node, struct mp_member, node);
    bool counts = member->state == MP_MEMBER_RUNNING || member->state == MP_MEMBER_RETURNED;
    changes |= counts && member->changed;
  }
  return changes;
}

static const char *frame_name(const struct mp_txn *txn) {
  if (txn->tx.frame.begin) return txn->tx.frame.commit ? "begin, commit" : "begin";
  return txn->tx.frame.commit ? "commit" : NULL;
}

/* A question for types ends its segment: whoever asked waits for the answer. Is it all that goes
 * out now? */
static bool only_asks(const struct mp_list *queue) {
  MP_LIST_EACH(node, queue) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (mp_stmt_asks(stmt)) return true;
    if (!stmt->control) return false;
  }
  return false;
}

static void send_queued(struct mp_txn *txn, struct mp_stmt *stmt) {
  bool asks = mp_stmt_asks(stmt);
  stmt->state = MP_STMT_SENT;
  stmt->sent_ns = mp_loop_clock_ns(txn->host->loop);
  stmt->req.on_done = on_stmt;
  if (txn->host->txns->fault) mp_fault_before(txn, stmt);
  mp_conn_send(txn->lease.conn, &stmt->req);
  if (asks) return;
  struct mp_member *member = stmt->part;
  mp_flight_statement(member->options.flight, stmt);
  if (stmt == member->savepoint) member->savepoint = NULL;
  txn->statements++;
}

void mp_txn_send_segment(struct mp_txn *txn) {
  struct mp_conn *conn = txn->lease.conn;
  struct mp_list *node;
  bool asked = false;
  txn->frame_failed = txn->committed = txn->commit_sent = txn->control_failed = false;
  txn->asking = only_asks(&txn->queue);
  if (!txn->asking) mp_txn_note(txn, MP_NOTE_SENT, txn->round_trips + 1, frame_name(txn));
  if (txn->tx.frame.begin) send_begin(txn);
  while (!asked && (node = mp_list_pop_front(&txn->queue))) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    mp_list_push_back(&txn->batch, node);
    asked = mp_stmt_asks(stmt);
    send_queued(txn, stmt);
  }
  if (txn->tx.frame.commit) {
    bool changed = changes_data(txn);
    bool witness = changed && mp_txn_witness_there(txn);
    txn->tx.options.witness = witness;
    txn->old_backend = (int)mp_txn_backend(txn);
    txn->old_opened_ms = mp_conn_opened_ms(conn);
    if (witness && !txn->grouped) mp_txn_send_witness(txn);
    if (txn->host->txns->fault) mp_fault_before(txn, NULL);
    txn->commit = (struct mp_req){.sql = "COMMIT", .on_done = on_commit};
    txn->commit_sent = changed && mp_conn_alive(conn); /* else its loss is no matter */
    mp_timer_start(&txn->cleanup, txn->host->shared->commit_timeout_ms);
    mp_conn_send(conn, &txn->commit);
  }
  txn->sync = (struct mp_sync){.on_done = on_sync};
  mp_conn_sync(conn, &txn->sync);
  txn->syncs_open++;
  if (!txn->asking) txn->round_trips++;
  if (!txn->tx.frame.commit) return;
  if (mp_txn_may_lend(txn)) txn->calls.committing(txn, txn->m->data);
  if (txn->options.lock && !txn->behind) send_unlock(txn);
}

void mp_txn_send_rollback(struct mp_txn *txn) {
  struct mp_conn *conn = txn->lease.conn;
  mp_txn_drop_list(&txn->queue);
  txn->asking = false;
  mp_txn_note(txn, MP_NOTE_ROLLBACK, 0, NULL);
  txn->rollback = (struct mp_req){.sql = "ROLLBACK", .on_done = on_rollback};
  mp_conn_send(conn, &txn->rollback);
  txn->sync = (struct mp_sync){.on_done = on_sync};
  mp_conn_sync(conn, &txn->sync);
  txn->syncs_open++;
  /* The unlock behind a COMMIT that was skipped has been answered with an error: once more. */
  if (txn->options.lock && txn->lock_held) send_unlock(txn);
}
