/* reread.h: rows that inserts had given back to a script, and whose answers were lost with
 * COMMIT's: once it is known that the work is committed they are read again, by their tables'
 * primary keys.
 *
 *   IDLE --> COLUMNS --> ROWS --> IDLE     COLUMNS: which are the tables' primary keys?
 *                \-----------------^       ROWS: the rows are read
 *
 * Owner: outcome.h, as long as it asks. */
#ifndef MP_REREAD_H
#define MP_REREAD_H

#include "sql/stmt.h"
#include "txn/link.h"
#include "txn/work.h"

#define MP_REREAD_MAP(X)                                    \
  X(IDLE, MP_TO(MP_REREAD_COLUMNS))                         \
  X(COLUMNS, MP_TO(MP_REREAD_ROWS) | MP_TO(MP_REREAD_IDLE)) \
  X(ROWS, MP_TO(MP_REREAD_IDLE))

enum mp_reread_state {
#define X(name, to) MP_REREAD_##name,
  MP_REREAD_MAP(X)
#undef X
};

struct mp_lost_row;

struct mp_reread {
  struct mp_work *work;
  struct mp_link *link;
  /* All is read that can be read; `lost`: the connection was lost. */
  void (*on_done)(struct mp_reread *reread, const struct mp_err *lost);
  enum mp_reread_state state;
  struct mp_lost_row *rows;
  size_t nrows;
  struct mp_req begin, set_tenant, commit;
  struct mp_sync sync;
};

/* Reads the rows of these statements (struct mp_stmt), which leave the list when their rows are
 * there. False: there is nothing to wait for. */
bool mp_reread_start(struct mp_reread *reread, struct mp_list *lost);
void mp_reread_fini(struct mp_reread *reread);

#endif
