/* outcome.c: is the work committed already? Witnesses, lost COMMITs and keys.
 *
 * A transaction that changes something stores a row with it, its witness, under an id that the host
 * chose. When the answer to COMMIT is lost, another connection inserts a row of the same id that
 * says "void", in a transaction of its own: the unique index waits for the lost transaction if that
 * is still at it, and then the id belongs to one of the two for ever. The row that is there tells
 * which. pg_xact_status could not: after a crash the server gives numbers of lost transactions
 * anew.
 *
 * A key's row is the same with an id made from the key: claimed in front of the attempt's
 * statements, it makes a second call under the key wait, and it keeps the result. */
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "pool/reap.h"
#include "txn/txn_priv.h"
#include "util/log.h"

/* How long to wait before a missing table is looked for again: somebody may have migrated. */
#define ASK_AGAIN_MS 60000

enum { QUESTION_MS = 2000, QUESTION_LEAST_MS = 250 }; /* for the answer to one question */

/* ---- what an attempt sends ---- */

static struct mp_err witness_fault(const struct mp_err *err, bool retry) {
  struct mp_err fault = *err;
  if (retry) fault.flags |= MP_ERRF_RETRYABLE;
  return fault;
}

/* The frame of the segment has failed with it. */
static void fail_frame(struct mp_txn *txn, const struct mp_err *err) {
  if (err->code == MP_ECANCELED || txn->frame_failed) return;
  txn->frame_failed = true;
  txn->frame_err = *err;
  mp_failure_clear(&txn->work.failed.failure);
  txn->work.failed.failure.err = *err;
}

static bool table_is_gone(const struct mp_err *err) {
  return !strcmp(err->sqlstate, "42P01") || !strcmp(err->sqlstate, "3F000") ||
         !strcmp(err->sqlstate, "42501");
}

static void set_missing(struct mp_txn *txn) {
  struct mp_pool_witness *witness = mp_pool_witness(txn->work.options.pool);
  bool first = witness->table != MP_WITNESS_MISSING && !witness->asked_ms;
  /* Of another database that a script has opened nobody expects it. */
  if (first && txn->work.options.pool == txn->work.host->pool)
    mp_log(
        MP_LOG_WARN, "host",
        "the database has no table moonpool.witness that this role may write: a COMMIT whose answer is lost "
        "cannot be resolved, and idempotency keys are refused; run `moonpool migrate`");
  witness->table = MP_WITNESS_MISSING;
  witness->asked_ms = mp_loop_now_ms(txn->work.host->loop);
}

static void on_asked(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_txn *txn = MP_CONTAINER_OF(req, struct mp_txn, asks_witness);
  if (err)
    fail_frame(txn, err);
  else if (*PQgetvalue(result->pg, 0, 0) == 't')
    mp_pool_witness(txn->work.options.pool)->table = MP_WITNESS_THERE;
  else
    set_missing(txn);
}

bool mp_txn_witness_unknown(const struct mp_txn *txn) {
  const struct mp_pool_witness *witness = mp_pool_witness(txn->work.options.pool);
  if (!txn->work.options.tx.witness) return false;
  if (witness->table == MP_WITNESS_MISSING)
    return mp_loop_now_ms(txn->work.host->loop) >= witness->asked_ms + ASK_AGAIN_MS;
  return witness->table == MP_WITNESS_UNKNOWN;
}

bool mp_txn_witness_there(const struct mp_txn *txn) {
  return txn->work.options.tx.witness &&
         mp_pool_witness(txn->work.options.pool)->table == MP_WITNESS_THERE;
}

void mp_txn_ask_witness(struct mp_txn *txn) {
  txn->asks_witness =
      (struct mp_req){.sql =
                          "select case when to_regclass('moonpool.witness') is null then false "
                          "else has_table_privilege(to_regclass('moonpool.witness'), 'insert') end",
                      .flags = MP_REQ_ONCE,
                      .on_done = on_asked};
  mp_conn_send(mp_link_conn(&txn->link), &txn->asks_witness);
}

static void on_witness(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_txn *txn = MP_CONTAINER_OF(req, struct mp_txn, witness);
  (void)result;
  if (!err) return;
  bool gone = table_is_gone(err); /* since it was looked for: the next attempt does without */
  if (gone) set_missing(txn);
  struct mp_err fault = witness_fault(err, gone);
  fail_frame(txn, &fault);
}

void mp_txn_send_witness(struct mp_txn *txn) {
  mp_uuid_new(txn->work.host->loop, txn->witness_id);
  txn->witness_values[0] = txn->witness_id;
  txn->witness_values[1] = txn->work.m->name;
  txn->witness_values[2] = txn->work.m->tenant;
  txn->witness = (struct mp_req){
      .sql = "insert into moonpool.witness (id, operation, tenant) values ($1, $2, $3)",
      .nparams = 3,
      .values = txn->witness_values,
      .on_done = on_witness};
  mp_conn_send(mp_link_conn(&txn->link), &txn->witness);
}

static void on_set_key(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  if (err) fail_frame(MP_CONTAINER_OF(req, struct mp_txn, set_key), err);
}

/* Somebody else has committed under the key since we asked: the next attempt finds what he
 * stored. */
static void on_claim(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_txn *txn = MP_CONTAINER_OF(req, struct mp_txn, claim_key);
  (void)result;
  if (!err) return;
  struct mp_err fault = witness_fault(err, !strcmp(err->sqlstate, "23505"));
  fail_frame(txn, &fault);
}

void mp_txn_send_key(struct mp_txn *txn) {
  static const char sql[] =
      "insert into moonpool.witness (id, operation, tenant, input_hash) values ($1, $2, $3, $4)";
  txn->set_key =
      (struct mp_req){.sql = txn->work.m->key.set_sql, .flags = MP_REQ_ONCE, .on_done = on_set_key};
  mp_conn_send(mp_link_conn(&txn->link), &txn->set_key);
  txn->claim_values[0] = txn->work.m->key.id;
  txn->claim_values[1] = txn->work.m->name;
  txn->claim_values[2] = txn->work.m->tenant;
  txn->claim_values[3] = txn->work.m->key.input_hash;
  txn->claim_key =
      (struct mp_req){.sql = sql, .nparams = 4, .values = txn->claim_values, .on_done = on_claim};
  mp_conn_send(mp_link_conn(&txn->link), &txn->claim_key);
}

/* ---- after a lost COMMIT: rows that the script gave back and nobody has seen ---- */

/* Only inserts can be lost: a `one` is seen before COMMIT, of an exec nobody sees anything. */
static bool worth_keeping(const struct mp_stmt *stmt) {
  return stmt->state == MP_STMT_FAILED && stmt->refs > 1 && stmt->text->table;
}

void mp_txn_keep_lost(struct mp_txn *txn) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(&txn->batch))) {
    struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    if (worth_keeping(stmt)) {
      mp_list_push_back(&txn->lost, node);
    } else {
      mp_stmt_let_go(stmt);
    }
  }
}

#define MAX_KEY_COLUMNS 8

/* One lost row: asked for its table's primary key, then read again by it. */
struct reread {
  struct mp_req req;
  struct mp_stmt *stmt; /* on txn->lost */
  const char *table[1];
  const char *values[MAX_KEY_COLUMNS];
  int nvalues;
  const char *why; /* it cannot be read again; static text */
  struct mp_buf sql;
};

/* ---- the question ---- */

struct mp_resolve {
  struct mp_txn *txn;
  struct mp_req end_old, begin, set_id, set_patience, claim, look, set_key, look_key, set_tenant,
      commit;
  struct mp_sync end_sync, sync;
  struct mp_reap_values old;
  char set_id_sql[80];
  const char *claim_values[3], *key_value[1];
  bool asked_witness, committed, found_void, found;
  bool key_found, key_refused;
  char *stored; /* the key's result */
  struct mp_err err;
  struct reread *rereads;
  size_t nrereads;
};

static void free_resolve(struct mp_txn *txn) {
  struct mp_resolve *r = txn->resolve;
  if (!r) return;
  for (size_t i = 0; i < r->nrereads; i++) mp_buf_fini(&r->rereads[i].sql);
  free(r->rereads);
  free(r->stored);
  free(r);
  txn->resolve = NULL;
}

static void note_error(struct mp_resolve *r, const struct mp_err *err) {
  if (err && err->code != MP_ECANCELED && !r->err.code) r->err = *err;
}

#define NOTE_CALLBACK(name)                                                                       \
  static void on_##name(struct mp_req *req, struct mp_result *result, const struct mp_err *err) { \
    (void)result;                                                                                 \
    note_error(MP_CONTAINER_OF(req, struct mp_resolve, name), err);                               \
  }
NOTE_CALLBACK(begin)
NOTE_CALLBACK(set_id)
NOTE_CALLBACK(set_patience)
NOTE_CALLBACK(set_tenant)

static void on_resolve_set_key(struct mp_req *req, struct mp_result *result,
                               const struct mp_err *err) {
  (void)result;
  note_error(MP_CONTAINER_OF(req, struct mp_resolve, set_key), err);
}

static void on_claim_void(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  note_error(MP_CONTAINER_OF(req, struct mp_resolve, claim), err);
}

static void on_end_old(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)req; /* it would only have saved time */
  (void)result;
  (void)err;
}

static void on_end_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  (void)err; /* a lost connection is told by the segment behind */
  mp_link_answered(&MP_CONTAINER_OF(sync, struct mp_resolve, end_sync)->txn->link);
}

static void on_look(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_resolve *r = MP_CONTAINER_OF(req, struct mp_resolve, look);
  note_error(r, err);
  if (err || PQntuples(result->pg) != 1) return;
  r->found = true;
  r->found_void = *PQgetvalue(result->pg, 0, 0) == 't';
}

static void on_look_key(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_resolve *r = MP_CONTAINER_OF(req, struct mp_resolve, look_key);
  note_error(r, err);
  if (err || !PQntuples(result->pg)) return;
  const char *hash = PQgetvalue(result->pg, 0, 0);
  r->key_found = true;
  r->key_refused = strcmp(hash, r->txn->work.m->key.input_hash) != 0;
  if (!PQgetisnull(result->pg, 0, 1)) r->stored = strdup(PQgetvalue(result->pg, 0, 1));
}

static void on_commit(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_resolve *r = MP_CONTAINER_OF(req, struct mp_resolve, commit);
  note_error(r, err);
  r->committed = !err && !strcmp(PQcmdStatus(result->pg), "COMMIT");
}

/* ---- the rows ---- */

static void lost_for_good(struct mp_stmt *stmt, const char *why) {
  mp_err_set(&stmt->err, MP_ECONN,
             "the work is committed, but the connection was lost before this row came, and it "
             "cannot be read again: %s",
             why);
}

/* Sends what is queued, with time for its answer: a part of what is left, so that another
 * connection can be asked when this one is silent. */
static void ask(struct mp_resolve *r,
                void (*on_done)(struct mp_sync *sync, struct mp_result *result,
                                const struct mp_err *err)) {
  struct mp_txn *txn = r->txn;
  uint64_t now_ms = mp_loop_now_ms(txn->work.host->loop),
           until_ms = mp_tx_until_ms(&txn->work.tx, now_ms);
  uint64_t share_ms = until_ms > now_ms ? (until_ms - now_ms) / 3 : 0;
  if (share_ms < QUESTION_LEAST_MS) share_ms = QUESTION_LEAST_MS;
  mp_link_expect(&txn->link, MP_AWAITS_QUESTION, share_ms < QUESTION_MS ? share_ms : QUESTION_MS);
  r->sync = (struct mp_sync){.on_done = on_done};
  mp_link_sync(&txn->link, &r->sync);
}

static void over(struct mp_txn *txn, enum mp_tx_verdict verdict, const struct mp_err *err) {
  mp_link_expect_nothing(&txn->link);
  free_resolve(txn);
  mp_txn_act(txn, mp_tx_resolved(&txn->work.tx, verdict, err, mp_work_now(&txn->work)));
}

static void connection_lost(struct mp_txn *txn, const struct mp_err *err) {
  struct mp_err lost = *err;
  mp_link_spoil(&txn->link, MP_FATE_CLOSE_NOW);
  mp_link_expect_nothing(&txn->link);
  free_resolve(txn);
  mp_txn_act(txn, mp_tx_lost(&txn->work.tx, &lost, false, mp_work_now(&txn->work)));
}

static void on_row(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct reread *reread = MP_CONTAINER_OF(req, struct reread, req);
  struct mp_stmt *stmt = reread->stmt;
  if (err || PQntuples(result->pg) != 1) {
    lost_for_good(stmt, err ? err->msg : "it was deleted or changed meanwhile");
    return;
  }
  mp_result_unref(stmt->result);
  stmt->result = mp_result_ref(result);
  mp_types_settle(mp_txn_types(stmt->owner), stmt->result);
  stmt->err = (struct mp_err){.code = MP_OK};
  stmt->state = MP_STMT_DONE;
  mp_list_remove(&stmt->node);
  mp_stmt_let_go(stmt);
}

static void on_rows_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_resolve *r = MP_CONTAINER_OF(sync, struct mp_resolve, sync);
  struct mp_txn *txn = r->txn;
  mp_link_answered(&txn->link);
  if (err && !result) {
    connection_lost(txn, err);
  } else {
    over(txn, MP_TX_DONE, NULL);
  }
}

static const char *value_of(const struct mp_stmt *stmt, const char *column) {
  for (int i = 0; stmt->text->names && i < stmt->text->nparams; i++)
    if (!strcmp(stmt->text->names[i], column)) return stmt->req.values[i];
  return NULL;
}

/* The primary key's columns have come: writes the question for the row, if its insert named them
 * all. */
static void on_columns(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct reread *reread = MP_CONTAINER_OF(req, struct reread, req);
  static const char into[] = "insert into ";
  const char *table = reread->stmt->text->sql + strlen(into);
  int n = err ? 0 : PQntuples(result->pg);
  reread->nvalues = 0;
  mp_buf_clear(&reread->sql);
  reread->why = "its table has no primary key";
  if (!n || n > MAX_KEY_COLUMNS) return;
  reread->why = "its insert did not name the primary key, which the database made";
  mp_buf_adds(&reread->sql, "select * from ");
  mp_buf_add(&reread->sql, table, strcspn(table, " "));
  for (int i = 0; i < n; i++) {
    const char *column = PQgetvalue(result->pg, i, 0);
    const char *value = value_of(reread->stmt, column);
    if (!value) return;
    mp_buf_addf(&reread->sql, "%s \"%s\" = $%d", i ? " and" : " where", column, i + 1);
    reread->values[i] = value;
  }
  if (!reread->sql.failed) reread->nvalues = n;
}

static void on_columns_sync(struct mp_sync *sync, struct mp_result *result,
                            const struct mp_err *err) {
  struct mp_resolve *r = MP_CONTAINER_OF(sync, struct mp_resolve, sync);
  struct mp_txn *txn = r->txn;
  struct mp_conn *conn = mp_link_conn(&txn->link);
  mp_link_answered(&txn->link);
  if (err && !result) {
    connection_lost(txn, err);
    return;
  }
  r->begin = (struct mp_req){.sql = "BEGIN READ ONLY", .on_done = on_begin};
  mp_conn_send(conn, &r->begin);
  if (txn->work.m->tenant) {
    r->set_tenant = (struct mp_req){
        .sql = txn->work.m->set_tenant_sql, .flags = MP_REQ_ONCE, .on_done = on_set_tenant};
    mp_conn_send(conn, &r->set_tenant);
  }
  for (size_t i = 0; i < r->nrereads; i++) {
    struct reread *reread = &r->rereads[i];
    if (!reread->nvalues) {
      lost_for_good(reread->stmt, reread->why);
      continue;
    }
    reread->req = (struct mp_req){.sql = mp_buf_text(&reread->sql),
                                  .nparams = reread->nvalues,
                                  .values = reread->values,
                                  .flags = MP_REQ_ONCE,
                                  .on_done = on_row};
    mp_conn_send(conn, &reread->req);
  }
  r->commit = (struct mp_req){.sql = "COMMIT", .on_done = on_commit};
  mp_conn_send(conn, &r->commit);
  ask(r, on_rows_sync);
}

/* True: it has been sent for, and the verdict comes later. */
static bool read_rows(struct mp_resolve *r) {
  struct mp_txn *txn = r->txn;
  size_t n = 0;
  MP_LIST_EACH(node, &txn->lost) n++;
  if (!n) return false;
  r->rereads = calloc(n, sizeof *r->rereads);
  if (!r->rereads) {
    MP_LIST_EACH(node, &txn->lost)
    lost_for_good(MP_LIST_ENTRY(node, struct mp_stmt, node), "no memory for it");
    return false;
  }
  MP_LIST_EACH(node, &txn->lost) {
    struct reread *reread = &r->rereads[r->nrereads++];
    mp_buf_init(&reread->sql, 0);
    reread->stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    reread->table[0] = reread->stmt->text->table;
    reread->req = (struct mp_req){
        .sql =
            "select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid "
            "and a.attnum = any (i.indkey) where i.indrelid = to_regclass($1) and i.indisprimary",
        .nparams = 1,
        .values = reread->table,
        .on_done = on_columns};
    mp_conn_send(mp_link_conn(&txn->link), &reread->req);
  }
  ask(r, on_columns_sync);
  return true;
}

/* ---- the answer ---- */

static void take_stored(struct mp_txn *txn, struct mp_resolve *r) {
  struct mp_member_key *key = &txn->work.m->key;
  free(key->stored);
  key->result = MP_KEY_RECALLED;
  key->stored = r->stored;
  r->stored = NULL;
}

static void on_resolve_sync(struct mp_sync *sync, struct mp_result *result,
                            const struct mp_err *err) {
  struct mp_resolve *r = MP_CONTAINER_OF(sync, struct mp_resolve, sync);
  struct mp_txn *txn = r->txn;
  struct mp_err fault;
  mp_link_answered(&txn->link);
  if (err && !result) {
    connection_lost(txn, err);
    return;
  }
  if (r->err.code || err || !r->committed) {
    fault = r->err;
    if (!fault.code)
      mp_err_set(&fault, MP_EINTERNAL, "the witness was answered with ROLLBACK instead of COMMIT");
    if (!r->asked_witness && !(fault.flags & MP_ERRF_RETRYABLE)) { /* a key, and no table for it */
      if (table_is_gone(&fault))
        mp_err_set(
            &fault, MP_EINVAL,
            "the database has no table moonpool.witness, which keys need: run `moonpool migrate`");
      over(txn, MP_TX_REFUSED, &fault);
    } else {
      connection_lost(txn, &fault);
    }
    return;
  }
  if (txn->work.tx.state != MP_TX_RESOLVING) { /* the deadline was faster */
    free_resolve(txn);
    mp_txn_act(txn, 0);
    return;
  }
  bool done = r->asked_witness && r->found && !r->found_void;
  if (r->key_found && !done) {
    if (r->key_refused) {
      mp_err_set(&fault, MP_EINVAL,
                 "the key was used before, for another input: a key stands for one call");
      strcpy(fault.name, "IDEMPOTENCY_KEY_REUSED");
      mp_failure_clear(&txn->work.failed.failure);
      txn->work.failed.failure.err = fault;
      over(txn, MP_TX_REFUSED, &fault);
      return;
    }
    take_stored(txn, r);
    done = true;
  }
  if (done && txn->work.m->key.result != MP_KEY_RECALLED && read_rows(r)) return;
  over(txn, done ? MP_TX_DONE : MP_TX_NOT_DONE, NULL);
}

static void send_witness_question(struct mp_resolve *r, struct mp_conn *conn) {
  struct mp_txn *txn = r->txn;
  snprintf(r->set_id_sql, sizeof r->set_id_sql, "SET LOCAL moonpool.witness = '%s'",
           txn->witness_id);
  r->set_id = (struct mp_req){.sql = r->set_id_sql, .flags = MP_REQ_ONCE, .on_done = on_set_id};
  mp_conn_send(conn, &r->set_id);
  /* The lost transaction may hold the id for long: a server that answers says so before its time is
   * over, and is asked again. */
  r->set_patience = (struct mp_req){
      .sql = "SET LOCAL lock_timeout = 1000", .flags = MP_REQ_ONCE, .on_done = on_set_patience};
  mp_conn_send(conn, &r->set_patience);
  r->claim_values[0] = txn->witness_id;
  r->claim_values[1] = txn->work.m->name;
  r->claim_values[2] = txn->work.m->tenant;
  r->claim = (struct mp_req){
      .sql =
          "insert into moonpool.witness (id, operation, tenant, void) values ($1, $2, $3, true) "
          "on conflict (id) do nothing",
      .nparams = 3,
      .values = r->claim_values,
      .on_done = on_claim_void};
  mp_conn_send(conn, &r->claim);
  r->look = (struct mp_req){.sql = "select void from moonpool.witness where id = $1",
                            .nparams = 1,
                            .values = r->claim_values,
                            .on_done = on_look};
  mp_conn_send(conn, &r->look);
}

static void send_key_question(struct mp_resolve *r, struct mp_conn *conn) {
  struct mp_txn *txn = r->txn;
  r->set_key = (struct mp_req){
      .sql = txn->work.m->key.set_sql, .flags = MP_REQ_ONCE, .on_done = on_resolve_set_key};
  mp_conn_send(conn, &r->set_key);
  r->key_value[0] = txn->work.m->key.id;
  r->look_key = (struct mp_req){
      .sql = "select coalesce(input_hash, ''), result from moonpool.witness where id = $1",
      .nparams = 1,
      .values = r->key_value,
      .on_done = on_look_key};
  mp_conn_send(conn, &r->look_key);
}

unsigned mp_txn_send_resolve(struct mp_txn *txn) {
  struct mp_conn *conn = mp_link_conn(&txn->link);
  struct mp_resolve *r = calloc(1, sizeof *r);
  if (!r) {
    struct mp_err err;
    mp_err_set(&err, MP_ENOMEM, "no memory to find out what became of %s", txn->work.m->name);
    return mp_tx_lost(&txn->work.tx, &err, false, mp_work_now(&txn->work));
  }
  txn->resolve = r;
  r->txn = txn;
  r->asked_witness = txn->work.tx.in_doubt;
  if (txn->work.tx.in_doubt && txn->old_backend) {
    mp_reap_values(&r->old, txn->old_backend,
                   mp_loop_now_ms(txn->work.host->loop) - txn->old_opened_ms);
    r->end_old = (struct mp_req){.sql = MP_REAP_SQL,
                                 .nparams = 2,
                                 .values = r->old.values,
                                 .flags = MP_REQ_ONCE,
                                 .on_done = on_end_old};
    mp_conn_send(conn, &r->end_old);
    r->end_sync = (struct mp_sync){.on_done = on_end_sync};
    mp_link_sync(&txn->link, &r->end_sync);
  }
  r->begin = (struct mp_req){.sql = "BEGIN ISOLATION LEVEL READ COMMITTED", .on_done = on_begin};
  mp_conn_send(conn, &r->begin);
  if (r->asked_witness) send_witness_question(r, conn);
  if (mp_member_has_key(txn->work.m)) send_key_question(r, conn);
  r->commit = (struct mp_req){.sql = "COMMIT", .on_done = on_commit};
  mp_conn_send(conn, &r->commit);
  ask(r, on_resolve_sync);
  return 0;
}
