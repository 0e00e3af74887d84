/* many.h: an insert that the host has written (mp_text_insert), for many rows at once: its text,
 * and whether many rows in one statement do what they do one by one.
 *
 * They do unless something looks at the table while the statement runs: a trigger or a rule, a
 * foreign key to the table itself, a policy with a subquery, a function of unknown effect in a
 * default, a check or a policy. The catalog knows. It is asked in front of the first such
 * statement, and again when what is known is no longer fresh; the answer comes as a success or as a
 * failure of its transaction. */
#ifndef MP_MANY_H
#define MP_MANY_H

#include <stdbool.h>
#include <stdint.h>

enum {
  MP_MANY_LEAST = 4,  /* rows; fewer go one by one: a text more to prepare for little */
  MP_MANY_MOST = 128, /* more cost the server more for each row */
  MP_MANY_SIZES = 6,  /* 4, 8 … 128: few texts, because each connection prepares them */
  MP_MANY_FRESH_MS = 1000,
};

struct mp_many {
  enum { MP_MANY_UNKNOWN, MP_MANY_SAME, MP_MANY_DIFFERS } known;
  unsigned known_of;        /* in which database (mp_types_id) */
  uint64_t known_ms;        /* SAME: loop time of the answer */
  const char *insert;       /* the text for one row; borrowed */
  unsigned columns;         /* its parameters */
  char *table;              /* quoted, for the question */
  char *sql[MP_MANY_SIZES]; /* made on first use */
};

/* `insert`: a text of mp_text_insert with that many columns, at least one; it outlives the result.
 * NULL: no memory. */
struct mp_many *mp_many_new(const char *insert, unsigned columns);
void mp_many_free(struct mp_many *many); /* NULL is fine */
/* The text for `rows` of them: a power of two from MP_MANY_LEAST to MP_MANY_MOST. Its parameters
 * are those of the first row, of the second … NULL: no memory. */
const char *mp_many_sql(struct mp_many *many, unsigned rows);
/* The most rows that go into one statement. */
unsigned mp_many_most(const struct mp_many *many);

/* Fails with 22012 unless many rows in one statement of the table $1 do what they do one by one. */
extern const char mp_many_question[];
/* What is known is of this database, or nothing. */
void mp_many_in(struct mp_many *many, unsigned database);
static inline bool mp_many_fresh(const struct mp_many *many, uint64_t now_ms) {
  return many->known == MP_MANY_SAME && now_ms - many->known_ms < MP_MANY_FRESH_MS;
}

#endif
