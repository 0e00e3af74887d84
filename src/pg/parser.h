/* parser.h: PostgreSQL's own parser (libpg-query), and the only door to it.
 *
 * The parser walks its trees by recursion without asking how much stack is left, and needs some
 * hundred bytes of memory for each byte of the text. The server asks, and takes twice the limit
 * here with its default max_stack_depth; near its own limit it may need seconds. So a text beyond
 * the limits of length and nesting never reaches it, and it runs on threads of its own, whose stack
 * is as large as the deepest text wants: one for texts that are read in some milliseconds, for
 * which a caller on the loop may wait, and one for longer ones, for which only a thread of the pool
 * should (script/offload.h). The threads begin with the first text and live as long as the process.
 * Any thread may call. */
#ifndef MP_PARSER_H
#define MP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  MP_SQL_QUICK = 8 << 10,    /* bytes that the parser reads while the loop waits */
  MP_SQL_MAX = 1 << 20,      /* bytes of a statement */
  MP_SQL_FILE_MAX = 8 << 20, /* bytes of a migration */
  MP_SQL_NESTING = 2000,     /* operators and key words, one inside of another */
};

/* Why a text was not read. `message` goes on after "the SQL text" where it is a limit. `cpu_ns` is
 * there for a text that was read, too: what the parser's thread has spent on it. */
struct mp_sql_fault {
  uint64_t cpu_ns;
  enum mp_sql_fault_kind { MP_SQL_SYNTAX, MP_SQL_LIMIT, MP_SQL_MEMORY } kind;
  long position; /* of a syntax error, in characters from 1; 0: nowhere */
  char message[240];
};

/* Is a text of `len` bytes short enough? */
bool mp_sql_fits(size_t len, size_t max, struct mp_sql_fault *fault);
/* The tree of the statement of at most `max` bytes as JSON, malloc'd; NULL: see the fault. */
char *mp_sql_parse(const char *sql, size_t max, struct mp_sql_fault *fault);

enum mp_sql_part {
  MP_SQL_PLAIN,
  MP_SQL_COMMENT,
  MP_SQL_STRING,
  MP_SQL_NUMBER,
  MP_SQL_PARAMETER,
  MP_SQL_CONCURRENTLY
};
struct mp_sql_tokens {
  size_t n;
  struct mp_sql_token {
    int start, end; /* bytes */
    enum mp_sql_part part;
  } at[];
};

/* The scanner's tokens, also of a text that does not parse; malloc'd. NULL: see the fault. */
struct mp_sql_tokens *mp_sql_scan(const char *sql, size_t max, struct mp_sql_fault *fault);

struct mp_sql_pieces {
  size_t n;
  struct mp_sql_piece {
    size_t start, len; /* bytes */
  } at[];
};

/* The positions of the statements; malloc'd. `lenient`: split by the scanner alone, for texts that
 * the parser rejects. */
struct mp_sql_pieces *mp_sql_split(const char *text, bool lenient, size_t max,
                                   struct mp_sql_fault *fault);

#endif
