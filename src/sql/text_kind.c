/* text_kind.c: what kind of statement a text is, and whether an operation may send it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/sqlstate.h"
#include "sql/powers.h"
#include "sql/text.h"

/* Statements that an operation may send; those about transaction, session and schema are reserved
 * for the host. */
static const char *const allowed[] = {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt",
                                      "MergeStmt"};

/* What outlives its transaction on the connection: settings, cursors, prepared statements, locks,
 * temporary tables. Names are looked for as words anywhere in the tree, constants included: a
 * function may be handed SQL. */
static bool leaves_state(const char *kind, const char *tree) {
  static const char *const kinds[] = {
      "VariableSetStmt", "ListenStmt",  "PrepareStmt",       "ExecuteStmt",
      "DeallocateStmt",  "DiscardStmt", "LoadStmt",          "DoStmt",
      "CallStmt",        "FetchStmt",   "DeclareCursorStmt", "TransactionStmt"};
  static const char *const words[] = {"set_config",
                                      "advisory_",
                                      "setseed",
                                      "pg_temp",
                                      "_to_xml",
                                      "dblink",
                                      "\"relpersistence\":\"t\""};
  for (size_t i = 0; i < MP_ARRAY_LEN(kinds); i++)
    if (!strcmp(kind, kinds[i])) return true;
  for (size_t i = 0; i < MP_ARRAY_LEN(words); i++)
    if (strstr(tree, words[i])) return true;
  return false;
}

/* Functions that change nothing, and do no more than they are handed; further ones that change
 * nothing, but take as long as they like, or answer for their own backend. */
static const char *const plain[] = {
    "count",      "sum",      "min",     "max",       "avg",        "now",       "lower",
    "upper",      "length",   "round",   "abs",       "to_char",    "coalesce",  "concat",
    "lpad",       "greatest", "least",   "array_agg", "string_agg", "jsonb_agg", "json_agg",
    "date_trunc", "timezone", "extract", "version",   NULL};
static const char *const harmless[] = {"generate_series",      "pg_sleep",        "pg_backend_pid",
                                       "pg_terminate_backend", "current_setting", NULL};

static bool among(const char *const *names, const char *name) {
  for (; *names; names++) {
    size_t len = strlen(*names);
    if (!strncmp(name, *names, len) && name[len] == '"') return true;
  }
  return false;
}

/* Whether the tree has a function that is in neither list (`more`: NULL, or the second). A name
 * with a schema is another function's, unless the schema is the server's own. */
static bool calls_other(const char *tree, const char *const *more) {
  static const char head[] = "\"FuncCall\":{\"funcname\":[", own[] = "pg_catalog\"";
  for (const char *at = tree; (at = strstr(at, head));) {
    at += strlen(head);
    const char *end = strchr(at, ']'), *name = NULL;
    bool known = true;
    for (const char *next = at; end && (next = strstr(next, "\"sval\":\"")) && next < end;) {
      known = known && (!name || !strncmp(name, own, strlen(own)));
      name = next += strlen("\"sval\":\"");
    }
    if (!known || !name || !(among(plain, name) || (more && among(more, name)))) return true;
  }
  return false;
}

/* Whether it names the schema `moonpool`, which is the host's: for a table, function, type,
 * operator or column. In the tree a name is a list of its parts, without quotes and escapes, and a
 * schema is never the last part; the name of the database may stand in front. */
static bool names_host_schema(const char *tree) {
  static const char *const marks[] = {"\"schemaname\":\"moonpool\"",
                                      "{\"String\":{\"sval\":\"moonpool\"}},"};
  for (size_t i = 0; i < MP_ARRAY_LEN(marks); i++)
    if (strstr(tree, marks[i])) return true;
  return false;
}

static void refuse(struct mp_text *text, const char *stmt) {
  bool ok = false;
  char name[64];
  const char *why;
  for (size_t i = 0; i < MP_ARRAY_LEN(allowed); i++) ok = ok || !strcmp(text->kind, allowed[i]);
  if (text->host_schema)
    snprintf(text->refused, sizeof text->refused,
             "names the schema moonpool, whose tables are the host's own");
  else if (!strcmp(text->kind, "LockStmt"))
    snprintf(
        text->refused, sizeof text->refused,
        "locks a whole table, for all tenants: use a lane, or lock rows (select ... for update)");
  else if (!ok)
    snprintf(
        text->refused, sizeof text->refused,
        "is not allowed in an operation (%s): the host controls transaction, session and schema",
        text->kind);
  else if (strstr(stmt, "\"intoClause\""))
    snprintf(text->refused, sizeof text->refused,
             "creates a table (SELECT INTO), which is not allowed in an operation");
  else if ((why = mp_powers_in(stmt, name)))
    snprintf(text->refused, sizeof text->refused, "uses %s: %s", name, why);
}

static bool fail(struct mp_sql_fault *fault, const char *message) {
  fault->kind = MP_SQL_LIMIT;
  snprintf(fault->message, sizeof fault->message, "%s", message);
  return false;
}

bool mp_text_classify(struct mp_text *text, struct mp_sql_fault *fault) {
  char *tree = mp_sql_parse(text->sql, MP_SQL_MAX, fault);
  text->changes_data = text->leaves_state = true;
  if (!tree && fault->kind != MP_SQL_SYNTAX) return false;
  if (!tree) {
    /* The server decides, with a position in its error; it may be newer than the parser. */
    char said[90 + MP_HIDDEN_LEN];
    snprintf(said, 90, "%.80s", fault->message);
    mp_hide_near_value(said);
    snprintf(text->refused, sizeof text->refused,
             "is not a statement that PostgreSQL's parser knows: %s", said);
    return true;
  }
  const char *stmt = strstr(tree, "\"stmt\":{\"");
  const char *wrong = !stmt                         ? "is empty"
                      : strstr(stmt, "{\"stmt\":{") ? "has more than one statement"
                                                    : NULL;
  if (!wrong) {
    const char *kind = stmt + strlen("\"stmt\":{\"");
    snprintf(text->kind, sizeof text->kind, "%.*s", (int)strcspn(kind, "\""), kind);
    text->host_schema = names_host_schema(kind);
    refuse(text, kind);
    text->leaves_state = leaves_state(text->kind, kind);
    text->changes_data = strcmp(text->kind, "SelectStmt") != 0 || strstr(kind, "\"InsertStmt\"") ||
                         strstr(kind, "\"UpdateStmt\"") || strstr(kind, "\"DeleteStmt\"") ||
                         calls_other(kind, harmless);
    text->shares = !text->changes_data && !text->leaves_state && !text->host_schema &&
                   !strstr(kind, "\"lockingClause\"") && !strstr(kind, "\"intoClause\"") &&
                   !calls_other(kind, NULL);
  }
  free(tree);
  return wrong ? fail(fault, wrong) : true;
}
