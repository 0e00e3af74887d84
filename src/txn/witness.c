#include "txn/witness.h"

#include <string.h>

#include "loop/ids.h"
#include "pool/pool.h"
#include "txn/member.h"
#include "util/log.h"

/* A missing table is looked for again after this time: it may have been created since. */
#define ASK_AGAIN_MS 60000

bool mp_witness_table_gone(const struct mp_err *err) {
  return !strcmp(err->sqlstate, "42P01") || !strcmp(err->sqlstate, "3F000") ||
         !strcmp(err->sqlstate, "42501");
}

/* `retry`: the next attempt does without it, or finds what is there now. */
static void fail(struct mp_witness *w, const struct mp_err *err, bool retry) {
  struct mp_err fault = *err;
  if (retry) fault.flags |= MP_ERRF_RETRYABLE;
  w->on_failed(w, &fault);
}

/* ---- is there a table? ---- */

static void set_missing(const struct mp_work *work) {
  struct mp_pool_witness *witness = mp_pool_witness(work->options.pool);
  bool first = witness->table != MP_WITNESS_MISSING && !witness->asked_ms;
  /* A database that a script has opened itself needs no such table. */
  if (first && work->options.pool == work->host->pool)
    mp_log(MP_LOG_WARN, "host",
           "the database has no table moonpool.witness that this role may write: a COMMIT whose "
           "answer is lost cannot be resolved, and idempotency keys are refused; run `moonpool "
           "migrate`");
  witness->table = MP_WITNESS_MISSING;
  witness->asked_ms = mp_work_now_ms(work);
}

static void on_asked(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_witness *w = MP_CONTAINER_OF(req, struct mp_witness, ask);
  if (err)
    fail(w, err, false);
  else if (*PQgetvalue(result->pg, 0, 0) == 't')
    mp_pool_witness(w->work->options.pool)->table = MP_WITNESS_THERE;
  else
    set_missing(w->work);
}

bool mp_witness_unknown(const struct mp_work *work) {
  const struct mp_pool_witness *witness = mp_pool_witness(work->options.pool);
  if (!work->options.tx.witness) return false;
  if (witness->table == MP_WITNESS_MISSING)
    return mp_work_now_ms(work) >= witness->asked_ms + ASK_AGAIN_MS;
  return witness->table == MP_WITNESS_UNKNOWN;
}

bool mp_witness_there(const struct mp_work *work) {
  return work->options.tx.witness && mp_pool_witness(work->options.pool)->table == MP_WITNESS_THERE;
}

void mp_witness_ask(struct mp_witness *w, struct mp_conn *conn) {
  w->ask =
      (struct mp_req){.sql =
                          "select case when to_regclass('moonpool.witness') is null then false "
                          "else has_table_privilege(to_regclass('moonpool.witness'), 'insert') end",
                      .flags = MP_REQ_ONCE,
                      .on_done = on_asked};
  mp_conn_send(conn, &w->ask);
}

/* ---- the row ---- */

static void on_row(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_witness *w = MP_CONTAINER_OF(req, struct mp_witness, row);
  (void)result;
  if (!err) return;
  bool gone = mp_witness_table_gone(err); /* since it was looked for */
  if (gone) set_missing(w->work);
  fail(w, err, gone);
}

void mp_witness_send(struct mp_witness *w, struct mp_conn *conn) {
  mp_uuid_new(w->work->host->loop, w->id);
  w->values[0] = w->id;
  w->values[1] = w->work->m->name;
  w->values[2] = w->work->m->tenant;
  w->row = (struct mp_req){
      .sql = "insert into moonpool.witness (id, operation, tenant) values ($1, $2, $3)",
      .nparams = 3,
      .values = w->values,
      .on_done = on_row};
  mp_conn_send(conn, &w->row);
}

/* ---- the key's row ---- */

static void on_set_key(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  if (err) fail(MP_CONTAINER_OF(req, struct mp_witness, set_key), err, false);
}

/* 23505: another call has committed under the key since we asked. The next attempt finds its row.
 */
static void on_claim(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)result;
  if (err)
    fail(MP_CONTAINER_OF(req, struct mp_witness, claim), err, !strcmp(err->sqlstate, "23505"));
}

void mp_witness_claim_key(struct mp_witness *w, struct mp_conn *conn) {
  const struct mp_member *m = w->work->m;
  w->set_key = (struct mp_req){.sql = m->key.set_sql, .flags = MP_REQ_ONCE, .on_done = on_set_key};
  mp_conn_send(conn, &w->set_key);
  w->claim_values[0] = m->key.id;
  w->claim_values[1] = m->name;
  w->claim_values[2] = m->tenant;
  w->claim_values[3] = m->key.input_hash;
  w->claim = (struct mp_req){.sql =
                                 "insert into moonpool.witness (id, operation, tenant, input_hash)"
                                 " values ($1, $2, $3, $4)",
                             .nparams = 4,
                             .values = w->claim_values,
                             .on_done = on_claim};
  mp_conn_send(conn, &w->claim);
}
