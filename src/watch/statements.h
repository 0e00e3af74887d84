/* statements.h: reports each answered statement to metrics, history and log. */
#ifndef MP_STATEMENTS_H
#define MP_STATEMENTS_H

#include "sql/stmt.h"
#include "util/log.h"

struct mp_host;

/* Call it after mp_stmt_answer. `who` is named in the log if the statement was slow; `about` may be
 * NULL. A statement that the server skipped because an earlier one failed never ran and is not
 * reported. */
void mp_statement_answered(struct mp_host *host, const struct mp_stmt *stmt, const char *who,
                           const struct mp_log_about *about);

#endif
