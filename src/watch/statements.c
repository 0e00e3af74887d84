#include "watch/statements.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sql/state.h"
#include "util/utf8.h"
#include "watch/history.h"
#include "watch/metrics.h"

static int rows_of(const struct mp_stmt *stmt) {
  if (stmt->state == MP_STMT_FAILED || !stmt->result) return -1;
  int rows = PQntuples(stmt->result->pg);
  return rows ? rows : atoi(PQcmdTuples(stmt->result->pg));
}

static void remember(struct mp_host *host, const struct mp_stmt *stmt,
                     const struct mp_stmt_report *r) {
  struct mp_history_entry entry = {.text = stmt->text,
                                   .wall_us = mp_loop_wall_us(host->loop),
                                   .duration_us = r->duration_us,
                                   .host = !*stmt->where || !strncmp(stmt->where, "moonpool/", 9),
                                   .rows = rows_of(stmt)};
  mp_copy_text(entry.operation, sizeof entry.operation, r->operation);
  memcpy(entry.where, stmt->where, sizeof entry.where);
  if (r->err) {
    memcpy(entry.sqlstate, r->err->sqlstate, sizeof entry.sqlstate);
    mp_copy_text(entry.code, sizeof entry.code, mp_err_name(r->err));
    snprintf(entry.message, sizeof entry.message, "%.190s", mp_err_shown(r->err));
    mp_utf8_mend(entry.message);
  }
  mp_history_add(host->shared->history, &entry, r->slow, r->err);
}

void mp_statement_answered(struct mp_host *host, const struct mp_stmt *stmt, const char *who,
                           const struct mp_log_about *about) {
  struct mp_stmt_report r = {.operation = who,
                             .duration_us = (mp_loop_clock_ns(host->loop) - stmt->sent_ns) / 1000};
  if (stmt->state == MP_STMT_FAILED) r.err = &stmt->err;
  if (r.err && r.err->code == MP_ECANCELED) return;
  if (mp_stmt_asks(stmt) && !r.err)
    return; /* it only asked for types; the statement itself follows */
  r.slow = host->shared->slow_query_ms && !stmt->patient &&
           r.duration_us > host->shared->slow_query_ms * 1000;
  mp_metrics_statement(host->shared->meters, &r);
  if (stmt->control) return; /* the host's own */
  remember(host, stmt, &r);
  if (r.slow)
    mp_log_on(about, MP_LOG_WARN, "query", "slow: %llu ms at %s in %s: %.400s",
              (unsigned long long)(r.duration_us / 1000), stmt->where, who,
              mp_text_shown(stmt->text));
}
