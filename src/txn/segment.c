/* segment.c: what a transaction sends: segments framed by BEGIN and COMMIT, a lock around them,
 * ROLLBACK. */
#include <string.h>

#include "txn/txn_priv.h"
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
  if (stmt->text->leaves_state && !stmt->control) mp_link_spoil(&txn->link, MP_FATE_CLOSE_AFTER);
  if (txn->work.host->txns->fault)
    mp_fault_answer(txn->work.host->txns->fault, txn, stmt, &result, &err);
  mp_stmt_answer(txn->work.host, stmt, result, err);
  mp_statement_answered(txn->work.host, stmt, txn->work.m->name, mp_members_about(&txn->work));
}

static void on_frame(struct mp_txn *txn, struct mp_result *result, const struct mp_err *err) {
  if (!err || err->code == MP_ECANCELED || txn->frame_failed) return;
  txn->frame_failed = true;
  txn->frame_err = *err;
  mp_failure_clear(&txn->work.failed.failure);
  txn->work.failed.failure.err = *err;
  if (result)
    txn->work.failed.failure.result = mp_result_ref(result); /* a deferred constraint, say */
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
  if (txn->work.host->txns->fault)
    mp_fault_answer(txn->work.host->txns->fault, txn, NULL, &result, &err);
  on_frame(txn, result, err);
  /* COMMIT of a failed transaction succeeds, with the tag ROLLBACK. */
  txn->committed = !err && !strcmp(PQcmdStatus(result->pg), "COMMIT");
}

static void on_rollback(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  struct mp_txn *txn = MP_CONTAINER_OF(req, struct mp_txn, rollback);
  if (err) mp_link_spoil(&txn->link, MP_FATE_CLOSE_NOW);
}

/* ---- segments ---- */

/* The first failure of the batch in the order in which the script wrote it; a failure that calls
 * for a retry comes before all. NULL: none. */
static struct mp_err *first_failure(struct mp_txn *txn) {
  struct mp_failure broken = {0};
  bool found = false;
  txn->work.failed.depth = 0; /* the frame's */
  if (txn->frame_failed && txn->frame_err.flags & MP_ERRF_RETRYABLE) return &txn->frame_err;
  MP_LIST_EACH(node, &txn->batch) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    bool failed = stmt->state == MP_STMT_FAILED && stmt->err.code != MP_ECANCELED;
    if (failed && (!found || stmt->err.flags & MP_ERRF_RETRYABLE)) {
      mp_failure_of_stmt(&txn->work.failed.failure, stmt);
      txn->work.failed.member = stmt->part;
      txn->work.failed.depth = stmt->depth;
      txn->work.failed.by_host = stmt->control;
      found = true;
    } else if (!found && mp_stmt_broken_promise(stmt, &broken)) {
      mp_failure_clear(&txn->work.failed.failure);
      txn->work.failed.failure = broken;
      txn->work.failed.member = stmt->part;
      txn->work.failed.depth = stmt->depth;
      txn->work.failed.by_host = false;
      found = true;
    }
  }
  if (found) return &txn->work.failed.failure.err;
  return txn->frame_failed ? &txn->frame_err : NULL;
}

/* It failed because of where the connection leads: that is not the script's fault, unless it wished
 * only to read. */
static void judge_server(struct mp_txn *txn, struct mp_err *failed) {
  bool discard = false;
  struct mp_conn *conn = mp_link_conn(&txn->link);
  if (txn->work.options.tx.read_only || !conn) return;
  if (mp_health_misled(txn->work.host, txn->work.options.pool, conn, failed, &discard) && discard)
    mp_link_spoil(&txn->link, MP_FATE_CLOSE_AFTER);
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
  if (txn->work.tx.state != MP_TX_OPEN || txn->frame_failed) return false;
  MP_LIST_EACH(node, &txn->batch) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->state != MP_STMT_DONE) return false;
    wanted |= mp_types_want(&txn->question, types, stmt->result);
  }
  if (!wanted) return false;
  txn->question.on_done = on_types;
  mp_types_ask(&txn->question, mp_link_conn(&txn->link));
  return true;
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_txn *txn = MP_CONTAINER_OF(sync, struct mp_txn, sync);
  if (err || result || !ask_types(txn)) segment_answered(txn, result, err);
}

/* Its segment came behind a failed transaction: nothing of it was done. */
static bool was_not_run(const struct mp_txn *txn) {
  return txn->link.behind_failed && txn->frame_failed && !strcmp(txn->frame_err.sqlstate, "25P02");
}

static void segment_answered(struct mp_txn *txn, struct mp_result *result,
                             const struct mp_err *err) {
  if (result &&
      err) { /* it answers, so it is not lost; inside BEGIN and COMMIT this should not come */
    on_frame(txn, result, err);
    txn->committed = false;
    err = NULL;
  }
  bool rolling_back = txn->work.tx.state == MP_TX_ROLLING_BACK;
  bool commit = txn->work.tx.frame.commit && !rolling_back;
  /* The tag of COMMIT decides alone. */
  struct mp_err *failed = err || rolling_back || txn->committed ? NULL : first_failure(txn);
  if (failed) judge_server(txn, failed);
  struct mp_err lost;
  unsigned actions;
  if (!txn->asking) mp_members_note(&txn->work, MP_NOTE_ANSWERED, txn->work.round_trips, NULL);
  if (err || failed) mp_members_note_error(&txn->work, MP_NOTE_FAILED, 0, err ? err : failed);
  if (txn->work.tx.state == MP_TX_COMMITTING) mp_link_expect_nothing(&txn->link);
  if (err) {
    lost = *err;
    if (txn->link.state == MP_LINK_LOST) lost.flags |= MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
    mp_link_spoil(&txn->link, MP_FATE_CLOSE_NOW);
    mp_failure_clear(&txn->work.failed.failure);
    /* Whoever resolves the COMMIT ends its backend. */
    if (txn->work.tx.state != MP_TX_COMMITTING || !txn->work.tx.options.witness)
      mp_link_reap(&txn->link, err);
    if (txn->commit_sent)
      mp_txn_keep_lost(txn);
    else
      settle_batch(txn);
    actions = mp_tx_lost(&txn->work.tx, &lost, txn->commit_sent, mp_work_now(&txn->work));
  } else if (rolling_back) {
    actions = mp_tx_rolled_back(&txn->work.tx, txn->link.fate != MP_FATE_CLOSE_NOW,
                                mp_work_now(&txn->work));
  } else {
    settle_batch(txn);
    actions = was_not_run(txn)
                  ? mp_tx_misplaced(&txn->work.tx, &txn->frame_err)
                  : mp_tx_segment(&txn->work.tx, failed, txn->committed, mp_work_now(&txn->work));
    if (failed) mp_tx_failed_at(&txn->work.tx, txn->work.failed.depth);
  }
  txn->link.behind_failed = false;
  mp_link_answered(&txn->link);
  if (commit) {
    actions = mp_txn_hand_over(txn, err, actions);
    if (txn->committed && txn->link.lock.state == MP_LANE_LOCK_HELD) mp_link_unlock(&txn->link);
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
  mp_conn_send(mp_link_conn(&txn->link), req);
}

static void send_begin(struct mp_txn *txn) {
  struct mp_conn *conn = mp_link_conn(&txn->link);
  if (txn->work.options.lock) mp_link_lock(&txn->link);
  txn->begin = (struct mp_req){.sql = mp_tx_begin_sql(&txn->work.options.tx), .on_done = on_begin};
  mp_conn_send(conn, &txn->begin);
  if (txn->work.m->tenant && !txn->grouped) {
    /* A literal, not set_config(): scripts have no right to that one, and neither have we. */
    txn->set_tenant = (struct mp_req){
        .sql = txn->work.m->set_tenant_sql, .flags = MP_REQ_ONCE, .on_done = on_set_tenant};
    mp_conn_send(conn, &txn->set_tenant);
  }
  if (txn->work.options.statement_timeout_ms)
    send_setting(txn, &txn->set_timeout, txn->timeout_sql, sizeof txn->timeout_sql,
                 "statement_timeout", txn->work.options.statement_timeout_ms, on_set_timeout);
  if (txn->work.options.lock_timeout_ms)
    send_setting(txn, &txn->set_lock_timeout, txn->lock_timeout_sql, sizeof txn->lock_timeout_sql,
                 "lock_timeout", txn->work.options.lock_timeout_ms, on_set_lock_timeout);
  if (mp_txn_witness_unknown(txn)) mp_txn_ask_witness(txn);
  if (mp_member_has_key(txn->work.m)) mp_txn_send_key(txn);
}

static const char *frame_name(const struct mp_txn *txn) {
  if (txn->work.tx.frame.begin) return txn->work.tx.frame.commit ? "begin, commit" : "begin";
  return txn->work.tx.frame.commit ? "commit" : NULL;
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

/* A failure that a spec has ordered, in front of `stmt` (NULL: COMMIT). */
static void send_fault(struct mp_txn *txn, const struct mp_stmt *stmt) {
  struct mp_work *work = &txn->work;
  struct mp_fault *fault = work->host->txns->fault;
  bool due = false;
  if (stmt) {
    struct mp_member *member = stmt->part;
    due = mp_fault_due(fault, &member->fault, stmt, work->tx.attempt);
  } else {
    MP_LIST_EACH(node, &work->members)
    due |= mp_fault_due(fault, &mp_member_at(node)->fault, NULL, work->tx.attempt);
  }
  if (due)
    mp_fault_send(fault, txn, stmt, mp_link_conn(&txn->link), work->host->shared->retries,
                  work->purse);
}

static void send_queued(struct mp_txn *txn, struct mp_stmt *stmt) {
  bool asks = mp_stmt_asks(stmt);
  stmt->state = MP_STMT_SENT;
  stmt->sent_ns = mp_loop_clock_ns(txn->work.host->loop);
  stmt->req.on_done = on_stmt;
  if (txn->work.host->txns->fault) send_fault(txn, stmt);
  mp_conn_send(mp_link_conn(&txn->link), &stmt->req);
  if (asks) return;
  struct mp_member *member = stmt->part;
  mp_flight_statement(member->options.flight, stmt);
  if (stmt == member->savepoint) member->savepoint = NULL;
  txn->work.statements++;
}

static bool leaves_state(const struct mp_txn *txn) {
  MP_LIST_EACH(node, &txn->batch) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->text->leaves_state && !stmt->control) return true;
  }
  return false;
}

/* May another transaction use the connection behind our COMMIT? */
static bool may_lend(const struct mp_txn *txn) {
  return txn->work.calls.committing && !txn->grouped && mp_link_may_lend(&txn->link) &&
         !leaves_state(txn);
}

void mp_txn_send_segment(struct mp_txn *txn) {
  struct mp_conn *conn = mp_link_conn(&txn->link);
  struct mp_list *node;
  bool asked = false;
  txn->frame_failed = txn->committed = txn->commit_sent = txn->work.failed.by_host = false;
  txn->asking = only_asks(&txn->queue);
  if (!txn->asking)
    mp_members_note(&txn->work, MP_NOTE_SENT, txn->work.round_trips + 1, frame_name(txn));
  if (txn->work.tx.frame.begin) send_begin(txn);
  while (!asked && (node = mp_list_pop_front(&txn->queue))) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    mp_list_push_back(&txn->batch, node);
    asked = mp_stmt_asks(stmt);
    send_queued(txn, stmt);
  }
  if (txn->work.tx.frame.commit) {
    bool changed = mp_members_change_data(&txn->work);
    bool witness = changed && mp_txn_witness_there(txn);
    txn->work.tx.options.witness = witness;
    txn->old_backend = (int)mp_link_backend(&txn->link);
    txn->old_opened_ms = mp_conn_opened_ms(conn);
    if (witness && !txn->grouped) mp_txn_send_witness(txn);
    if (txn->work.host->txns->fault) send_fault(txn, NULL);
    txn->commit = (struct mp_req){.sql = "COMMIT", .on_done = on_commit};
    txn->commit_sent = changed && mp_conn_alive(conn); /* else its loss is no matter */
    mp_link_expect(&txn->link, MP_AWAITS_COMMIT, txn->work.host->shared->commit_timeout_ms);
    mp_conn_send(conn, &txn->commit);
  }
  txn->sync = (struct mp_sync){.on_done = on_sync};
  mp_link_sync(&txn->link, &txn->sync);
  if (!txn->asking) txn->work.round_trips++;
  if (!txn->work.tx.frame.commit) return;
  if (may_lend(txn)) txn->work.calls.committing(txn, txn->work.m->data);
  if (txn->work.options.lock && !txn->link.behind) mp_link_unlock(&txn->link);
}

void mp_txn_send_rollback(struct mp_txn *txn) {
  struct mp_conn *conn = mp_link_conn(&txn->link);
  mp_txn_drop_list(&txn->queue);
  txn->asking = false;
  mp_members_note(&txn->work, MP_NOTE_ROLLBACK, 0, NULL);
  txn->rollback = (struct mp_req){.sql = "ROLLBACK", .on_done = on_rollback};
  mp_conn_send(conn, &txn->rollback);
  txn->sync = (struct mp_sync){.on_done = on_sync};
  mp_link_sync(&txn->link, &txn->sync);
  /* The unlock behind a COMMIT that was skipped has been answered with an error: once more. */
  if (txn->work.options.lock && txn->link.lock.state != MP_LANE_LOCK_NONE)
    mp_link_unlock(&txn->link);
}
