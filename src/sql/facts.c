#include "sql/facts.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sql/canonical.h"

/* How the answer is cut: into its parts; the keys; a key's root and pairs; a pair's columns. */
#define PART "\4"
#define KEY "\1"
#define PAIR "\2"
#define COLUMN "\3"

/* Arrays, not joins: so the catalog's indexes are used. */
#define TREE "any ((select ids from tree)::oid[])"

/* The table with all of its partitions, and those of the table that it is a partition of; the
 * domains of its columns; the code that an insert runs, by number: defaults and generated columns,
 * checks, policies, domains; and that code itself. */
#define WITH                                                                                    \
  "with recursive own as (select pg_catalog.to_regclass($1)::oid as oid),"                      \
  " tree as materialized (select array(select oid from own union all select relid from own,"    \
  " pg_catalog.pg_partition_tree(pg_catalog.pg_partition_root(oid))) as ids),"                  \
  " domain as (select t.oid, t.typbasetype from pg_catalog.pg_type t where t.typtype = 'd'"     \
  " and t.oid = any (array(select a.atttypid from pg_catalog.pg_attribute a"                    \
  " where a.attrelid = " TREE                                                                   \
  " and a.attnum > 0 and not a.attisdropped))"                                                  \
  " union select t.oid, t.typbasetype from domain d"                                            \
  " join pg_catalog.pg_type t on t.oid = d.typbasetype where t.typtype = 'd'),"                 \
  " code as materialized ("                                                                     \
  "select d.oid, 'd' as kind, d.adbin::text as body from pg_catalog.pg_attrdef d"               \
  " where d.adrelid = " TREE                                                                    \
  " union all select c.oid, 'c', c.conbin::text from pg_catalog.pg_constraint c"                \
  " where c.contype = 'c' and c.conrelid = " TREE                                               \
  " union all select p.oid, 'p', concat(p.polqual, p.polwithcheck) from pg_catalog.pg_policy p" \
  " where p.polrelid = " TREE                                                                   \
  " union all select d.oid, 't', t.typdefaultbin::text from domain d"                           \
  " join pg_catalog.pg_type t using (oid)"                                                      \
  " union all select c.oid, 'c', c.conbin::text from pg_catalog.pg_constraint c"                \
  " where c.contypid = any (array(select oid from domain))),"                                   \
  " ids as materialized (select array(select oid from code) as code),"

/* The catalog does not list PostgreSQL's own functions among those that code depends on: those that
 * matter are found by number. statement_timestamp() (2648) differs from statement to statement. */
#define PLAIN                                                                                   \
  " plain as (select not ((select oid is null from own)"                                        \
  " or exists (select from pg_catalog.pg_class c"                                               \
  " where c.oid = " TREE                                                                        \
  " and c.relkind not in ('r', 'p'))"                                                           \
  " or exists (select from pg_catalog.pg_trigger t"                                             \
  " where t.tgrelid = " TREE                                                                    \
  " and not t.tgisinternal)"                                                                    \
  " or exists (select from pg_catalog.pg_rewrite r where r.ev_class = " TREE                    \
  ")"                                                                                           \
  " or exists (select from pg_catalog.pg_constraint c"                                          \
  " where c.contype = 'f' and c.conrelid = " TREE " and c.confrelid = " TREE                    \
  ")"                                                                                           \
  " or exists (select from code where body like '%{SUBLINK%' or body like '%:funcid 2648 %')"   \
  " or exists (select from pg_catalog.pg_depend d left join pg_catalog.pg_proc f"               \
  " on f.oid = d.refobjid and d.refclassid = 'pg_catalog.pg_proc'::regclass"                    \
  " where d.objid = any ((select code from ids)::oid[])"                                        \
  " and d.classid in ('pg_catalog.pg_attrdef'::regclass, 'pg_catalog.pg_constraint'::regclass," \
  " 'pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_type'::regclass)"                          \
  " and (f.provolatile <> 'i' or d.refclassid = 'pg_catalog.pg_operator'::regclass))) as it),"

/* The sequences that its defaults name, and those that belong to its columns. */
#define SEQUENCES                                                            \
  " sequences as (select d.objid as code, s.oid from pg_catalog.pg_depend d" \
  " join pg_catalog.pg_class s on s.oid = d.refobjid and s.relkind = 'S'"    \
  " where d.classid = 'pg_catalog.pg_attrdef'::regclass"                     \
  " and d.refclassid = 'pg_catalog.pg_class'::regclass"                      \
  " and d.objid = any ((select code from ids)::oid[])"                       \
  " union all select 0, s.oid from pg_catalog.pg_depend d"                   \
  " join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'"       \
  " where d.classid = 'pg_catalog.pg_class'::regclass"                       \
  " and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = " TREE "),"

/* Whatever gives another value when it is asked earlier or later; nextval (1574) of a sequence that
 * the catalog does not know of. */
#define MOVABLE                                                                       \
  " movable as (select not (exists (select from code,"                                \
  " regexp_matches(body, ':(?:op)?funcid ([0-9]+)', 'g') m join pg_catalog.pg_proc f" \
  " on f.oid = m[1]::oid where f.provolatile = 'v'"                                   \
  " and f.proname not in ('nextval', 'gen_random_uuid', 'random'))"                   \
  " or exists (select from code where kind <> 'd' and body like '%:funcid 1574 %')"   \
  " or exists (select from code where body like '%:funcid 1574 %'"                    \
  " and oid not in (select code from sequences))) as it),"

/* The foreign keys, deferred ones too. Columns whose values do not show in their text whether they
 * are equal have no names: only uuid and integers do. */
#define KEYS                                                                               \
  " keys as (select string_agg(concat(coalesce(pg_catalog.pg_partition_root(c.confrelid)," \
  " c.confrelid)::oid, (select string_agg(concat('" PAIR                                   \
  "',"                                                                                     \
  " case when a.atttypid in (20, 21, 23, 2950) then a.attname end, '" COLUMN               \
  "',"                                                                                     \
  " case when b.atttypid in (20, 21, 23, 2950) then b.attname end), '' order by place)"    \
  " from unnest(c.conkey, c.confkey) with ordinality u (k, f, place)"                      \
  " join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = k"            \
  " join pg_catalog.pg_attribute b on b.attrelid = c.confrelid and b.attnum = f)),"        \
  " '" KEY                                                                                 \
  "' order by c.conname) as told from pg_catalog.pg_constraint c, own"                     \
  " where c.contype = 'f' and c.conrelid = own.oid),"

#define TOLD                                                                                       \
  " told as (select concat_ws('" PART                                                              \
  "',"                                                                                             \
  " coalesce(pg_catalog.pg_partition_root(own.oid), own.oid)::oid,"                                \
  " (select it::int from movable), (select coalesce(string_agg(distinct s.oid || ' ', '' order by" \
  " s.oid || ' '), '') from sequences s), coalesce((select told from keys), '')) as it from own) "

#define FACTS WITH PLAIN SEQUENCES MOVABLE KEYS TOLD

const char mp_facts_question[] = FACTS "select plain.it::int, told.it from plain, told";
const char mp_facts_demand[] =
    FACTS "select 1 / (plain.it and coalesce($2 = told.it, true))::int, told.it from plain, told";

void mp_facts_forget(struct mp_facts *facts) {
  free(facts->told);
  free(facts->parts);
  *facts = (struct mp_facts){0};
}

void mp_facts_learn(struct mp_facts *facts, const PGresult *answer) {
  mp_facts_forget(facts);
  if (PQntuples(answer) != 1 || PQnfields(answer) != 2) return;
  facts->told = strdup(PQgetvalue(answer, 0, 1));
  facts->parts = strdup(PQgetvalue(answer, 0, 1));
  char *rest = facts->parts, *movable;
  if (!facts->told || !rest) {
    mp_facts_forget(facts);
    return;
  }
  facts->root = strsep(&rest, PART);
  movable = strsep(&rest, PART);
  facts->sequences = strsep(&rest, PART);
  facts->keys = rest;
  facts->movable = facts->keys && *movable == '1';
}

/* ---- whether two may change places ---- */

/* Have the lists of numbers, each with a blank behind it, one in common? */
static bool share(const char *a, const char *b) {
  for (; *a; a += strcspn(a, " ") + 1) {
    size_t len = strcspn(a, " ") + 1;
    for (const char *at = b; *at; at += strcspn(at, " ") + 1)
      if (!strncmp(at, a, len)) return true;
  }
  return false;
}

/* The row's place for the column's value, or NULL: the insert does not name the column. */
static const char *const *value_of(const struct mp_facts_row *row, const char *name, size_t len) {
  for (int i = 0; len && i < row->columns; i++)
    if (!strncmp(row->names[i], name, len) && !row->names[i][len]) return &row->values[i];
  return NULL;
}

/* Are the values of this pair of columns certainly different, or the child's NULL? */
static bool pair_differs(const char *pair, const struct mp_facts_row *child,
                         const struct mp_facts_row *parent) {
  size_t own = strcspn(pair, COLUMN), other = strcspn(pair + own + 1, PAIR KEY);
  const char *const *a = value_of(child, pair, own);
  const char *const *b = value_of(parent, pair + own + 1, other);
  if (a && !*a) return true;
  return a && b && *b && mp_canonical(*a) && mp_canonical(*b) && strcasecmp(*a, *b) != 0;
}

/* Is the key at `key` one to the table? Then its pairs begin at `*pairs`. */
static bool refers(const char *key, const struct mp_facts *parent, const char **pairs) {
  size_t root = strcspn(key, PAIR KEY);
  *pairs = key + root;
  return strlen(parent->root) == root && !strncmp(key, parent->root, root);
}

static const char *next_key(const char *key) {
  key += strcspn(key, KEY);
  return key + (*key != '\0');
}

static bool knows(const struct mp_facts *child, const struct mp_facts *parent) {
  const char *pairs;
  for (const char *key = child->keys; *key; key = next_key(key))
    if (refers(key, parent, &pairs)) return true;
  return false;
}

/* Is there a pair of columns by which the key refers to another row? */
static bool key_differs(const char *pairs, const struct mp_facts_row *child,
                        const struct mp_facts_row *parent) {
  for (; *pairs == *PAIR; pairs += 1 + strcspn(pairs + 1, PAIR KEY))
    if (pair_differs(pairs + 1, child, parent)) return true;
  return false;
}

static bool refers_elsewhere(const struct mp_facts_row *child, const struct mp_facts_row *parent) {
  const char *pairs;
  for (const char *key = child->facts->keys; *key; key = next_key(key))
    if (refers(key, parent->facts, &pairs) && !key_differs(pairs, child, parent)) return false;
  return true;
}

static bool apart(const struct mp_facts *a, const struct mp_facts *b) {
  return a->movable && b->movable && strcmp(a->root, b->root) != 0 &&
         !share(a->sequences, b->sequences);
}

bool mp_facts_strangers(const struct mp_facts *a, const struct mp_facts *b) {
  return apart(a, b) && !knows(a, b) && !knows(b, a);
}

bool mp_facts_commute(const struct mp_facts_row *a, const struct mp_facts_row *b) {
  return apart(a->facts, b->facts) && refers_elsewhere(a, b) && refers_elsewhere(b, a);
}
