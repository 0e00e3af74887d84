#include "pg/parser.h"

#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop/loop.h"
#include "util/attr.h"

/* The deepest frames take some 400 bytes for each operator or key word (measured). */
#define STACK_SIZE ((size_t)16 << 20)

/* Runs of operator characters: up to FREE_RUN are not counted; LOOKS_MAX re-reads take some
 * milliseconds. */
enum { FREE_RUN = 16, LOOKS_MAX = 250000 };

/* ---- the threads ---- */

struct parse_job {
  struct parse_job *next;
  void (*run)(struct parse_job *job);
  bool done;
  const char *sql;
  bool lenient;
  struct mp_sql_fault *fault;
  void *result;
};

struct worker {
  pthread_mutex_t mutex;
  pthread_cond_t work, done;
  struct parse_job *first, *last;
  bool started;
};

static struct worker quick = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                              .work = PTHREAD_COND_INITIALIZER,
                              .done = PTHREAD_COND_INITIALIZER},
                     slow = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                             .work = PTHREAD_COND_INITIALIZER,
                             .done = PTHREAD_COND_INITIALIZER};

static void *work(void *data) {
  struct worker *worker = data;
  pthread_mutex_lock(&worker->mutex);
  for (;;) {
    struct parse_job *job = worker->first;
    if (!job) {
      pthread_cond_wait(&worker->work, &worker->mutex);
      continue;
    }
    worker->first = job->next;
    pthread_mutex_unlock(&worker->mutex);
    uint64_t began_ns = mp_thread_cpu_ns();
    job->run(job);
    job->fault->cpu_ns = mp_thread_cpu_ns() - began_ns;
    pthread_mutex_lock(&worker->mutex);
    job->done = true;
    pthread_cond_broadcast(&worker->done);
  }
  return NULL;
}

/* A child of fork() has none of the threads, and may find a mutex locked by one of them. */
static void before_fork(void) {
  pthread_mutex_lock(&quick.mutex);
  pthread_mutex_lock(&slow.mutex);
}

static void in_parent(void) {
  pthread_mutex_unlock(&slow.mutex);
  pthread_mutex_unlock(&quick.mutex);
}

static void in_child(void) {
  static const struct worker fresh = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                                      .work = PTHREAD_COND_INITIALIZER,
                                      .done = PTHREAD_COND_INITIALIZER};
  quick = slow = fresh;
}

static void expect_forks(void) { (void)pthread_atfork(before_fork, in_parent, in_child); }

/* Under the mutex. Signals are for the program's own threads. */
static bool start(struct worker *worker) {
  pthread_attr_t attr;
  pthread_t thread;
  sigset_t all, before;
  if (worker->started) return true;
  if (pthread_attr_init(&attr)) return false;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  worker->started = !pthread_attr_setstacksize(&attr, STACK_SIZE) &&
                    !pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) &&
                    !pthread_create(&thread, &attr, work, worker);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  return worker->started;
}

static void *have_run(struct parse_job *job, size_t len) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  struct worker *worker = len <= MP_SQL_QUICK ? &quick : &slow;
  pthread_once(&once, expect_forks);
  job->fault->cpu_ns = 0;
  pthread_mutex_lock(&worker->mutex);
  if (start(worker)) {
    if (worker->first)
      worker->last->next = job;
    else
      worker->first = job;
    worker->last = job;
    pthread_cond_signal(&worker->work);
    while (!job->done) pthread_cond_wait(&worker->done, &worker->mutex);
  } else {
    job->fault->kind = MP_SQL_MEMORY;
    snprintf(job->fault->message, sizeof job->fault->message, "no thread for PostgreSQL's parser");
  }
  pthread_mutex_unlock(&worker->mutex);
  return job->result;
}

/* ---- faults ---- */

static void no_memory(struct mp_sql_fault *fault) {
  fault->kind = MP_SQL_MEMORY;
  snprintf(fault->message, sizeof fault->message, "not enough memory");
}

static void too_deep(struct mp_sql_fault *fault) {
  fault->kind = MP_SQL_LIMIT;
  snprintf(fault->message, sizeof fault->message,
           "is nested too deeply (%d operators and key words, one inside of another, are the "
           "limit): pass a list as one parameter, as in `= any($1)` or `unnest($1::int[])`",
           MP_SQL_NESTING);
}

static void take_error(struct mp_sql_fault *fault, const PgQueryError *error) {
  if (!error || !strncmp(error->message, "out of memory", 13)) {
    no_memory(fault);
  } else if (!strncmp(error->message, "memory exhausted", 16)) { /* of its grammar's own stack */
    too_deep(fault);
  } else {
    fault->kind = MP_SQL_SYNTAX;
    fault->position = error->cursorpos;
    int n = snprintf(fault->message, sizeof fault->message, "%s", error->message);
    size_t at = sizeof fault->message - 1;
    if (n < 0 || (size_t)n <= at) return;
    while (at && ((unsigned char)fault->message[at - 1] & 0xC0) == 0x80) at--;
    fault->message[at ? at - 1 : 0] = '\0'; /* between characters */
  }
}

/* ---- scanning ---- */

static PgQuery__ScanResult *scan(const char *sql, struct mp_sql_fault *fault) {
  PgQueryScanResult scanned = pg_query_scan(sql);
  PgQuery__ScanResult *tokens =
      scanned.error
          ? NULL
          : pg_query__scan_result__unpack(NULL, scanned.pbuf.len, (const void *)scanned.pbuf.data);
  if (!tokens) take_error(fault, scanned.error);
  pg_query_free_scan_result(scanned);
  return tokens;
}

static enum mp_sql_part part_of(int token) {
  switch (token) { /* of about 500 tokens; the others do not nest */
    case PG_QUERY__TOKEN__SQL_COMMENT:
    case PG_QUERY__TOKEN__C_COMMENT: return MP_SQL_COMMENT;
    case PG_QUERY__TOKEN__SCONST:
    case PG_QUERY__TOKEN__USCONST:
    case PG_QUERY__TOKEN__BCONST:
    case PG_QUERY__TOKEN__XCONST: return MP_SQL_STRING;
    case PG_QUERY__TOKEN__ICONST:
    case PG_QUERY__TOKEN__FCONST: return MP_SQL_NUMBER;
    case PG_QUERY__TOKEN__PARAM: return MP_SQL_PARAMETER;
    case PG_QUERY__TOKEN__CONCURRENTLY: return MP_SQL_CONCURRENTLY;
    default: return MP_SQL_PLAIN;
  }
}

static void run_scan(struct parse_job *job) {
  PgQuery__ScanResult *scanned = scan(job->sql, job->fault);
  if (!scanned) return;
  struct mp_sql_tokens *tokens = malloc(sizeof *tokens + scanned->n_tokens * sizeof tokens->at[0]);
  if (tokens) {
    tokens->n = scanned->n_tokens;
    for (size_t i = 0; i < tokens->n; i++) {
      const PgQuery__ScanToken *token = scanned->tokens[i];
      tokens->at[i] = (struct mp_sql_token){token->start, token->end, part_of((int)token->token)};
    }
  } else {
    no_memory(job->fault);
  }
  pg_query__scan_result__free_unpacked(scanned, NULL);
  job->result = tokens;
}

/* ---- nesting ---- */

enum token_role { APART, OPENS, CLOSES, ITEM, SEPARATES, COUNTS, COMBINES };

static enum token_role role_of(const PgQuery__ScanToken *token) {
  switch ((int)token->token) {
    case PG_QUERY__TOKEN__ASCII_40: /* ( */
    case PG_QUERY__TOKEN__ASCII_91: /* [ */ return OPENS;
    case PG_QUERY__TOKEN__ASCII_41:
    case PG_QUERY__TOKEN__ASCII_93: return CLOSES;
    case PG_QUERY__TOKEN__ASCII_59: /* ; */ return SEPARATES;
    case PG_QUERY__TOKEN__ASCII_44: /* , */ return ITEM;
    case PG_QUERY__TOKEN__UNION:
    case PG_QUERY__TOKEN__INTERSECT:
    case PG_QUERY__TOKEN__EXCEPT: return COMBINES;
    case PG_QUERY__TOKEN__ASCII_46: /* . */
    case PG_QUERY__TOKEN__IDENT:
    case PG_QUERY__TOKEN__UIDENT:
    case PG_QUERY__TOKEN__AS:
    case PG_QUERY__TOKEN__NULL_P:
    case PG_QUERY__TOKEN__TRUE_P:
    case PG_QUERY__TOKEN__FALSE_P:
    case PG_QUERY__TOKEN__DEFAULT:
    case PG_QUERY__TOKEN__AND: /* lists, however long they are */
    case PG_QUERY__TOKEN__OR:
    case PG_QUERY__TOKEN__WHEN:
    case PG_QUERY__TOKEN__THEN:
    case PG_QUERY__TOKEN__ELSE: return APART;
    default: return part_of((int)token->token) == MP_SQL_PLAIN ? COUNTS : APART;
  }
}

/* What was counted in one open bracket. */
struct level {
  unsigned item;     /* operators and key words since the last comma */
  unsigned items;    /* the most of them in one item */
  unsigned combined; /* UNION and its like: their arms nest, whatever commas they have */
  unsigned below;    /* depth of the deepest bracket in it */
};

static unsigned depth_of(const struct level *level) {
  unsigned own = level->item > level->items ? level->item : level->items;
  return own + level->combined + level->below;
}

/* Each level of the tree takes an operator or a key word of its own, or a bracket, and the items of
 * a list lie beside each other. So a bracket's depth is at most the number of operators and key
 * words in one of its items, plus the deepest bracket in it, and an upper bound of the tree's is
 * found without recursion. */
static bool nested_too_deeply(const PgQuery__ScanResult *scanned, struct level *levels) {
  size_t level = 0;
  levels[0] = (struct level){.item = 0};
  for (size_t i = 0; i < scanned->n_tokens; i++) {
    struct level *at = &levels[level];
    switch (role_of(scanned->tokens[i])) {
      case APART: continue;
      case SEPARATES: *at = (struct level){.item = 0}; continue;
      case ITEM:
        if (at->item > at->items) at->items = at->item;
        at->item = 0;
        continue;
      case COUNTS: at->item++; break;
      case COMBINES: at->combined += 3; break; /* with the SELECT and the list of its arm */
      case OPENS:
        if (++level == MP_SQL_NESTING) return true;
        /* a list of OR, of AND, and what makes brackets a node */
        levels[level] = (struct level){.combined = 3};
        continue;
      case CLOSES:
        if (!level) continue;
        level--;
        unsigned depth = depth_of(at);
        if (depth > levels[level].below) levels[level].below = depth;
        break;
    }
    if (depth_of(&levels[level]) > MP_SQL_NESTING) return true;
  }
  return false; /* brackets that are never closed are no statement */
}

/* A text cannot be nested deeper than its length. */
static bool shallow(const char *sql, struct mp_sql_fault *fault) {
  if (strlen(sql) <= MP_SQL_NESTING) return true;
  struct level *levels = malloc(MP_SQL_NESTING * sizeof *levels);
  if (!levels) {
    no_memory(fault);
    return false;
  }
  PgQuery__ScanResult *scanned = scan(sql, fault);
  bool deep = scanned && nested_too_deeply(scanned, levels);
  if (deep) too_deep(fault);
  bool ok = scanned && !deep;
  if (scanned) pg_query__scan_result__free_unpacked(scanned, NULL);
  free(levels);
  return ok;
}

/* ---- parsing ---- */

static void run_parse(struct parse_job *job) {
  if (!shallow(job->sql, job->fault)) return;
  PgQueryParseResult parsed = pg_query_parse(job->sql);
  if (parsed.error || !parsed.parse_tree) {
    take_error(job->fault, parsed.error);
  } else {
    job->result = parsed.parse_tree;
    parsed.parse_tree = NULL; /* the caller's */
  }
  pg_query_free_parse_result(parsed);
}

/* Finding the statements makes no tree of JSON, and so no recursion: the grammar's own stack has
 * its limit. */
static void run_split(struct parse_job *job) {
  PgQuerySplitResult split =
      job->lenient ? pg_query_split_with_scanner(job->sql) : pg_query_split_with_parser(job->sql);
  struct mp_sql_pieces *pieces = NULL;
  size_t n = split.error ? 0 : (size_t)split.n_stmts;
  if (split.error) {
    take_error(job->fault, split.error);
  } else if ((pieces = malloc(sizeof *pieces + n * sizeof pieces->at[0]))) {
    pieces->n = n;
    for (size_t i = 0; i < n; i++)
      pieces->at[i] = (struct mp_sql_piece){(size_t)split.stmts[i]->stmt_location,
                                            (size_t)split.stmts[i]->stmt_len};
  } else {
    no_memory(job->fault);
  }
  pg_query_free_split_result(split);
  job->result = pieces;
}

bool mp_sql_fits(size_t len, size_t max, struct mp_sql_fault *fault) {
  if (len <= max) return true;
  *fault = (struct mp_sql_fault){.kind = MP_SQL_LIMIT};
  snprintf(fault->message, sizeof fault->message,
           "has %zu bytes, and %zu are the limit: pass a list as one parameter, as in `= any($1)` "
           "or `unnest($1::int[])`; bring many rows in with db.copy_in",
           len, max);
  return false;
}

/* In a run of operator characters the scanner reads the rest of the run again for each operator
 * that begins there (as the server's does), for example for `+` and for a comment inside a comment.
 * A text that is only such a run would take hours. */
static bool runs_are_short(const char *sql, struct mp_sql_fault *fault) {
  static const char characters[] = "~!@#^&|`?+-*/%<>=";
  size_t looks = 0;
  for (const char *at = sql; *(at += strcspn(at, characters));) {
    size_t len = strspn(at, characters), begins = 0;
    for (size_t i = 0; i < len; i++)
      begins += at[i] == '+' || (at[i] == '-' && i && at[i - 1] == '+') ||
                (at[i] == '/' && at[i + 1] == '*');
    if (len > FREE_RUN) looks += begins * len;
    at += len;
  }
  if (looks <= LOOKS_MAX) return true;
  *fault = (struct mp_sql_fault){.kind = MP_SQL_LIMIT};
  snprintf(fault->message, sizeof fault->message,
           "has long runs of operators without blanks, such as ++++ or /*/*: they would take the "
           "scanner too long");
  return false;
}

static void *ask(void (*run)(struct parse_job *job), const char *sql, bool lenient, size_t max,
                 struct mp_sql_fault *fault) {
  size_t len = strlen(sql);
  fault->position = 0;
  if (!mp_sql_fits(len, max, fault) || !runs_are_short(sql, fault)) return NULL;
  struct parse_job job = {.run = run, .sql = sql, .lenient = lenient, .fault = fault};
  return have_run(&job, len);
}

char *mp_sql_parse(const char *sql, size_t max, struct mp_sql_fault *fault) {
  return ask(run_parse, sql, false, max, fault);
}

struct mp_sql_tokens *mp_sql_scan(const char *sql, size_t max, struct mp_sql_fault *fault) {
  return ask(run_scan, sql, false, max, fault);
}

struct mp_sql_pieces *mp_sql_split(const char *text, bool lenient, size_t max,
                                   struct mp_sql_fault *fault) {
  return ask(run_split, text, lenient, max, fault);
}
