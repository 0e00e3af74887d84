#include "txn/reread.h"

#include <stdlib.h>
#include <string.h>

#include "sql/types.h"
#include "txn/member.h"
#include "util/buf.h"

#define MAX_KEY_COLUMNS 8

MP_SM_TABLE(sm, "reread", MP_REREAD_MAP, NULL);

/* One of them: asked for its table's primary key, then read again by it. */
struct mp_lost_row {
  struct mp_reread *reread;
  struct mp_req req;
  struct mp_stmt *stmt; /* on the list of what is lost */
  const char *table[1];
  const char *values[MAX_KEY_COLUMNS];
  int nvalues;
  const char *why; /* it cannot be read again; static text */
  struct mp_buf sql;
};

static void move(struct mp_reread *r, enum mp_reread_state to) {
  if (!mp_sm_may(&sm, r->state, to)) mp_link_spoil(r->link, MP_FATE_CLOSE_NOW);
  r->state = to;
}

static void send_req(struct mp_reread *r, struct mp_req *req) {
  mp_conn_send(mp_link_conn(r->link), req);
}

static void ask(struct mp_reread *r, enum mp_reread_state to) {
  move(r, to);
  mp_link_expect(r->link, MP_AWAITS_QUESTION, mp_work_question_ms(r->work));
  mp_link_sync(r->link, &r->sync);
}

static void lost_for_good(struct mp_stmt *stmt, const char *why) {
  mp_err_set(&stmt->err, MP_ECONN,
             "the work is committed, but the connection was lost before this row came, and it "
             "cannot be read again: %s",
             why);
}

/* ---- the rows ---- */

static void on_row(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_lost_row *row = MP_CONTAINER_OF(req, struct mp_lost_row, req);
  const struct mp_work *work = row->reread->work;
  struct mp_stmt *stmt = row->stmt;
  if (err || PQntuples(result->pg) != 1) {
    lost_for_good(stmt, err ? err->msg : "it was deleted or changed since");
    return;
  }
  mp_result_unref(stmt->result);
  stmt->result = mp_result_ref(result);
  mp_types_settle(mp_types_of(work->host, work->options.pool), stmt->result);
  stmt->err = (struct mp_err){.code = MP_OK};
  stmt->state = MP_STMT_DONE;
  mp_list_remove(&stmt->node);
  mp_stmt_let_go(stmt);
}

/* A failure here only leaves rows unread; the call stays committed. */
static void ignore(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  (void)req;
  (void)result;
  (void)err;
}

static void ask_for_rows(struct mp_reread *r) {
  r->begin = (struct mp_req){.sql = "BEGIN READ ONLY", .on_done = ignore};
  send_req(r, &r->begin);
  if (r->work->m->set_tenant_sql) {
    r->set_tenant =
        (struct mp_req){.sql = r->work->m->set_tenant_sql, .flags = MP_REQ_ONCE, .on_done = ignore};
    send_req(r, &r->set_tenant);
  }
  for (size_t i = 0; i < r->nrows; i++) {
    struct mp_lost_row *row = &r->rows[i];
    if (!row->nvalues) {
      lost_for_good(row->stmt, row->why);
      continue;
    }
    row->req = (struct mp_req){.sql = mp_buf_text(&row->sql),
                               .nparams = row->nvalues,
                               .values = row->values,
                               .flags = MP_REQ_ONCE,
                               .on_done = on_row};
    send_req(r, &row->req);
  }
  r->commit = (struct mp_req){.sql = "COMMIT", .on_done = ignore};
  send_req(r, &r->commit);
  ask(r, MP_REREAD_ROWS);
}

/* ---- their keys ---- */

static const char *value_of(const struct mp_stmt *stmt, const char *column) {
  for (int i = 0; stmt->text->names && i < stmt->text->nparams; i++)
    if (!strcmp(stmt->text->names[i], column)) return stmt->req.values[i];
  return NULL;
}

/* The primary key's columns have come: writes the question for the row, if its insert named them
 * all. */
static void on_columns(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_lost_row *row = MP_CONTAINER_OF(req, struct mp_lost_row, req);
  static const char into[] = "insert into ";
  const char *table = row->stmt->text->sql + strlen(into);
  int n = err ? 0 : PQntuples(result->pg);
  row->nvalues = 0;
  mp_buf_clear(&row->sql);
  row->why = "its table has no primary key";
  if (!n || n > MAX_KEY_COLUMNS) return;
  row->why = "its insert did not name the primary key, which the database made";
  mp_buf_adds(&row->sql, "select * from ");
  mp_buf_add(&row->sql, table, strcspn(table, " "));
  for (int i = 0; i < n; i++) {
    const char *column = PQgetvalue(result->pg, i, 0);
    const char *value = value_of(row->stmt, column);
    if (!value) return;
    mp_buf_addf(&row->sql, "%s \"%s\" = $%d", i ? " and" : " where", column, i + 1);
    row->values[i] = value;
  }
  if (!row->sql.failed) row->nvalues = n;
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_reread *r = MP_CONTAINER_OF(sync, struct mp_reread, sync);
  bool lost = err && !result;
  mp_link_answered(r->link);
  if (r->state == MP_REREAD_COLUMNS && !lost) {
    ask_for_rows(r);
    return;
  }
  move(r, MP_REREAD_IDLE);
  r->on_done(r, lost ? err : NULL);
}

static void ask_for_columns(struct mp_lost_row *row) {
  row->table[0] = row->stmt->text->table;
  row->req = (struct mp_req){
      .sql =
          "select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid "
          "and a.attnum = any (i.indkey) where i.indrelid = to_regclass($1) and i.indisprimary",
      .nparams = 1,
      .values = row->table,
      .on_done = on_columns};
  send_req(row->reread, &row->req);
}

bool mp_reread_start(struct mp_reread *r, struct mp_list *lost) {
  size_t n = 0;
  MP_LIST_EACH(node, lost) n++;
  if (!n) return false;
  r->rows = calloc(n, sizeof *r->rows);
  if (!r->rows) {
    MP_LIST_EACH(node, lost)
    lost_for_good(MP_LIST_ENTRY(node, struct mp_stmt, node), "no memory for it");
    return false;
  }
  MP_LIST_EACH(node, lost) {
    struct mp_lost_row *row = &r->rows[r->nrows++];
    mp_buf_init(&row->sql, 0);
    row->reread = r;
    row->stmt = MP_LIST_ENTRY(node, struct mp_stmt, node);
    ask_for_columns(row);
  }
  r->sync = (struct mp_sync){.on_done = on_sync};
  ask(r, MP_REREAD_COLUMNS);
  return true;
}

void mp_reread_fini(struct mp_reread *r) {
  for (size_t i = 0; i < r->nrows; i++) mp_buf_fini(&r->rows[i].sql);
  free(r->rows);
}
