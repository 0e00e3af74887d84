/* facts.h: what the catalog says about the table of an insert that the host has written: whether
 * many rows in one statement do what they do one by one, and whether such an insert and one into
 * another table may change places.
 *
 * Many rows do unless something looks at the table while the statement runs: a trigger or a rule, a
 * foreign key to the table itself, a policy with a subquery, a function of unknown effect in a
 * default, a check or a policy. Two inserts may change places if none of the two sees the other: by
 * a foreign key to a row of equal key, or by a sequence of which both draw. */
#ifndef MP_FACTS_H
#define MP_FACTS_H

#include <libpq-fe.h>
#include <stdbool.h>

struct mp_facts {
  char *told;       /* as the catalog says it, for the next question; NULL: nothing is known */
  char *parts;      /* the same, cut into the following */
  const char *root; /* the table's number; a partition's: that of the whole */
  bool movable;     /* all it draws on is time, chance and sequences */
  const char *sequences, *keys;
};

/* $1: the table. One row: 1 if many rows do what they do one by one, else 0; what else is known. */
extern const char mp_facts_question[];
/* The same, but it fails with 22012 instead of 0, or unless $2 (NULL: anything) is still true. */
extern const char mp_facts_demand[];

/* From the answer to one of the two. Without memory nothing is known. */
void mp_facts_learn(struct mp_facts *facts, const PGresult *answer);
void mp_facts_forget(struct mp_facts *facts);

/* One row of an insert: its values by columns. */
struct mp_facts_row {
  const struct mp_facts *facts;
  int columns;
  char *const *names;
  const char *const *values;
};
/* May their inserts change places whatever the rows are? */
bool mp_facts_strangers(const struct mp_facts *a, const struct mp_facts *b);
bool mp_facts_commute(const struct mp_facts_row *a, const struct mp_facts_row *b);

#endif
