#include "txn/merge.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pg/oids.h"
#include "sql/canonical.h"
#include "sql/many.h"
#include "txn/member.h"
#include "txn/txns.h"
#include "txn/vouch.h"
#include "watch/statements.h"

/* Of values together: beyond that a statement's own cost is nothing, and its rows are many to hold
 * for whoever keeps one. */
#define MOST_BYTES ((size_t)1 << 20)

/* One statement for `n` inserts, which lie in a batch from `first` on. */
struct merge {
  struct mp_req rows;
  struct mp_work *work;
  struct mp_stmt *first;
  unsigned n;
  const char *values[];
};

static struct mp_stmt *behind(const struct mp_stmt *stmt) {
  return MP_LIST_ENTRY(stmt->node.next, struct mp_stmt, node);
}

/* ---- the rows ---- */

/* Is `got` what the server makes of `sent`? Only for values that have one form. */
static bool same_value(Oid type, const char *sent, const char *got) {
  switch (type) {
    case MP_OID_INT2:
    case MP_OID_INT4:
    case MP_OID_INT8: return !mp_canonical_integer(sent) || !strcmp(sent, got);
    case MP_OID_TEXT: return !strcmp(sent, got);
    case MP_OID_UUID: return !mp_canonical_uuid(sent) || !strcasecmp(sent, got);
    default: return true;
  }
}

static bool same_row(const PGresult *pg, int row, const int *columns, const struct mp_stmt *stmt) {
  for (int i = 0; i < stmt->text->nparams; i++) {
    const char *sent = stmt->req.values[i];
    if (columns[i] < 0) continue;
    if (PQgetisnull(pg, row, columns[i]) != !sent) return false;
    if (sent && !same_value(PQftype(pg, columns[i]), sent, PQgetvalue(pg, row, columns[i])))
      return false;
  }
  return true;
}

/* -1: the server has cut a name that is too long. */
static int find_column(const PGresult *pg, const char *name) {
  int n = PQnfields(pg);
  for (int i = 0; i < n; i++)
    if (!strcmp(PQfname(pg, i), name)) return i;
  return -1;
}

/* PostgreSQL returns rows in the order in which it stores them, which is that of the list; its
 * manual does not promise it, so each row is compared with what was sent. */
static bool rows_are_ours(const struct merge *m, const PGresult *pg) {
  const struct mp_text *text = m->first->text;
  const struct mp_stmt *stmt = m->first;
  if (stmt->unseen) return atoll(PQcmdTuples((PGresult *)(uintptr_t)pg)) == m->n;
  if (PQntuples(pg) != (int)m->n) return false;
  int *columns = calloc((size_t)text->nparams + 1, sizeof *columns);
  if (!columns) return false;
  for (int i = 0; i < text->nparams; i++) columns[i] = find_column(pg, text->names[i]);
  bool ours = true;
  for (unsigned i = 0; ours && i < m->n; i++, stmt = behind(stmt))
    ours = same_row(pg, (int)i, columns, stmt);
  free(columns);
  return ours;
}

/* ---- the answers ---- */

/* Each insert gets its row, or the failure that all of them have. */
static void hand_out(struct merge *m, struct mp_result *result, const struct mp_err *err) {
  struct mp_stmt *stmt = m->first;
  for (unsigned i = 0; i < m->n; i++, stmt = behind(stmt)) {
    if (!err) stmt->row = i;
    if (!err) stmt->shared = m->n;
    mp_stmt_answer(m->work->host, stmt, result, err);
  }
}

static const char not_ours[] =
    "the rows that the server has stored are not those that were sent to it, so none of them can "
    "be read here; set `merge = false`";

static void on_rows(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct merge *m = MP_CONTAINER_OF(req, struct merge, rows);
  struct mp_work *work = m->work;
  struct mp_fault *fault = work->host->txns->fault;
  struct mp_result *ordered_result = result;
  const struct mp_err *ordered = err; /* by a spec, in front: the first insert's; others skipped */
  struct mp_err again, stray;
  if (fault) mp_fault_answer(fault, work, m->first, &ordered_result, &ordered);
  bool ours = err || rows_are_ours(m, result->pg);
  if (!ours) {
    mp_err_set(&stray, MP_ESQL, "%s", not_ours);
    err = &stray;
  }
  if (mp_vouch_again(work, err, &again)) {
    hand_out(m, NULL, &again);
  } else {
    hand_out(m, result, err);
    if (ordered != err) mp_stmt_answer(work->host, m->first, ordered_result, ordered);
    mp_statement_answered(work->host, m->first, work->m->name, mp_members_about(work));
  }
  free(m);
}

/* ---- sending ---- */

bool mp_merge_may(const struct mp_work *work, const struct mp_stmt *stmt) {
  const struct mp_member *member = stmt->part;
  return stmt->text->many && !stmt->control && !mp_stmt_asks(stmt) && member->options.merge &&
         work->merging != MP_MERGE_OFF;
}

/* Inserts of several calls, too, where none of them can be undone by itself. */
static bool joins(const struct mp_work *work, const struct mp_stmt *first,
                  const struct mp_stmt *stmt) {
  return stmt->text == first->text && stmt->unseen == first->unseen &&
         (stmt->part == first->part || mp_work_bound(work)) && stmt->depth == first->depth &&
         mp_merge_may(work, stmt);
}

/* A failure that a spec has ordered in front of a statement keeps its place. */
static bool fault_comes(const struct mp_work *work, const struct mp_stmt *stmt, unsigned ahead) {
  const struct mp_fault *fault = work->host->txns->fault;
  const struct mp_member *member = stmt->part;
  return fault && mp_fault_comes(fault, &member->fault, ahead, work->tx.attempt);
}

unsigned mp_merge_count(const struct mp_work *work, const struct mp_list *queue) {
  const struct mp_stmt *first = MP_LIST_ENTRY(queue->next, struct mp_stmt, node);
  struct mp_many *many = first->text->many;
  unsigned n = 0, rows = MP_MANY_LEAST;
  size_t bytes = 0;
  if (!mp_merge_may(work, first)) return 1;
  unsigned most = mp_many_most(many);
  MP_LIST_EACH(node, queue) {
    const struct mp_stmt *stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    bytes += stmt->bytes;
    if (n == most || bytes > MOST_BYTES || !joins(work, first, stmt)) break;
    if (n && fault_comes(work, stmt, n)) break;
    n++;
  }
  if (n < rows) return 1;
  mp_vouch_in(work, first->text);
  if (many->known == MP_MANY_DIFFERS) return 1;
  while (rows * 2 <= n) rows *= 2;
  return rows;
}

bool mp_merge_send(struct mp_work *work, struct mp_conn *conn, struct mp_stmt *first, unsigned n,
                   uint64_t number, struct mp_err *fault) {
  struct mp_many *many = first->text->many;
  size_t columns = many->columns;
  const char *sql = mp_many_sql(many, n, !first->unseen);
  struct merge *m = sql ? malloc(sizeof *m + sizeof *m->values * n * columns) : NULL;
  if (!m) return false;
  if (!mp_vouch_demand(work, conn, first->text, number, fault)) {
    free(m);
    return false;
  }
  *m = (struct merge){.work = work, .first = first, .n = n};
  const struct mp_stmt *stmt = first;
  for (unsigned i = 0; i < n; i++, stmt = behind(stmt))
    memcpy(m->values + i * columns, stmt->req.values, sizeof *m->values * columns);
  m->rows = (struct mp_req){
      .sql = sql, .nparams = (int)(n * columns), .values = m->values, .on_done = on_rows};
  mp_conn_send(conn, &m->rows);
  return true;
}
