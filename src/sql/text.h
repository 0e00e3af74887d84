/* text.h: SQL texts as scripts write them, read once and kept: `$name` parameters become $1, $2
 * ..., and PostgreSQL's own parser tells what kind of statement it is.
 *
 * A text is reference-counted: the cache, and each statement under way, hold it. */
#ifndef MP_TEXT_H
#define MP_TEXT_H

#include <libpq-fe.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "pg/parser.h"
#include "util/err.h"

struct mp_text {
  int refs;
  char *sql;    /* with $1, $2 ... */
  size_t len;   /* of sql */
  char **names; /* nparams names, without the $; NULL: the text is positional itself */
  int nparams;
  int names_ref; /* registry: the names as an array of Lua strings; LUA_NOREF without names */
  char *table;   /* of an insert that the host wrote, else NULL */
  char kind[32]; /* PostgreSQL's node type: "SelectStmt"; "" if its parser does not know the text */
  char refused[160]; /* why an operation may not run it, or "" */
  bool host_schema;  /* it names the schema moonpool */
  bool changes_data; /* anything but a plain SELECT */
  bool shares;       /* a plain SELECT: may be one of several in a transaction, and run again */
  bool leaves_state; /* it leaves a setting, lock, temporary table or listener in the session */
  Oid *types;        /* of the parameters, once the server has been asked; else NULL */
  unsigned types_of; /* in which database (mp_types_id); 0: in any */
  char *shown;       /* see mp_text_shown */
  struct {
    unsigned late;           /* answers that kept others waiting, see db/batch.c */
    uint64_t alone_until_ms; /* loop time */
  } pace;
  struct mp_text *brief; /* see mp_text_brief, or NULL */
  struct mp_many *many;  /* of an insert that the host wrote: see many.h; else NULL */
};

static inline void mp_text_ref(struct mp_text *text) { text->refs++; }
void mp_text_unref(struct mp_text *text);
/* The text without values (redact.h); made on first use. NULL: no memory. */
const char *mp_text_shown(struct mp_text *text);
/* The text to keep for later display; borrowed. For a long text it holds only the part that is
 * shown. */
struct mp_text *mp_text_brief(struct mp_text *text);

/* The cached text for the SQL string at `idx`; borrowed. Raises INVALID_ARGUMENT naming `what` for
 * a text that is no statement, has several, mixes $name with $1, or is beyond the limits of
 * pg/parser.h. NULL: the text is longer than MP_SQL_QUICK and new: `return mp_text_read(L, idx,
 * what, method)`. [-0, +0] */
struct mp_text *mp_text_get(lua_State *L, int idx, const char *what);
/* Reads the text at the absolute `idx` while the task waits, then calls `method` again with the
 * same stack. */
int mp_text_read(lua_State *L, int idx, const char *what, lua_CFunction method);

/* The cached text of a statement of the host itself; its parameters are all of type text, so the
 * server need not be asked. Borrowed. */
struct mp_text *mp_text_own(lua_State *L, const char *sql, const char *what);

/* text_kind.c: finds the kind of the statement. Pure, and slow for a long text; may run on any
 * thread. False: the text must not be sent, see the fault. */
bool mp_text_classify(struct mp_text *text, struct mp_sql_fault *fault);

/* A text of the host's own, not cached, the caller's reference. NULL: no memory. */
struct mp_text *mp_text_raw(const char *sql);

/* The Lua module "moonpool.sql": split, checksum, kind. */
int mp_open_sql(lua_State *L);

#endif
