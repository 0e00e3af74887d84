#include "sql/many.h"

#include <stdlib.h>
#include <string.h>

#include "util/buf.h"

#define MAX_PARAMS 65535 /* the protocol's */

static const char into[] = "insert into ", values[] = " values (", returning[] = " returning *";

/* The table with all of its partitions, and those of the table that it is a partition of. */
#define TREE "any ((select ids from tree)::oid[])"

/* The code that an insert runs: defaults and generated columns, checks, policies, domains. */
#define CODE                                                                      \
  "select d.oid from pg_catalog.pg_attrdef d where d.adrelid = " TREE             \
  " union all select c.oid from pg_catalog.pg_constraint c where c.contype = 'c'" \
  " and c.conrelid = " TREE                                                       \
  " union all select p.oid from pg_catalog.pg_policy p where p.polrelid = " TREE  \
  " union all select oid from domain"                                             \
  " union all select c.oid from pg_catalog.pg_constraint c"                       \
  " where c.contypid = any (array(select oid from domain))"

/* The catalog does not list the functions that PostgreSQL itself brings among those that code
 * depends on; but statement_timestamp() differs from statement to statement. Arrays, not joins: so
 * the catalog's indexes are used. */
const char mp_many_question[] =
    "with recursive own as (select pg_catalog.to_regclass($1)::oid as oid),"
    " tree as materialized (select array(select oid from own union all select relid from own,"
    " pg_catalog.pg_partition_tree(pg_catalog.pg_partition_root(oid))) as ids),"
    " domain as (select t.oid, t.typbasetype from pg_catalog.pg_type t where t.typtype = 'd'"
    " and t.oid = any (array(select a.atttypid from pg_catalog.pg_attribute a"
    " where a.attrelid = " TREE
    " and a.attnum > 0 and not a.attisdropped))"
    " union select t.oid, t.typbasetype from domain d"
    " join pg_catalog.pg_type t on t.oid = d.typbasetype where t.typtype = 'd'),"
    " code as materialized (select array(" CODE
    ") as ids)"
    "select 1 / (not ((select oid is null from own)"
    " or exists (select from pg_catalog.pg_class c"
    " where c.oid = " TREE
    " and c.relkind not in ('r', 'p'))"
    " or exists (select from pg_catalog.pg_trigger t"
    " where t.tgrelid = " TREE
    " and not t.tgisinternal)"
    " or exists (select from pg_catalog.pg_rewrite r where r.ev_class = " TREE
    ")"
    " or exists (select from pg_catalog.pg_constraint c"
    " where c.contype = 'f' and c.conrelid = " TREE " and c.confrelid = " TREE
    ")"
    " or exists (select from pg_catalog.pg_policy p where p.polrelid = " TREE
    " and concat(p.polqual, p.polwithcheck) like '%{SUBLINK%')"
    " or exists (select from pg_catalog.pg_attrdef d where d.adrelid = " TREE
    " and pg_catalog.pg_get_expr(d.adbin, d.adrelid) like '%statement_timestamp%')"
    " or exists (select from pg_catalog.pg_depend d left join pg_catalog.pg_proc f"
    " on f.oid = d.refobjid and d.refclassid = 'pg_catalog.pg_proc'::regclass"
    " where d.objid = any ((select ids from code)::oid[])"
    " and d.classid in ('pg_catalog.pg_attrdef'::regclass, 'pg_catalog.pg_constraint'::regclass,"
    " 'pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_type'::regclass)"
    " and (f.provolatile <> 'i' or d.refclassid = 'pg_catalog.pg_operator'::regclass))))::int";

struct mp_many *mp_many_new(const char *insert, unsigned columns) {
  const char *table = insert + strlen(into);
  struct mp_many *many = calloc(1, sizeof *many);
  if (!many) return NULL;
  many->insert = insert;
  many->columns = columns;
  many->table = strndup(table, strcspn(table, " "));
  if (many->table) return many;
  free(many);
  return NULL;
}

void mp_many_in(struct mp_many *many, unsigned database) {
  if (many->known_of != database) many->known = MP_MANY_UNKNOWN;
  many->known_of = database;
}

void mp_many_free(struct mp_many *many) {
  if (!many) return;
  for (unsigned i = 0; i < MP_MANY_SIZES; i++) free(many->sql[i]);
  free(many->table);
  free(many);
}

unsigned mp_many_most(const struct mp_many *many) {
  unsigned most = MP_MANY_MOST;
  while (most * many->columns > MAX_PARAMS) most /= 2;
  return most;
}

/* The names of columns and tables have no blanks (text.c), so the first " values (" is the
 * statement's own. */
const char *mp_many_sql(struct mp_many *many, unsigned rows) {
  unsigned size = 0, number = 0;
  for (unsigned n = MP_MANY_LEAST; n < rows; n *= 2) size++;
  if (many->sql[size]) return many->sql[size];
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
  mp_buf_adds(&sql, returning);
  if (!sql.failed) many->sql[size] = strdup(mp_buf_text(&sql));
  mp_buf_fini(&sql);
  return many->sql[size];
}
