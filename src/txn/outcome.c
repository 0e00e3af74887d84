#include "txn/outcome.h"

#include <stdlib.h>
#include <string.h>

#include "pool/reap.h"
#include "txn/member.h"
#include "txn/reread.h"
#include "txn/segment.h"
#include "util/pre.h"

static const char *unsound(const void *object) {
  const struct mp_outcome *o = object;
  return (o->state == MP_OUTCOME_IDLE) == (o->question != NULL) ? "the question is not what fits"
                                                                : NULL;
}

MP_SM_TABLE(sm, "outcome", MP_OUTCOME_MAP, unsound);

static void move(struct mp_outcome *o, enum mp_outcome_state to) {
  bool right = mp_sm_may(&sm, o->state, to);
  o->state = to;
  if (!mp_sm_sound(&sm, o, to) || !right) mp_link_spoil(o->link, MP_FATE_CLOSE_NOW);
}

struct mp_question {
  struct mp_outcome *outcome;
  struct mp_req end_old, begin, set_id, set_patience, claim, read, set_key, read_key, commit;
  struct mp_sync end_sync, sync;
  struct mp_reap_values old;
  char set_id_sql[80];
  const char *claim_values[3], *key_value[1];
  bool committed; /* the question's own transaction */
  enum { WITNESS_NOT_ASKED, WITNESS_ABSENT, WITNESS_VOID, WITNESS_STORED } witness;
  enum { KEY_UNUSED, KEY_USED, KEY_OF_OTHER_INPUT } key;
  char *stored; /* the key's result */
  struct mp_err err;
  struct mp_reread reread;
};

static void free_question(struct mp_outcome *o) {
  struct mp_question *q = o->question;
  if (!q) return;
  mp_reread_fini(&q->reread);
  free(q->stored);
  free(q);
  o->question = NULL;
}

static void end(struct mp_outcome *o, const struct mp_outcome_end *e) {
  mp_link_expect_nothing(o->link);
  free_question(o);
  move(o, MP_OUTCOME_IDLE);
  o->on_end(o, e);
}

static void end_known(struct mp_outcome *o, enum mp_tx_verdict verdict, const struct mp_err *why) {
  struct mp_outcome_end e = {.how = MP_OUTCOME_KNOWN, .verdict = verdict};
  if (why) e.err = *why;
  end(o, &e);
}

static void end_lost(struct mp_outcome *o, const struct mp_err *err) {
  struct mp_outcome_end e = {.how = MP_OUTCOME_LOST, .err = *err};
  mp_link_spoil(o->link, MP_FATE_CLOSE_NOW);
  end(o, &e);
}

/* ---- the answers ---- */

static void note_error(struct mp_question *q, const struct mp_err *err) {
  if (err && err->code != MP_ECANCELED && !q->err.code) q->err = *err;
}

#define NOTE_CALLBACK(name)                                                                       \
  static void on_##name(struct mp_req *req, struct mp_result *result, const struct mp_err *err) { \
    (void)result;                                                                                 \
    note_error(MP_CONTAINER_OF(req, struct mp_question, name), err);                              \
  }
NOTE_CALLBACK(begin)
NOTE_CALLBACK(set_id)
NOTE_CALLBACK(set_patience)
NOTE_CALLBACK(claim)
NOTE_CALLBACK(set_key)

static void on_end_old(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)req; /* it only saves time */
  (void)result;
  (void)err;
}

static void on_end_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  (void)err; /* the sync behind reports a lost connection */
  mp_link_answered(MP_CONTAINER_OF(sync, struct mp_question, end_sync)->outcome->link);
}

static void on_read(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_question *q = MP_CONTAINER_OF(req, struct mp_question, read);
  note_error(q, err);
  if (err || PQntuples(result->pg) != 1) return;
  q->witness = *PQgetvalue(result->pg, 0, 0) == 't' ? WITNESS_VOID : WITNESS_STORED;
}

static void on_read_key(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_question *q = MP_CONTAINER_OF(req, struct mp_question, read_key);
  note_error(q, err);
  if (err || !PQntuples(result->pg)) return;
  const char *hash = PQgetvalue(result->pg, 0, 0);
  bool same = !strcmp(hash, q->outcome->work->m->key.input_hash);
  q->key = same ? KEY_USED : KEY_OF_OTHER_INPUT;
  if (PQgetisnull(result->pg, 0, 1)) return;
  q->stored = strdup(PQgetvalue(result->pg, 0, 1));
  if (q->stored) return;
  struct mp_err fault;
  mp_err_set(&fault, MP_ENOMEM, "no memory for the result that is stored under the key");
  note_error(q, &fault);
}

static void on_commit(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_question *q = MP_CONTAINER_OF(req, struct mp_question, commit);
  note_error(q, err);
  q->committed = !err && !strcmp(PQcmdStatus(result->pg), "COMMIT");
}

/* ---- what they mean ---- */

/* The question itself failed. */
static void question_failed(struct mp_question *q) {
  struct mp_outcome *o = q->outcome;
  struct mp_err fault = q->err;
  if (!fault.code)
    mp_err_set(&fault, MP_EINTERNAL, "the witness was answered with ROLLBACK instead of COMMIT");
  if (q->witness != WITNESS_NOT_ASKED || fault.flags & MP_ERRF_RETRYABLE) {
    end_lost(o, &fault);
    return;
  }
  if (mp_witness_table_gone(&fault)) /* a key, and no table for it */
    mp_err_set(
        &fault, MP_EINVAL,
        "the database has no table moonpool.witness, which keys need: run `moonpool migrate`");
  end_known(o, MP_TX_REFUSED, &fault);
}

static void refuse_key(struct mp_outcome *o) {
  struct mp_failure *failure = &o->work->failed.failure;
  struct mp_err fault;
  mp_err_set(&fault, MP_EINVAL,
             "the key was used before, for another input: a key stands for one call");
  strcpy(fault.name, "IDEMPOTENCY_KEY_REUSED");
  mp_failure_clear(failure);
  failure->err = fault;
  end_known(o, MP_TX_REFUSED, &fault);
}

static void recall(struct mp_question *q) {
  struct mp_member_key *key = &q->outcome->work->m->key;
  free(key->stored);
  key->result = MP_KEY_RECALLED;
  key->stored = q->stored;
  q->stored = NULL;
}

static void judge(struct mp_question *q) {
  struct mp_outcome *o = q->outcome;
  if (q->witness == WITNESS_STORED) {
    if (mp_reread_start(&q->reread, &o->lost))
      move(o, MP_OUTCOME_READING);
    else
      end_known(o, MP_TX_DONE, NULL);
    return;
  }
  switch (q->key) {
    case KEY_UNUSED: end_known(o, MP_TX_NOT_DONE, NULL); return;
    case KEY_OF_OTHER_INPUT: refuse_key(o); return;
    case KEY_USED: break;
  }
  recall(q);
  end_known(o, MP_TX_DONE, NULL);
}

static void on_reread(struct mp_reread *reread, const struct mp_err *lost) {
  struct mp_outcome *o = MP_CONTAINER_OF(reread, struct mp_question, reread)->outcome;
  if (lost)
    end_lost(o, lost);
  else
    end_known(o, MP_TX_DONE, NULL);
}

/* The lost COMMIT did not flush. The question must: it writes in any case, or its own COMMIT would
 * not flush what it has found, nor wait for standbys. */
static bool unflushed(const struct mp_outcome *o) {
  return o->work->tx.flush == MP_TX_FLUSHES_LATER;
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_question *q = MP_CONTAINER_OF(sync, struct mp_question, sync);
  struct mp_outcome *o = q->outcome;
  struct mp_wal_flush *flush = mp_work_wal_flush(o->work);
  mp_link_answered(o->link);
  if (flush && q->committed && q->witness != WITNESS_NOT_ASKED && unflushed(o))
    mp_wal_flush_own(flush, &o->work->flush);
  if (err && !result)
    end_lost(o, err);
  else if (q->err.code || err || !q->committed)
    question_failed(q);
  else if (o->work->tx.state != MP_TX_RESOLVING) /* the deadline was faster */
    end_known(o, MP_TX_NOT_DONE, NULL);
  else
    judge(q);
}

/* ---- asking ---- */

static void send_req(struct mp_question *q, struct mp_req *req) {
  mp_conn_send(mp_link_conn(q->outcome->link), req);
}

/* Ends the backend of the lost transaction, if it still runs. */
static void end_old(struct mp_question *q) {
  struct mp_outcome *o = q->outcome;
  mp_reap_values(&q->old, o->old_backend, mp_work_now_ms(o->work) - o->old_opened_ms);
  q->end_old = (struct mp_req){.sql = MP_REAP_SQL,
                               .nparams = 2,
                               .values = q->old.values,
                               .flags = MP_REQ_ONCE,
                               .on_done = on_end_old};
  send_req(q, &q->end_old);
  q->end_sync = (struct mp_sync){.on_done = on_end_sync};
  mp_link_sync(o->link, &q->end_sync);
}

#define CLAIM                                                                             \
  "insert into moonpool.witness (id, operation, tenant, void) values ($1, $2, $3, true) " \
  "on conflict (id) do "

static void ask_witness(struct mp_question *q) {
  const struct mp_outcome *o = q->outcome;
  const char *id = o->witness->id;
  q->witness = WITNESS_ABSENT;
  snprintf(q->set_id_sql, sizeof q->set_id_sql, "SET LOCAL moonpool.witness = '%s'", id);
  q->set_id = (struct mp_req){.sql = q->set_id_sql, .flags = MP_REQ_ONCE, .on_done = on_set_id};
  send_req(q, &q->set_id);
  /* The lost transaction may hold the id for long: a server that answers says so before its time is
   * over, and is asked again. */
  q->set_patience = (struct mp_req){
      .sql = "SET LOCAL lock_timeout = 1000", .flags = MP_REQ_ONCE, .on_done = on_set_patience};
  send_req(q, &q->set_patience);
  q->claim_values[0] = id;
  q->claim_values[1] = o->work->m->name;
  q->claim_values[2] = o->work->m->tenant;
  q->claim = (struct mp_req){
      .sql = unflushed(o) ? CLAIM "update set result = witness.result" : CLAIM "nothing",
      .nparams = 3,
      .values = q->claim_values,
      .on_done = on_claim};
  send_req(q, &q->claim);
  q->read = (struct mp_req){.sql = "select void from moonpool.witness where id = $1",
                            .nparams = 1,
                            .values = q->claim_values,
                            .on_done = on_read};
  send_req(q, &q->read);
}

static void ask_key(struct mp_question *q) {
  const struct mp_member_key *key = &q->outcome->work->m->key;
  q->set_key = (struct mp_req){.sql = key->set_sql, .flags = MP_REQ_ONCE, .on_done = on_set_key};
  send_req(q, &q->set_key);
  q->key_value[0] = key->id;
  q->read_key = (struct mp_req){
      .sql = "select coalesce(input_hash, ''), result from moonpool.witness where id = $1",
      .nparams = 1,
      .values = q->key_value,
      .on_done = on_read_key};
  send_req(q, &q->read_key);
}

int mp_outcome_ask(struct mp_outcome *o, struct mp_err *err) {
  PRE(o->state == MP_OUTCOME_IDLE && !o->question);
  struct mp_question *q = calloc(1, sizeof *q);
  if (!q)
    return mp_err_set(err, MP_ENOMEM, "no memory to find out what became of %s", o->work->m->name);
  o->question = q;
  q->outcome = o;
  q->reread = (struct mp_reread){.work = o->work, .link = o->link, .on_done = on_reread};
  move(o, MP_OUTCOME_ASKING);
  if (o->work->tx.in_doubt && o->old_backend) end_old(q);
  q->begin = (struct mp_req){.sql = "BEGIN ISOLATION LEVEL READ COMMITTED", .on_done = on_begin};
  send_req(q, &q->begin);
  if (o->work->tx.in_doubt) ask_witness(q);
  if (mp_member_has_key(o->work->m)) ask_key(q);
  struct mp_wal_flush *flush = mp_work_wal_flush(o->work);
  if (flush) (void)mp_wal_flush_note(flush, &o->work->flush, mp_link_conn(o->link), false);
  q->commit = (struct mp_req){.sql = "COMMIT", .on_done = on_commit};
  send_req(q, &q->commit);
  mp_link_expect(o->link, MP_AWAITS_QUESTION, mp_work_question_ms(o->work));
  q->sync = (struct mp_sync){.on_done = on_sync};
  mp_link_sync(o->link, &q->sync);
  return 0;
}

/* ---- what is kept for it ---- */

void mp_outcome_note_connection(struct mp_outcome *o) {
  o->old_backend = (int)mp_link_backend(o->link);
  o->old_opened_ms = mp_conn_opened_ms(mp_link_conn(o->link));
}

void mp_outcome_forget_connection(struct mp_outcome *o) { o->old_backend = 0; }

/* Only inserts have rows that can be lost: `one` is answered before COMMIT, exec gives no row. */
static bool worth_keeping(const struct mp_stmt *stmt) {
  return stmt->state == MP_STMT_FAILED && stmt->refs > 1 && stmt->text->table && !stmt->unseen;
}

void mp_outcome_keep(struct mp_outcome *o, struct mp_list *statements) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(statements))) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (worth_keeping(stmt))
      mp_list_push_back(&o->lost, node);
    else
      mp_stmt_let_go(stmt);
  }
}

void mp_outcome_forget(struct mp_outcome *o) { mp_segment_drop(&o->lost); }

void mp_outcome_init(struct mp_outcome *o, struct mp_work *work, struct mp_link *link,
                     const struct mp_witness *witness,
                     void (*on_end)(struct mp_outcome *outcome, const struct mp_outcome_end *end)) {
  o->work = work;
  o->link = link;
  o->witness = witness;
  o->on_end = on_end;
  mp_list_init(&o->lost);
}

void mp_outcome_fini(struct mp_outcome *o) {
  mp_outcome_forget(o);
  free_question(o);
}
