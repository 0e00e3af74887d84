#include "txn/vouch.h"

#include <stdlib.h>
#include <string.h>

#include "sql/many.h"
#include "sql/types.h"

struct vouching {
  struct mp_req req;
  struct mp_work *work;
  struct mp_text *text;
  struct mp_err *fault;
  char *told; /* what was known when it was asked */
  const char *values[2];
};

bool mp_vouch_again(struct mp_work *work, const struct mp_err *err, struct mp_err *again) {
  bool refused = err && (err->code == MP_ESQL || err->code == MP_EINVAL);
  if (!refused || err->flags & (MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD)) return false;
  *again = *err;
  again->flags |= MP_ERRF_RETRYABLE | MP_ERRF_STALE;
  work->merging = MP_MERGE_OFF;
  return true;
}

static void on_answer(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct vouching *q = MP_CONTAINER_OF(req, struct vouching, req);
  struct mp_err again;
  bool refused = mp_vouch_again(q->work, err, &again);
  if (!err || refused)
    mp_many_learn(q->text->many, err ? NULL : result->pg, mp_work_now_ms(q->work));
  if (refused && !q->fault->code) *q->fault = again;
  mp_text_unref(q->text);
  free(q->told);
  free(q);
}

static bool ask(struct mp_work *work, struct mp_conn *conn, struct mp_text *text, const char *sql,
                int nparams, struct mp_err *fault) {
  const struct mp_many *many = text->many;
  struct vouching *q = calloc(1, sizeof *q);
  if (!q) return false;
  *q = (struct vouching){.work = work, .text = text, .fault = fault};
  if (many->facts.told && !(q->told = strdup(many->facts.told))) {
    free(q);
    return false;
  }
  mp_text_ref(text);
  q->values[0] = many->table;
  q->values[1] = q->told;
  q->req =
      (struct mp_req){.sql = sql, .nparams = nparams, .values = q->values, .on_done = on_answer};
  mp_conn_send(conn, &q->req);
  return true;
}

void mp_vouch_in(const struct mp_work *work, struct mp_text *text) {
  mp_many_in(text->many, mp_types_id(mp_types_of(work->host, work->options.pool)));
}

bool mp_vouch_demand(struct mp_work *work, struct mp_conn *conn, struct mp_text *text,
                     uint64_t number, struct mp_err *fault) {
  struct mp_many *many = text->many;
  if (many->asked_in == number || mp_many_fresh(many, mp_work_now_ms(work))) return true;
  if (!ask(work, conn, text, mp_facts_demand, 2, fault)) return false;
  many->asked_in = number;
  return true;
}

void mp_vouch_ask(struct mp_work *work, struct mp_conn *conn, struct mp_text *text,
                  struct mp_err *fault) {
  mp_vouch_in(work, text);
  if (text->many->known == MP_MANY_UNKNOWN) ask(work, conn, text, mp_facts_question, 1, fault);
}
