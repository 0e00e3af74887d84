#include "sql/many.h"

#include <stdlib.h>
#include <string.h>

#include "util/buf.h"

/* Each costs the backend that prepared the text some 400 bytes; the protocol allows 65,535. */
#define MOST_PARAMS 2048

static const char into[] = "insert into ", values[] = " values (", returning[] = " returning *";

struct mp_many *mp_many_new(const char *insert, char *const *names, unsigned columns) {
  const char *table = insert + strlen(into);
  struct mp_many *many = calloc(1, sizeof *many);
  if (!many) return NULL;
  many->insert = insert;
  many->names = names;
  many->columns = columns;
  many->table = strndup(table, strcspn(table, " "));
  many->keys = calloc(columns, sizeof *many->keys);
  if (many->table && many->keys) return many;
  mp_many_free(many);
  return NULL;
}

void mp_many_in(struct mp_many *many, unsigned database) {
  if (many->known_of == database) return;
  many->known = MP_MANY_UNKNOWN;
  many->known_of = database;
  mp_facts_forget(&many->facts);
}

/* Refused, although it was true once: asked for anew next time. */
void mp_many_learn(struct mp_many *many, const PGresult *answer, uint64_t now_ms) {
  bool knew = many->facts.told;
  many->known_ms = now_ms;
  mp_facts_forget(&many->facts);
  if (!answer)
    many->known = knew ? MP_MANY_UNKNOWN : MP_MANY_DIFFERS;
  else if (PQntuples(answer) == 1 && *PQgetvalue(answer, 0, 0) == '1')
    many->known = MP_MANY_SAME;
  else
    many->known = MP_MANY_DIFFERS;
  if (many->known == MP_MANY_SAME) mp_facts_learn(&many->facts, answer);
}

void mp_many_free(struct mp_many *many) {
  if (!many) return;
  for (unsigned i = 0; i < MP_MANY_SIZES; i++) {
    free(many->sql[false][i]);
    free(many->sql[true][i]);
  }
  free(many->unseen);
  mp_facts_forget(&many->facts);
  free(many->table);
  free(many->keys);
  free(many);
}

unsigned mp_many_most(const struct mp_many *many) {
  unsigned most = MP_MANY_MOST;
  while (most * many->columns > MOST_PARAMS) most /= 2;
  return most;
}

/* The names of columns and tables have no blanks (text.c), so the first " values (" is the
 * statement's own. */
const char *mp_many_sql(struct mp_many *many, unsigned rows, bool seen) {
  unsigned size = 0, number = 0;
  for (unsigned n = MP_MANY_LEAST; n < rows; n *= 2) size++;
  char **made = &many->sql[seen][size];
  if (*made) return *made;
  struct mp_buf sql;
  mp_buf_init(&sql, 0);
  const char *head_end = strstr(many->insert, values) + strlen(values) - 1;
  mp_buf_add(&sql, many->insert, (size_t)(head_end - many->insert));
  for (unsigned row = 0; row < rows; row++) {
    mp_buf_adds(&sql, row ? ", (" : "(");
    for (unsigned i = 0; i < many->columns; i++)
      mp_buf_addf(&sql, "%s$%u", i ? ", " : "", ++number);
    mp_buf_addc(&sql, ')');
  }
  if (seen) mp_buf_adds(&sql, returning);
  if (!sql.failed) *made = strdup(mp_buf_text(&sql));
  mp_buf_fini(&sql);
  return *made;
}

const char *mp_many_unseen(struct mp_many *many) {
  if (!many->unseen) many->unseen = strndup(many->insert, strlen(many->insert) - strlen(returning));
  return many->unseen;
}
