#include "sql/types.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "pg/conn.h"
#include "pg/oids.h"

struct known_type {
  Oid oid;
  Oid base;    /* of a domain; else 0 */
  Oid element; /* of an array; else 0 */
  char delimiter;
  UT_hash_handle hh;
};

struct mp_types {
  struct mp_list node; /* of host->sql.types */
  const struct mp_pool *pool;
  unsigned id;
  struct known_type *entries;
};

/* The element type of an array. Only a type that is another's typarray counts as an array;
 * int2vector, for example, does not. */
static const char sql[] =
    "with recursive known (oid, base, element, delimiter) as ("
    " select t.oid, t.typbasetype, coalesce(e.oid, 0::oid), coalesce(e.typdelim, ',')"
    " from pg_catalog.pg_type t left join pg_catalog.pg_type e on e.typarray = t.oid"
    " where t.oid = any ($1::oid[])"
    " union"
    " select t.oid, t.typbasetype, coalesce(e.oid, 0::oid), coalesce(e.typdelim, ',')"
    " from known k join pg_catalog.pg_type t on t.oid in (k.base, k.element)"
    " left join pg_catalog.pg_type e on e.typarray = t.oid)"
    " select oid, base, element, delimiter from known";

/* ---- the usual types ---- */

static Oid usual_element(Oid type) {
  switch (type) {
    case 1000: return MP_OID_BOOL;
    case 1001: return MP_OID_BYTEA;
    case 1003: return 19; /* name */
    case 1005: return MP_OID_INT2;
    case 1007: return MP_OID_INT4;
    case 1009: return MP_OID_TEXT;
    case 1014: return 1042; /* char(n) */
    case 1015: return 1043; /* varchar */
    case 1016: return MP_OID_INT8;
    case 1021: return MP_OID_FLOAT4;
    case 1022: return MP_OID_FLOAT8;
    case 1028: return MP_OID_OID;
    case 1115: return MP_OID_TIMESTAMP;
    case 1182: return MP_OID_DATE;
    case 1185: return MP_OID_TIMESTAMPTZ;
    case 1231: return MP_OID_NUMERIC;
    case 2951: return MP_OID_UUID;
    case 199: return MP_OID_JSON;
    case 3807: return MP_OID_JSONB;
    default: return 0;
  }
}

static bool usual(Oid type) {
  switch (type) {
    case MP_OID_INT4:
    case MP_OID_INT8:
    case MP_OID_TEXT:
    case MP_OID_UUID:
    case MP_OID_NUMERIC:
    case MP_OID_BOOL:
    case MP_OID_TIMESTAMPTZ:
    case MP_OID_JSONB:
    case MP_OID_DATE:
    case MP_OID_FLOAT8:
    case MP_OID_BYTEA:
    case MP_OID_INT2:
    case MP_OID_JSON:
    case MP_OID_TIMESTAMP:
    case MP_OID_OID:
    case MP_OID_FLOAT4:
    case 18:
    case 19:
    case 650:
    case 705:
    case 869:
    case 1042:
    case 1043:
    case 1083:
    case 1186:
    case 1266:
    case 2249:
    case 2278: return true;
    default: return usual_element(type) != 0;
  }
}

/* ---- databases ---- */

struct mp_types *mp_types_of(struct mp_host *host, const struct mp_pool *pool) {
  if (!host->sql.types.next) mp_list_init(&host->sql.types);
  MP_LIST_EACH(node, &host->sql.types) {
    struct mp_types *types = MP_LIST_ENTRY(node, struct mp_types, node);
    if (types->pool == pool) return types;
  }
  struct mp_types *types = calloc(1, sizeof *types);
  if (!types) return NULL;
  types->pool = pool;
  types->id = ++host->sql.last_types;
  mp_list_push_back(&host->sql.types, &types->node);
  return types;
}

static void free_types(struct mp_types *types) {
  struct known_type *entry, *next;
  mp_list_remove(&types->node);
  HASH_ITER(hh, types->entries, entry, next) {
    HASH_DEL(types->entries, entry);
    MP_FREE_LISTED(entry);
  }
  free(types);
}

void mp_types_forget(struct mp_host *host, const struct mp_pool *pool) {
  if (!host->sql.types.next) return;
  MP_LIST_EACH_SAFE(node, &host->sql.types) {
    struct mp_types *types = MP_LIST_ENTRY(node, struct mp_types, node);
    if (types->pool == pool) free_types(types);
  }
}

void mp_types_fini(struct mp_host *host) {
  if (!host->sql.types.next) return;
  MP_LIST_EACH_SAFE(node, &host->sql.types) free_types(MP_LIST_ENTRY(node, struct mp_types, node));
}

unsigned mp_types_id(const struct mp_types *types) { return types ? types->id : 0; }

/* ---- what is known ---- */

static struct known_type *find(const struct mp_types *types, Oid oid) {
  struct known_type *entry = NULL;
  if (types) HASH_FIND(hh, types->entries, &oid, sizeof oid, entry);
  return entry;
}

static void enter(struct mp_types *types, const struct known_type *what) {
  if (find(types, what->oid)) return;
  struct known_type *entry = malloc(sizeof *entry);
  if (!entry) return; /* the next result asks for it again */
  *entry = *what;
  HASH_ADD(hh, types->entries, oid, sizeof entry->oid, entry);
  if (!entry->hh.tbl) free(entry); /* no memory for the table */
}

/* A domain over a domain over ... */
static Oid base_of(const struct mp_types *types, Oid type) {
  struct known_type *entry;
  for (int i = 0; i < 32 && !usual(type) && (entry = find(types, type)) && entry->base; i++)
    type = entry->base;
  return type;
}

struct mp_column mp_types_find(const struct mp_types *types, Oid type) {
  struct mp_column column = {.type = type, .element = usual_element(type), .delimiter = ','};
  if (!type || usual(type)) return column;
  column.type = base_of(types, type);
  column.element = usual_element(column.type);
  struct known_type *entry = column.element ? NULL : find(types, column.type);
  if (!entry || !entry->element) return column;
  column.element = base_of(types, entry->element);
  column.delimiter = entry->delimiter;
  return column;
}

struct mp_column mp_types_column(const struct mp_result *result, int col) {
  return result->columns ? result->columns[col] : mp_types_find(NULL, PQftype(result->pg, col));
}

void mp_types_settle(const struct mp_types *types, struct mp_result *result) {
  int n = PQnfields(result->pg), i = 0;
  while (i < n && usual(PQftype(result->pg, i))) i++;
  if (i == n || result->columns) return;
  result->columns = malloc((size_t)n * sizeof *result->columns);
  for (i = 0; result->columns && i < n; i++)
    result->columns[i] = mp_types_find(types, PQftype(result->pg, i));
}

/* ---- the question ---- */

static void want(struct mp_types_question *q, Oid type) {
  if (!type || usual(type) || find(q->types, type) || q->count == MP_TYPES_AT_ONCE) return;
  for (unsigned i = 0; i < q->count; i++)
    if (q->wanted[i] == type) return;
  q->wanted[q->count++] = type;
}

bool mp_types_want(struct mp_types_question *q, struct mp_types *types,
                   const struct mp_result *result) {
  if (!types || !result) return false;
  q->types = types;
  for (int i = 0; i < PQnfields(result->pg); i++) want(q, PQftype(result->pg, i));
  for (int i = 0; i < PQnparams(result->pg); i++) want(q, PQparamtype(result->pg, i));
  return q->count;
}

static Oid oid_at(const PGresult *pg, int row, int col) {
  return (Oid)strtoul(PQgetvalue(pg, row, col), NULL, 10);
}

static void on_answer(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct mp_types_question *q = MP_CONTAINER_OF(req, struct mp_types_question, req);
  if (err) {
    q->err = *err;
    return;
  }
  for (int i = 0; i < PQntuples(result->pg); i++)
    enter(q->types, &(struct known_type){.oid = oid_at(result->pg, i, 0),
                                         .base = oid_at(result->pg, i, 1),
                                         .element = oid_at(result->pg, i, 2),
                                         .delimiter = *PQgetvalue(result->pg, i, 3)});
  /* A type that no longer exists is not asked for again. */
  for (unsigned i = 0; i < q->count; i++)
    enter(q->types, &(struct known_type){.oid = q->wanted[i]});
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct mp_types_question *q = MP_CONTAINER_OF(sync, struct mp_types_question, sync);
  q->count = 0;
  q->on_done(q, err && !result ? err : NULL);
}

void mp_types_ask(struct mp_types_question *q, struct mp_conn *conn) {
  int len = 0;
  for (unsigned i = 0; i < q->count; i++)
    len +=
        snprintf(q->list + len, sizeof q->list - (size_t)len, "%c%u", i ? ',' : '{', q->wanted[i]);
  snprintf(q->list + len, sizeof q->list - (size_t)len, "}");
  q->values[0] = q->list;
  q->err = (struct mp_err){0};
  q->req = (struct mp_req){
      .sql = sql, .nparams = 1, .values = q->values, .flags = MP_REQ_ONCE, .on_done = on_answer};
  q->sync = (struct mp_sync){.on_done = on_sync};
  mp_conn_send(conn, &q->req);
  mp_conn_sync(conn, &q->sync);
}
