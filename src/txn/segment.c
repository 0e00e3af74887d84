#include "txn/segment.h"

#include <string.h>

#include "txn/advance.h"
#include "txn/member.h"
#include "txn/merge.h"
#include "txn/txns.h"
#include "txn/vouch.h"
#include "util/pre.h"
#include "watch/health.h"
#include "watch/statements.h"

static const char *unsound(const void *object) {
  const struct mp_segment *s = object;
  if (s->state == MP_SEGMENT_IDLE && s->only_asks) return "it asks for types";
  if (s->state == MP_SEGMENT_UNDOING && !mp_list_empty(&s->batch)) return "statements were sent";
  return NULL;
}

MP_SM_TABLE(sm, "segment", MP_SEGMENT_MAP, unsound);

/* After a fault the connection is not used again. */
static void move(struct mp_segment *s, enum mp_segment_state to) {
  bool right = mp_sm_may(&sm, s->state, to);
  s->state = to;
  if (!mp_sm_sound(&sm, s, to) || !right) mp_link_spoil(s->link, MP_FATE_CLOSE_NOW);
}

static void send_req(struct mp_segment *s, struct mp_req *req) {
  mp_conn_send(mp_link_conn(s->link), req);
}

/* ---- statements ---- */

void mp_segment_drop(struct mp_list *statements) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(statements))) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->state != MP_STMT_DONE) stmt->state = MP_STMT_FAILED;
    mp_stmt_let_go(stmt);
  }
}

void mp_segment_queue(struct mp_segment *s, struct mp_stmt *stmt) {
  PRE(stmt->state == MP_STMT_QUEUED);
  struct mp_member *m = s->work->m;
  stmt->owner = s;
  stmt->part = m;
  stmt->depth = s->work->tx.savepoints;
  m->changed |= stmt->text->changes_data && !stmt->control;
  mp_list_push_back(&s->queue, &stmt->node);
}

void mp_segment_unseen(struct mp_segment *s, const struct mp_member *member) {
  MP_LIST_EACH(node, &s->queue) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->part == member) mp_stmt_unseen(stmt);
  }
}

void mp_segment_drop_queue(struct mp_segment *s) { mp_segment_drop(&s->queue); }

bool mp_segment_unchecked(const struct mp_segment *s) {
  MP_LIST_EACH(node, &s->queue) {
    if (MP_LIST_ENTRY(node, struct mp_stmt, node)->one) return true;
  }
  return false;
}

bool mp_segment_leaves_state(const struct mp_segment *s) {
  MP_LIST_EACH(node, &s->batch) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->text->leaves_state && !stmt->control) return true;
  }
  return false;
}

static void on_stmt(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_stmt *stmt = MP_CONTAINER_OF(req, struct mp_stmt, req);
  struct mp_segment *s = stmt->owner;
  struct mp_work *work = s->work;
  struct mp_fault *fault = work->host->txns->fault;
  struct mp_err again;
  /* The host's own savepoints end with the transaction. */
  if (stmt->text->leaves_state && !stmt->control) mp_link_spoil(s->link, MP_FATE_CLOSE_AFTER);
  if (fault) mp_fault_answer(fault, work, stmt, &result, &err);
  bool elsewhere = work->merging == MP_MERGE_MOVED || (mp_work_bound(work) && !stmt->control);
  if (elsewhere && mp_vouch_again(work, err, &again)) err = &again;
  mp_stmt_answer(work->host, stmt, result, err);
  mp_statement_answered(work->host, stmt, work->m->name, mp_members_about(work));
}

void mp_segment_settle(struct mp_segment *s) {
  const struct mp_types *types = mp_types_of(s->work->host, s->work->options.pool);
  struct mp_list *node;
  while ((node = mp_list_pop_front(&s->batch))) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->state == MP_STMT_DONE && stmt->result && !stmt->row) /* once for a shared one */
      mp_types_settle(types, stmt->result);
    mp_stmt_let_go(stmt);
  }
}

/* ---- the frame ---- */

static void fail_frame(struct mp_segment *s, struct mp_result *result, const struct mp_err *err) {
  if (!err || err->code == MP_ECANCELED || s->frame_err.code) return;
  struct mp_failure *failure = &s->work->failed.failure;
  s->frame_err = *err;
  mp_failure_clear(failure);
  failure->err = *err;
  if (result) failure->result = mp_result_ref(result); /* a deferred constraint, say */
}

#define FRAME_CALLBACK(name)                                                                      \
  static void on_##name(struct mp_req *req, struct mp_result *result, const struct mp_err *err) { \
    fail_frame(MP_CONTAINER_OF(req, struct mp_segment, name), result, err);                       \
  }
FRAME_CALLBACK(begin)
FRAME_CALLBACK(set_tenant)
FRAME_CALLBACK(set_timeout)
FRAME_CALLBACK(set_lock_timeout)
FRAME_CALLBACK(set_flush)

static void on_witness_failed(struct mp_witness *witness, const struct mp_err *err) {
  fail_frame(MP_CONTAINER_OF(witness, struct mp_segment, witness), NULL, err);
}

static void on_commit(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_segment *s = MP_CONTAINER_OF(req, struct mp_segment, commit);
  struct mp_fault *fault = s->work->host->txns->fault;
  struct mp_err again;
  if (fault) mp_fault_answer(fault, s->work, NULL, &result, &err);
  /* Of several deferred constraints the first that was violated is told. */
  if (s->work->merging == MP_MERGE_MOVED && mp_vouch_again(s->work, err, &again)) err = &again;
  fail_frame(s, result, err);
  /* COMMIT of a failed transaction succeeds, with the tag ROLLBACK. */
  s->committed = !err && !strcmp(PQcmdStatus(result->pg), "COMMIT");
}

static void on_rollback(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  if (err)
    mp_link_spoil(MP_CONTAINER_OF(req, struct mp_segment, rollback)->link, MP_FATE_CLOSE_NOW);
}

/* ---- its end ---- */

static void blame(struct mp_work_failure *failed, const struct mp_stmt *stmt) {
  failed->member = stmt->part;
  failed->depth = stmt->depth;
}

/* The first failure of the batch in the order in which the script wrote it; a failure that calls
 * for a retry comes before all. NULL: none. */
static struct mp_err *first_failure(struct mp_segment *s) {
  struct mp_work_failure *failed = &s->work->failed;
  struct mp_failure broken = {0};
  bool found = false;
  failed->depth = 0; /* the frame's */
  if (s->frame_err.code && s->frame_err.flags & MP_ERRF_RETRYABLE) return &s->frame_err;
  MP_LIST_EACH(node, &s->batch) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    bool fails = stmt->state == MP_STMT_FAILED && stmt->err.code != MP_ECANCELED;
    if (fails && (!found || stmt->err.flags & MP_ERRF_RETRYABLE)) {
      mp_failure_of_stmt(&failed->failure, stmt);
      blame(failed, stmt);
      failed->by_host = stmt->control;
      found = true;
    } else if (!found && mp_stmt_broken_promise(stmt, &broken)) {
      mp_failure_clear(&failed->failure);
      failed->failure = broken;
      if (mp_work_bound(s->work)) mp_vouch_again(s->work, &broken.err, &failed->failure.err);
      blame(failed, stmt);
      failed->by_host = false;
      found = true;
    }
  }
  if (found) return &failed->failure.err;
  return s->frame_err.code ? &s->frame_err : NULL;
}

/* Did it fail because the connection leads to a server that takes no writes? Then another attempt
 * may succeed. Transactions that only read are not concerned. */
static void judge_server(struct mp_segment *s, struct mp_err *failed) {
  struct mp_conn *conn = mp_link_conn(s->link);
  bool discard = false;
  if (s->work->options.tx.read_only || !conn) return;
  if (mp_health_misled(s->work->host, s->work->options.pool, conn, failed, &discard) && discard)
    mp_link_spoil(s->link, MP_FATE_CLOSE_AFTER);
}

static bool was_not_run(const struct mp_segment *s) {
  return s->link->front_failed && !strcmp(s->frame_err.sqlstate, "25P02");
}

/* The shared flush must know of all work that it has to cover. */
static void tell_flush(struct mp_segment *s, bool lost) {
  struct mp_wal_flush *flush = mp_work_wal_flush(s->work);
  if (!flush || s->commit_state == MP_COMMIT_NONE) return;
  switch (s->work->tx.flush) {
    case MP_TX_FLUSHES_LATER:
      if (lost)
        mp_wal_flush_astray(&s->work->flush);
      else
        mp_wal_flush_answered(flush);
      break;
    case MP_TX_FLUSHES:
      if (s->committed) mp_wal_flush_own(flush, &s->work->flush);
      break;
    case MP_TX_CHANGES_NOTHING: break;
  }
}

static void end(struct mp_segment *s, const struct mp_err *lost) {
  struct mp_segment_end e = {.commit = s->commit_state, .committed = s->committed};
  bool undoing = s->state == MP_SEGMENT_UNDOING;
  /* The tag of COMMIT decides alone. */
  struct mp_err *failed = lost || undoing || s->committed ? NULL : first_failure(s);
  if (failed) judge_server(s, failed);
  if (lost || failed) e.err = lost ? *lost : *failed;
  if (lost)
    e.how = MP_END_LOST;
  else if (undoing)
    e.how = MP_END_ROLLED_BACK;
  else if (failed)
    e.how = was_not_run(s) ? MP_END_NOT_RUN : MP_END_FAILED;
  if (!s->only_asks && !undoing)
    mp_members_note(s->work, MP_NOTE_ANSWERED, s->work->round_trips, NULL);
  if (e.err.code) mp_members_note_error(s->work, MP_NOTE_FAILED, 0, &e.err);
  if (!lost) mp_segment_settle(s);
  tell_flush(s, lost);
  s->only_asks = false;
  s->link->front_failed = false;
  move(s, MP_SEGMENT_IDLE);
  mp_link_answered(s->link);
  s->on_end(s, &e);
}

static void on_types(struct mp_types_question *question, const struct mp_err *lost) {
  struct mp_segment *s = MP_CONTAINER_OF(question, struct mp_segment, question);
  if (!lost && question->err.code) fail_frame(s, NULL, &question->err);
  end(s, lost);
}

/* Before the script goes on: are there types among the results that are not known? Not behind a
 * failure, which has ended the transaction, nor behind COMMIT, when the connection may be
 * another's. */
static bool ask_types(struct mp_segment *s) {
  struct mp_types *types = mp_types_of(s->work->host, s->work->options.pool);
  bool wanted = false;
  s->question.count = 0;
  if (s->work->tx.state != MP_TX_OPEN || s->frame_err.code) return false;
  MP_LIST_EACH(node, &s->batch) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (stmt->state != MP_STMT_DONE) return false;
    if (!stmt->row) wanted |= mp_types_want(&s->question, types, stmt->result);
  }
  if (!wanted) return false;
  move(s, MP_SEGMENT_TYPES);
  s->question.on_done = on_types;
  mp_types_ask(&s->question, mp_link_conn(s->link));
  return true;
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_segment *s = MP_CONTAINER_OF(sync, struct mp_segment, sync);
  if (err &&
      result) { /* it answers, so it is not lost; inside BEGIN and COMMIT this should not come */
    fail_frame(s, result, err);
    s->committed = false;
    end(s, NULL);
  } else if (err || !ask_types(s)) {
    end(s, err);
  }
}

/* ---- sending ---- */

/* SET LOCAL: it ends with the transaction. */
static void send_setting(struct mp_segment *s, struct mp_req *req, char *sql, size_t size,
                         const char *name, uint64_t ms,
                         void (*on_done)(struct mp_req *, struct mp_result *,
                                         const struct mp_err *)) {
  snprintf(sql, size, "SET LOCAL %s = %llu", name, (unsigned long long)ms);
  *req = (struct mp_req){.sql = sql, .flags = MP_REQ_ONCE, .on_done = on_done};
  send_req(s, req);
}

static void send_begin(struct mp_segment *s) {
  const struct mp_work *work = s->work;
  const struct mp_txn_options *o = &work->options;
  if (o->lock) mp_link_lock(s->link);
  s->begin = (struct mp_req){.sql = mp_tx_begin_sql(&o->tx), .on_done = on_begin};
  send_req(s, &s->begin);
  if (work->m->set_tenant_sql && !mp_work_grouped(work)) {
    /* A literal, not set_config(): scripts have no right to that one, and neither have we. */
    s->set_tenant = (struct mp_req){
        .sql = work->m->set_tenant_sql, .flags = MP_REQ_ONCE, .on_done = on_set_tenant};
    send_req(s, &s->set_tenant);
  }
  if (o->statement_timeout_ms)
    send_setting(s, &s->set_timeout, s->timeout_sql, sizeof s->timeout_sql, "statement_timeout",
                 o->statement_timeout_ms, on_set_timeout);
  if (o->lock_timeout_ms)
    send_setting(s, &s->set_lock_timeout, s->lock_timeout_sql, sizeof s->lock_timeout_sql,
                 "lock_timeout", o->lock_timeout_ms, on_set_lock_timeout);
  if (mp_witness_unknown(work)) mp_witness_ask(&s->witness, mp_link_conn(s->link));
  if (mp_member_has_key(work->m)) mp_witness_claim_key(&s->witness, mp_link_conn(s->link));
}

/* A question for types ends its segment, because the script waits for the answer. Is it all that is
 * sent now? */
static bool only_asks(const struct mp_list *queue) {
  MP_LIST_EACH(node, queue) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (mp_stmt_asks(stmt)) return true;
    if (!stmt->control) return false;
  }
  return false;
}

/* A failure that a spec has ordered, in front of `stmt` (NULL: COMMIT). */
static void send_fault(struct mp_segment *s, const struct mp_stmt *stmt) {
  struct mp_work *work = s->work;
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
    mp_fault_send(fault, work, stmt, mp_link_conn(s->link), work->host->shared->retries,
                  work->purse);
}

/* Notes the statement as sent. */
static void note_stmt(struct mp_segment *s, struct mp_stmt *stmt) {
  struct mp_work *work = s->work;
  stmt->state = MP_STMT_SENT;
  stmt->sent_ns = mp_loop_clock_ns(work->host->loop);
  if (work->host->txns->fault) send_fault(s, stmt);
}

/* The flight has it, and it counts. */
static void count_stmt(struct mp_segment *s, struct mp_stmt *stmt, unsigned rows) {
  struct mp_member *member = stmt->part;
  mp_flight_statement(member->options.flight, stmt, rows);
  if (stmt == member->savepoint) member->savepoint = NULL;
  member->wrote |= stmt->text->changes_data && !stmt->control;
  s->work->statements++;
}

static void send_stmt(struct mp_segment *s, struct mp_stmt *stmt) {
  const struct mp_member *member = stmt->part;
  if (mp_stmt_asks(stmt) && stmt->text->many && member->options.merge)
    mp_vouch_ask(s->work, mp_link_conn(s->link), stmt->text, &s->frame_err);
  stmt->req.on_done = on_stmt;
  send_req(s, &stmt->req);
  if (!mp_stmt_asks(stmt)) count_stmt(s, stmt, 1);
}

/* The statements at the head of the queue that go as one, mostly a single one. */
static struct mp_stmt *send_next(struct mp_segment *s) {
  unsigned n = mp_merge_count(s->work, &s->queue);
  struct mp_stmt *first = MP_LIST_ENTRY(s->queue.next, struct mp_stmt, node);
  for (unsigned i = 0; i < n; i++) {
    struct mp_list *node = mp_list_pop_front(&s->queue);
    mp_list_push_back(&s->batch, node);
    note_stmt(s, MP_LIST_ENTRY(node, struct mp_stmt, node));
  }
  struct mp_conn *conn = mp_link_conn(s->link);
  if (n > 1 && mp_merge_send(s->work, conn, first, n, s->number, &s->frame_err)) {
    count_stmt(s, first, n);
    return first;
  }
  struct mp_list *node = &first->node;
  for (unsigned i = 0; i < n; i++, node = node->next)
    send_stmt(s, MP_LIST_ENTRY(node, struct mp_stmt, node));
  return first;
}

/* What the transaction has changed or seen may be flushed by its COMMIT, or later. Without a
 * witness a lost flush could not be resolved, so such work always flushes by itself. */
static void choose_flush(struct mp_segment *s, bool changed) {
  struct mp_work *work = s->work;
  struct mp_wal_flush *flush = mp_work_wal_flush(work);
  bool shared = changed && work->options.shared_flush && work->tx.options.witness;
  work->tx.flush = changed ? MP_TX_FLUSHES : MP_TX_CHANGES_NOTHING;
  if (!flush) return;
  bool there = mp_wal_flush_note(flush, &work->flush, mp_link_conn(s->link), shared);
  if (!shared || !there) return;
  work->tx.flush = MP_TX_FLUSHES_LATER;
  s->set_flush =
      (struct mp_req){.sql = "SET LOCAL synchronous_commit = off", .on_done = on_set_flush};
  send_req(s, &s->set_flush);
  mp_wal_flush_sent(flush);
}

static void send_commit(struct mp_segment *s) {
  struct mp_work *work = s->work;
  bool changed = mp_members_change_data(work);
  /* In a group with savepoints each member has sent its own. */
  work->tx.options.witness = changed && mp_witness_there(work);
  if (work->tx.options.witness && (!mp_work_grouped(work) || mp_work_bound(work)))
    mp_witness_send(&s->witness, mp_link_conn(s->link));
  choose_flush(s, changed);
  if (work->host->txns->fault) send_fault(s, NULL);
  s->commit = (struct mp_req){.sql = "COMMIT", .on_done = on_commit};
  s->commit_state =
      changed && mp_conn_alive(mp_link_conn(s->link)) ? MP_COMMIT_SENT : MP_COMMIT_HARMLESS;
  mp_link_expect(s->link, MP_AWAITS_COMMIT, work->host->shared->commit_timeout_ms);
  send_req(s, &s->commit);
}

static const char *frame_name(const struct mp_tx *tx) {
  if (tx->frame.begin) return tx->frame.commit ? "begin, commit" : "begin";
  return tx->frame.commit ? "commit" : NULL;
}

static void begin_segment(struct mp_segment *s) {
  s->frame_err = (struct mp_err){0};
  s->committed = false;
  s->commit_state = MP_COMMIT_NONE;
}

void mp_segment_send(struct mp_segment *s) {
  struct mp_work *work = s->work;
  const struct mp_tx *tx = &work->tx;
  bool asked = false;
  PRE(s->state == MP_SEGMENT_IDLE && mp_list_empty(&s->batch));
  begin_segment(s);
  work->failed.by_host = false;
  s->number = ++work->host->txns->segments;
  s->only_asks = only_asks(&s->queue);
  move(s, MP_SEGMENT_SENT);
  if (!s->only_asks) mp_members_note(work, MP_NOTE_SENT, work->round_trips + 1, frame_name(tx));
  if (tx->frame.begin) send_begin(s);
  mp_advance(work, mp_link_conn(s->link), &s->queue, s->number, &s->frame_err);
  while (!asked && mp_segment_queued(s)) asked = mp_stmt_asks(send_next(s));
  if (tx->frame.commit) send_commit(s);
  s->sync = (struct mp_sync){.on_done = on_sync};
  mp_link_sync(s->link, &s->sync);
  if (!s->only_asks) work->round_trips++;
}

void mp_segment_send_rollback(struct mp_segment *s) {
  struct mp_wal_flush *flush = mp_work_wal_flush(s->work);
  mp_segment_drop_queue(s);
  begin_segment(s);
  move(s, MP_SEGMENT_UNDOING);
  mp_members_note(s->work, MP_NOTE_ROLLBACK, 0, NULL);
  if (flush) (void)mp_wal_flush_note(flush, &s->work->flush, mp_link_conn(s->link), false);
  s->rollback = (struct mp_req){.sql = "ROLLBACK", .on_done = on_rollback};
  send_req(s, &s->rollback);
  s->sync = (struct mp_sync){.on_done = on_sync};
  mp_link_sync(s->link, &s->sync);
}

/* ---- life ---- */

void mp_segment_init(struct mp_segment *s, struct mp_work *work, struct mp_link *link,
                     void (*on_end)(struct mp_segment *segment, const struct mp_segment_end *end)) {
  s->work = work;
  s->link = link;
  s->on_end = on_end;
  s->witness.work = work;
  s->witness.on_failed = on_witness_failed;
  mp_list_init(&s->queue);
  mp_list_init(&s->batch);
}

void mp_segment_fini(struct mp_segment *s) {
  PRE(s->state == MP_SEGMENT_IDLE);
  mp_segment_drop(&s->queue);
  mp_segment_drop(&s->batch);
}
