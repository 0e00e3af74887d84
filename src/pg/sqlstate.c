#include "pg/sqlstate.h"

#include <stdio.h>
#include <string.h>

bool mp_sqlstate_retryable(const char *s) {
  const struct mp_code_info *info = mp_code_of_sqlstate(s);
  return info && info->again == MP_AGAIN_HOST;
}

/* The first quotation mark of whatever language the server speaks. */
static char *first_quote(char *msg) {
  static const char *const quotes[] = {"\"",     "\u201C", "\u201D", "\u201E",
                                       "\u00AB", "\u00BB", "\u300C"};
  char *first = NULL;
  for (size_t i = 0; i < MP_ARRAY_LEN(quotes); i++) {
    char *at = strstr(msg, quotes[i]);
    if (at && (!first || at < first)) first = at;
  }
  return first;
}

/* The part of the message behind the value, which gives the reason and holds no value. NULL: not a
 * known form. */
static const char *reason_behind(const char *msg) {
  static const char *const reasons[] = {" is out of range for type ", " is out of range",
                                        " not recognized"};
  const char *last = strrchr(msg, '"');
  for (size_t i = 0; last && i < MP_ARRAY_LEN(reasons); i++) {
    size_t len = strlen(reasons[i]);
    const char *type = last + 1 + len; /* "double precision" */
    if (!strncmp(last + 1, reasons[i], len) &&
        !type[strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789 ")])
      return last + 1;
  }
  return NULL;
}

/* invalid input syntax for type uuid: "secret" -> invalid input syntax for type uuid (value hidden)
 * value "secret" is out of range for type integer -> value (hidden) is out of range for type
 * integer */
static void hide_value(char *msg) {
  char *at = first_quote(msg), reason[64];
  if (!at) return;
  const char *behind = reason_behind(at);
  if (behind) {
    snprintf(reason, sizeof reason, "%s", behind);
    sprintf(at, "%s(hidden)%s", at == msg ? "the value " : "",
            reason); /* fits: callers leave room */
    return;
  }
  while (at > msg && (at[-1] == ' ' || at[-1] == ':')) at--;
  strcpy(at, " (value hidden)");
}

/* syntax error at or near "'secret'": what is a name or a key word is shown, a value of the text is
 * not. */
static bool near_a_value(const char *msg) {
  const char *near = strstr(msg, "at or near \"");
  if (!near) return false;
  near += strlen("at or near \"");
  return (*near >= '0' && *near <= '9') || strpbrk(near, "'$") != NULL;
}

void mp_hide_near_value(char *msg) {
  if (near_a_value(msg)) hide_value(msg);
}

/* For unknown names and types the server's hint suggests the right one. Hints of other classes may
 * hold values. */
static const char *hint_of(const PGresult *pg, const char *state) {
  if (!state || strncmp(state, "42", 2) != 0) return NULL;
  return PQresultErrorField(pg, PG_DIAG_MESSAGE_HINT);
}

/* The prepared statement no longer fits the database: tables or types have changed, or it was
 * deallocated. A new transaction prepares it again. */
static bool is_stale(const struct mp_err *err, const char *routine) {
  if (!strcmp(err->sqlstate, "0A000")) /* cached plan must not change result type */
    return routine && !strcmp(routine, "RevalidateCachedQuery");
  if (!strcmp(err->sqlstate, "26000")) return strstr(err->msg, "\"mp") != NULL;
  /* Prefixes of the server that it never translates. */
  return !strcmp(err->sqlstate, "XX000") && !strncmp(err->msg, "cache lookup failed for ", 24);
}

void mp_err_from_result(struct mp_err *err, const PGresult *pg) {
  const char *state = PQresultErrorField(pg, PG_DIAG_SQLSTATE);
  const char *text = PQresultErrorField(pg, PG_DIAG_MESSAGE_PRIMARY);
  const char *routine = PQresultErrorField(pg, PG_DIAG_SOURCE_FUNCTION);
  char msg[sizeof err->msg + MP_HIDDEN_LEN];
  mp_err_set(err, MP_ESQL, "%s",
             text ? text : PQresultErrorMessage(pg)); /* cut between characters */
  memcpy(msg, err->msg, sizeof err->msg);
  msg[strcspn(msg, "\n")] = '\0';
  if (state && !strncmp(state, "22", 2))
    hide_value(msg);
  else if (state)
    mp_hide_near_value(msg);
  bool raised = routine && !strncmp(routine, "exec_stmt_", 10);
  const char *hint = raised ? NULL : hint_of(pg, state);
  if (hint)
    mp_err_set(err, MP_ESQL, "%s (%s)", msg, hint);
  else
    mp_err_set(err, MP_ESQL, "%s", msg);
  if (!state) { /* libpq made the error up: the connection broke */
    err->code = MP_ECONN;
    err->flags = MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
    return;
  }
  memcpy(err->sqlstate, state, 5);
  /* RAISE: "PL/pgSQL function book(uuid) line 7 at RAISE" instead of what it says. */
  if (raised) {
    const char *where = PQresultErrorField(pg, PG_DIAG_CONTEXT);
    snprintf(err->shown, sizeof err->shown, "raised by %.*s",
             where ? (int)strcspn(where, "\n") : 12, where ? where : "a DO command");
  }
  if (mp_sqlstate_retryable(state)) err->flags |= MP_ERRF_RETRYABLE;
  /* The severity decides, not the SQLSTATE: a function may raise 08001 for a connection of its own.
   */
  const char *severity = PQresultErrorField(pg, PG_DIAG_SEVERITY_NONLOCALIZED);
  if (severity && (!strcmp(severity, "FATAL") || !strcmp(severity, "PANIC"))) {
    err->code = MP_ECONN;
    err->flags |= MP_ERRF_CONN_DEAD | MP_ERRF_RETRYABLE;
  }
  if (is_stale(err, routine)) err->flags |= MP_ERRF_RETRYABLE | MP_ERRF_STALE;
}
