#include "util/codes.h"

#include <stdbool.h>
#include <string.h>

#include "util/attr.h"

#define CALLER MP_BLAME_CALLER
#define OPERATOR MP_BLAME_OPERATOR
#define TRANSIENT MP_BLAME_TRANSIENT
#define NO MP_AGAIN_NO
#define YES MP_AGAIN_CALLER
#define HOST MP_AGAIN_HOST

#define FAILED "the operation failed; the log of the host says why, under the call's id"
#define LATER "the database cannot do this at present; try again later"

static const struct mp_code_info table[] = {
    /* ---- of the caller ---- */
    {"VALIDATION_ERROR", "", 400, CALLER, NO, NULL,
     "the input, or a parameter of a page, does not match its schema or is not JSON",
     "correct what the error names; GET /openapi.json has the schemas"},
    {"RESOURCE_NOT_FOUND", "", 404, CALLER, NO, NULL,
     "tx:one found no row: there is none, or it is another tenant's", "send an id that exists"},
    {"UNIQUE_VIOLATION", "23505", 409, CALLER, NO,
     "it conflicts with something that is already stored",
     "a stored row conflicts with a unique index, and the operation's `errors` does not name the "
     "constraint",
     "give the constraint a code and a message of your own in `errors`"},
    {"EXCLUSION_VIOLATION", "23P01", 409, CALLER, NO,
     "it conflicts with something that is already stored",
     "a stored row conflicts with an exclusion constraint, and the operation's `errors` does not "
     "name it",
     "give the constraint a code and a message of your own in `errors`"},
    {"FOREIGN_KEY_VIOLATION", "23503 23001", 409, CALLER, NO,
     "it refers to something that does not exist, or something still refers to it",
     "a foreign key finds no row, or a row that others still refer to; `errors` does not name the "
     "constraint",
     "look the row up with tx:one first, or give the constraint a code in `errors`"},
    {"IDEMPOTENCY_KEY_REUSED", "", 422, CALLER, NO, NULL,
     "the Idempotency-Key was used with another input", "use one key for one call"},
    {"MULTI_TENANT_VIOLATION", "", 403, CALLER, NO, NULL,
     "the input names another tenant than the caller's",
     "leave the tenant's field out, or use a token of that tenant"},
    {"UNKNOWN_OPERATION", "", 404, CALLER, NO,
     "no operation has this name; GET /api/ops lists them",
     "no file of scripts/ has that name and returns an operation", "GET /api/ops lists them"},
    {"NOT_CALLABLE", "", 404, CALLER, NO, "this operation is run by the host, not by callers",
     "a subscriber is run by what is published to its topic", "publish to its topic"},
    {"UNAUTHORIZED", "", 401, CALLER, NO, NULL,
     "no token, or one that is unknown, revoked or expired", "create one: moonpool token create"},
    {"FORBIDDEN", "", 403, CALLER, NO, NULL,
     "the token lacks the scope, the origin is not allowed, or the page is for development only",
     "use a token with the scope; see MOONPOOL_CORS_ORIGINS and MOONPOOL_ENV"},
    {"TOO_MANY_REQUESTS", "", 429, CALLER, YES, NULL,
     "too many invalid tokens from one address, or too many requests", "wait as Retry-After says"},
    {"UNKNOWN_CALL", "", 404, CALLER, NO, NULL,
     "the recorder has no call of that id, or has forgotten it",
     "moonpool why lists the last ones; the log keeps the others"},
    {"NO_PLAN", "", 400, CALLER, NO, NULL,
     "the statement is gone from the history (404), or has no plan (400)",
     "take its number from /api/db/query-history"},
    {"USAGE", "", 400, CALLER, NO, NULL, "a command, or a line on the control socket, is malformed",
     "the message says how"},
    {"NOT_FOUND", "", 404, CALLER, NO, NULL, "no page has this path",
     "operations are at /api/ops/NAME"},
    {"METHOD_NOT_ALLOWED", "", 405, CALLER, NO, NULL, "the path does not support this method",
     "operations are called with POST"},
    {"UNSUPPORTED_MEDIA_TYPE", "", 415, CALLER, NO, NULL,
     "the Content-Type is not JSON, or the body is compressed",
     "send Content-Type: application/json, without Content-Encoding"},
    {"BAD_REQUEST", "", 400, CALLER, NO, NULL, "the request is not well-formed HTTP/1.1",
     "correct what the message names"},
    {"REQUEST_TIMEOUT", "", 408, CALLER, YES, NULL, "the request did not arrive in time",
     "send it faster"},
    {"CONTENT_TOO_LARGE", "", 413, CALLER, NO, NULL,
     "the body is larger than 1 MiB, or has more values than MOONPOOL_BODY_VALUES",
     "send less at a time"},
    {"URI_TOO_LONG", "", 414, CALLER, NO, NULL, "the path is too long", "shorten it"},
    {"EXPECTATION_FAILED", "", 417, CALLER, NO, NULL, "an Expect other than 100-continue",
     "leave the header out"},
    {"MISDIRECTED_REQUEST", "", 421, CALLER, NO, NULL, "the request is for another host",
     "send it to the host that it names"},
    {"HEADERS_TOO_LARGE", "", 431, CALLER, NO, NULL, "the head of the request is too large",
     "send fewer or shorter headers"},
    {"CANCELED", "", 499, CALLER, NO, "the caller stopped waiting; it was rolled back",
     "the client went away, or the task that waited was ended", "wait longer, or ask for less"},
    {"NOT_IMPLEMENTED", "", 501, CALLER, NO, NULL,
     "the host does not support the method or the coding", "use another one"},
    {"HTTP_VERSION_NOT_SUPPORTED", "", 505, CALLER, NO, NULL, "neither HTTP/1.1 nor HTTP/1.0",
     "speak HTTP/1.1"},
    /* ---- of scripts ---- */
    {"SCRIPT_ERROR", "", 500, OPERATOR, NO, FAILED,
     "a script raised an unexpected error, or does not load",
     "the log has the line and the traceback; for callers' faults use moonpool.fail"},
    {"INVALID_ARGUMENT", "", 500, OPERATOR, NO, FAILED,
     "a script passed a wrong argument to a function of the host",
     "the log has the line and the fault"},
    {"SCRIPT_TIMEOUT", "", 500, OPERATOR, NO, FAILED, "a script used up its CPU time",
     "do the work in SQL, in smaller pieces, or give the operation more `cpu`"},
    {"OUT_OF_MEMORY", "", 500, OPERATOR, NO, FAILED, "a script used up its memory",
     "read fewer rows at a time, or give the operation more `memory`; check "
     "moonpool_lua_memory_bytes"},
    {"HOST_OUT_OF_MEMORY", "", 503, OPERATOR, YES,
     "the host has no memory for this at present; try again later",
     "the host has no memory left: the machine's, MOONPOOL_MEMORY_LIMIT or MOONPOOL_RESULT_MEMORY",
     "check moonpool_lua_memory_bytes; give it more, or let fewer calls run at a time"},
    {"TOO_MANY_ROWS", "", 500, OPERATOR, NO, FAILED, "tx:one or db.one found more than one row",
     "name the whole key, or use tx:query"},
    {"ROW_NOT_STORED", "", 500, OPERATOR, NO, FAILED,
     "an insert whose row the script reads stored no row: a BEFORE INSERT trigger or a rule "
     "suppressed it",
     "check the triggers and rules of the table; if this is intended, use tx:exec"},
    {"RESULT_UNWRITABLE", "", 500, OPERATOR, NO,
     "the result of the operation cannot be written; the message says whether its work is stored",
     "the result of `run` cannot be written as JSON",
     "return values that JSON has; the log names the place in the result"},
    {"NUMBER_OUT_OF_RANGE", "22003", 500, OPERATOR, NO, "a number is out of range",
     "a number is too large for its column or type", "bound it in the schema: is.integer:max(n)"},
    {"TEXT_TOO_LONG", "22001", 500, OPERATOR, NO, "a text is too long",
     "a text is longer than its column", "bound it in the schema: is.string:max(n)"},
    {"INVALID_VALUE", "22P02 22P03 22P05 22007 22008 22018 22021 22023", 500, OPERATOR, NO,
     "a value cannot be used", "a value does not have the type that the statement needs",
     "restrict it in the schema; the log names the parameter and the type"},
    {"CHECK_VIOLATION", "23514", 500, OPERATOR, NO, FAILED,
     "a CHECK constraint refuses what the schema let through, and `errors` does not name it",
     "check it in the schema, or give the constraint a code in `errors`"},
    {"NOT_NULL_VIOLATION", "23502", 500, OPERATOR, NO, FAILED,
     "a column that must not be NULL got none",
     "make the field required in the schema, or give the column a default"},
    {"STATEMENT_TOO_COMPLEX", "54", 500, OPERATOR, NO, FAILED,
     "a statement or a value is nested too deeply for the server, or has too many columns or "
     "arguments",
     "bound what callers send: is.string:max(n), is.any; look for functions that call themselves"},
    {"READ_ONLY", "25006", 500, OPERATOR, NO, FAILED,
     "an operation with `read_only` tried to write", "remove `read_only`"},
    {"DATABASE_ERROR", "", 500, OPERATOR, NO, FAILED,
     "the server refused a statement: it does not fit the schema of the database, or a function "
     "raised",
     "the log has the SQLSTATE and the line; are all migrations applied?"},
    /* ---- of the database and its machine ---- */
    {"PERMISSION_DENIED", "42501", 500, OPERATOR, NO, FAILED,
     "a GRANT is missing, or row level security refuses the row",
     "grant it to moonpool_app in a migration; does the statement name the tenant?"},
    {"NOT_MIGRATED", "", 503, OPERATOR, YES, LATER,
     "migrations are pending or changed, and --require-migrated is set",
     "moonpool migrate status lists what is missing, moonpool migrate up applies it"},
    {"DISK_FULL", "53100", 503, OPERATOR, YES, LATER, "the server's disk is full",
     "free space on it"},
    {"SERVER_OUT_OF_MEMORY", "53200", 503, OPERATOR, YES, LATER,
     "the server has no memory, or no room for locks",
     "check work_mem, max_connections and max_locks_per_transaction"},
    {"SERVER_LIMIT", "53", 503, OPERATOR, YES, LATER, "a limit of the server is reached",
     "the log has the server's message"},
    {"STORAGE_ERROR", "58 F0 XX001 XX002", 503, OPERATOR, NO, LATER,
     "the server cannot read or write its files, or they are damaged",
     "check the server's log and its disk; have backups ready"},
    {"INTERNAL_ERROR", "", 500, OPERATOR, NO, FAILED, "a fault of the host itself",
     "report it with the lines of the log"},
    {"IO_ERROR", "", 500, OPERATOR, NO, FAILED, "a file or a socket of the host could not be used",
     "the log names it"},
    /* ---- for a while ---- */
    {"DATABASE_READ_ONLY", "", 503, TRANSIENT, HOST, LATER,
     "the server behind DATABASE_URL takes no writes: it is a standby, or set to read only",
     "promote a server, or point the address at one that takes writes; the host reconnects by "
     "itself"},
    {"SERIALIZATION_FAILURE", "40001", 503, TRANSIENT, HOST,
     "too many concurrent changes of the same data; try again",
     "concurrent transactions conflicted in all attempts",
     "give conflicting calls one `lane`; read fewer rows"},
    {"DEADLOCK", "40P01", 503, TRANSIENT, HOST,
     "too many concurrent changes of the same data; try again",
     "transactions lock the same rows in different orders",
     "lock in one order, or give them one `lane`"},
    {"LOCK_TIMEOUT", "55P03", 503, TRANSIENT, YES, "the same data is being changed; try again",
     "`lock_timeout` passed, or NOWAIT met a lock", "moonpool why ID names the holder of the lock"},
    {"QUERY_CANCELED", "57014", 504, TRANSIENT, YES, "it took too long and was canceled",
     "`statement_timeout` passed, or an administrator canceled the statement",
     "see moonpool why ID, and the statement's plan at /api/db/slow-queries"},
    {"TOO_MANY_CONNECTIONS", "53300", 503, TRANSIENT, HOST, LATER,
     "the server takes no more connections", "lower DB_POOL_MAX, or raise max_connections"},
    {"NO_DATABASE", "57P03", 503, TRANSIENT, HOST, "the database cannot be reached; try again",
     "the server is down, is starting, or cannot be reached",
     "check that PostgreSQL runs and DATABASE_URL is right"},
    {"CONNECTION_LOST", "", 503, TRANSIENT, HOST,
     "the connection to the database was lost; try again",
     "the connection was lost in all attempts", "check the server's log"},
    {"DEADLINE_EXCEEDED", "", 504, TRANSIENT, YES, "it was not done in time, and was rolled back",
     "the call's `timeout` passed: in its lane, while it waited for a connection, or while it ran",
     "moonpool why ID shows where the time went"},
    {"BUSY", "", 503, TRANSIENT, YES, "the host is too busy; try again",
     "a queue of the host is full",
     "check the lanes and moonpool_pool_waiters; run more hosts, or less work at a time"},
    {"CLOSED", "", 503, TRANSIENT, YES, "the host is closing, or not open yet; try again",
     "the host is stopping or starting", "use another host"},
    {"OUTCOME_UNKNOWN", "", 500, TRANSIENT, NO,
     "it is unknown whether it was stored; repeating it with the same Idempotency-Key does it at "
     "most once",
     "the answer to COMMIT was lost, and the database could not be reached until the deadline",
     "check whether the work is stored before you repeat it; let callers send an Idempotency-Key"},
};

const struct mp_code_info *mp_code_at(size_t n) {
  return n < MP_ARRAY_LEN(table) ? &table[n] : NULL;
}

const struct mp_code_info *mp_code_find(const char *name) {
  for (size_t i = 0; i < MP_ARRAY_LEN(table); i++)
    if (!strcmp(table[i].name, name)) return &table[i];
  return NULL;
}

static bool lists(const char *sqlstates, const char *wanted, size_t len) {
  for (const char *at = sqlstates; *at;) {
    size_t n = strcspn(at, " ");
    if (n == len && !strncmp(at, wanted, n)) return true;
    at += n + (at[n] == ' ');
  }
  return false;
}

const struct mp_code_info *mp_code_of_sqlstate(const char *sqlstate) {
  for (size_t len = 5; len; len = len == 5 ? 2 : 0)
    for (size_t i = 0; i < MP_ARRAY_LEN(table); i++)
      if (lists(table[i].sqlstates, sqlstate, len)) return &table[i];
  return NULL;
}

enum mp_blame mp_blame_of(const char *name, int status) {
  const struct mp_code_info *info = mp_code_find(name);
  if (status < 500) return CALLER;
  if (info && info->blame != CALLER) return info->blame;
  if (info && info->status == status) return CALLER; /* malformed or unsupported HTTP */
  return status == 503 || status == 504 ? TRANSIENT : OPERATOR;
}

const char *mp_blame_name(enum mp_blame blame) {
  static const char *const names[] = {"caller", "operator", "transient"};
  return names[blame];
}

const char *mp_again_name(enum mp_again again) {
  static const char *const names[] = {"no", "yes", "host"};
  return names[again];
}
