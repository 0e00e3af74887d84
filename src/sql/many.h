/* many.h: an insert that the host has written (mp_insert_text), for many rows at once: its text,
 * without its RETURNING, and what is known about its table (facts.h). */
#ifndef MP_MANY_H
#define MP_MANY_H

#include <stdbool.h>
#include <stdint.h>

#include "sql/facts.h"

enum {
  MP_MANY_LEAST = 4,  /* rows; fewer go one by one: a text more to prepare for little */
  MP_MANY_MOST = 128, /* more cost the server more for each row */
  MP_MANY_SIZES = 6,  /* 4, 8 … 128: few texts, because each connection prepares them */
  MP_MANY_FRESH_MS = 5000,
};

struct mp_many {
  enum { MP_MANY_UNKNOWN, MP_MANY_SAME, MP_MANY_DIFFERS } known; /* from one by one */
  unsigned known_of;     /* in which database (mp_types_id) */
  uint64_t known_ms;     /* loop time of the answer */
  uint64_t asked_in;     /* number of the segment in which the catalog was asked last */
  struct mp_facts facts; /* SAME */
  const char *insert;    /* the text for one row; borrowed, as its names */
  char *const *names;
  unsigned columns;  /* its parameters */
  const void **keys; /* insert.c: where their names are in Lua, in the order of the last values */
  char *table;       /* quoted, for the question */
  char *sql[2][MP_MANY_SIZES]; /* without RETURNING, and with it; made on first use */
  char *unseen;                /* `insert` without RETURNING; the same */
};

/* `insert`: a text of mp_insert_text whose parameters, at least one, have these names; both outlive
 * the result. NULL: no memory. */
struct mp_many *mp_many_new(const char *insert, char *const *names, unsigned columns);
void mp_many_free(struct mp_many *many); /* NULL is fine */
/* The text for `rows` of them: a power of two from MP_MANY_LEAST to MP_MANY_MOST. Its parameters
 * are those of the first row, of the second … It gives the rows if they are `seen`. NULL: no
 * memory. */
const char *mp_many_sql(struct mp_many *many, unsigned rows, bool seen);
/* The text for one row that does not give the row. NULL: no memory. */
const char *mp_many_unseen(struct mp_many *many);
/* The most rows that go into one statement. */
unsigned mp_many_most(const struct mp_many *many);

/* What is known is of this database, or nothing. */
void mp_many_in(struct mp_many *many, unsigned database);
/* From the answer to a question of facts.h; NULL: it was refused. */
void mp_many_learn(struct mp_many *many, const PGresult *answer, uint64_t now_ms);
static inline bool mp_many_fresh(const struct mp_many *many, uint64_t now_ms) {
  return many->known == MP_MANY_SAME && now_ms - many->known_ms < MP_MANY_FRESH_MS;
}

#endif
