/* roles.c: the blocking libpq part: is the server there, are roles and database right.
 *
 * The only place outside pg/ that talks to libpq: it runs before there is an event loop. */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_priv.h"
#include "util/buf.h"
#include "util/embed.h"

/* `options` is always given, so that PGOPTIONS of the caller's environment is not used. */
enum { PARAM_COUNT = 7 };
struct params {
  const char *names[PARAM_COUNT], *values[PARAM_COUNT];
  char port[16];
};

static void fill_params(struct params *p, const struct mp_cluster *c, const char *database) {
  snprintf(p->port, sizeof p->port, "%d", c->port);
  const char *const names[PARAM_COUNT] = {"host",    "port", "user", "dbname", "connect_timeout",
                                          "options", NULL};
  const char *const values[PARAM_COUNT] = {
      c->socket_dir, p->port, "postgres", database, "10", "-c client_min_messages=error", NULL};
  memcpy(p->names, names, sizeof names);
  memcpy(p->values, values, sizeof values);
}

enum mp_ping mp_cluster_ping(const struct mp_cluster *c) {
  struct params p;
  fill_params(&p, c, "postgres");
  switch (PQpingParams(p.names, p.values, 0)) {
    case PQPING_OK: return MP_PING_OK;
    case PQPING_REJECT: return MP_PING_WAIT;
    case PQPING_NO_RESPONSE:
    case PQPING_NO_ATTEMPT: break;
  }
  return MP_PING_NONE;
}

static int pg_fail(struct mp_err *err, PGconn *conn, const struct mp_cluster *c, const char *what) {
  char text[300];
  snprintf(text, sizeof text, "%s", PQerrorMessage(conn));
  size_t n = strlen(text);
  while (n > 0 && text[n - 1] == '\n') text[--n] = '\0';
  return mp_err_set(err, MP_ENODB, "%s of the embedded database in %.120s failed: %s", what, c->dir,
                    text);
}

static PGconn *open_conn(const struct mp_cluster *c, const char *database) {
  struct params p;
  fill_params(&p, c, database);
  return PQconnectdbParams(p.names, p.values, 0);
}

static int run(PGconn *conn, const struct mp_cluster *c, const char *sql, const char *what,
               struct mp_err *err) {
  PGresult *res = PQexec(conn, sql);
  ExecStatusType status = PQresultStatus(res);
  PQclear(res);
  if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) return 0;
  return pg_fail(err, conn, c, what);
}

/* 1 there, 0 absent or not equal to `want`, negative error. */
static int value_is(PGconn *conn, const struct mp_cluster *c, const char *sql, const char *want,
                    struct mp_err *err) {
  PGresult *res = PQexec(conn, sql);
  int rc;
  if (PQresultStatus(res) != PGRES_TUPLES_OK) {
    rc = pg_fail(err, conn, c, "a check");
  } else {
    rc = PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), want) == 0;
  }
  PQclear(res);
  return rc;
}

int mp_cluster_roles_sql(const char **text, size_t *size, struct mp_err *err) {
  for (const struct mp_embedded *f = mp_embedded_files; f->name; f++) {
    if (strcmp(f->name, "sql/roles.sql") != 0) continue;
    *text = f->data;
    *size = f->size;
    return 0;
  }
  return mp_err_set(err, MP_EINTERNAL, "sql/roles.sql is missing in this build of moonpool");
}

static int make_database(const struct mp_cluster *c, struct mp_err *err) {
  PGconn *conn = open_conn(c, "postgres");
  int rc = PQstatus(conn) == CONNECTION_OK ? 0 : pg_fail(err, conn, c, "connecting to the server");
  if (rc == 0) {
    rc = value_is(conn, c, "select 1 from pg_database where datname = 'moonpool'", "1", err);
    if (rc == 0) rc = run(conn, c, "create database moonpool", "making the database", err);
    if (rc > 0) rc = 0;
  }
  PQfinish(conn);
  return rc;
}

static int apply_roles(PGconn *conn, const struct mp_cluster *c, const char *mark,
                       struct mp_err *err) {
  const char *sql = NULL;
  size_t size = 0;
  int rc = mp_cluster_roles_sql(&sql, &size, err);
  if (rc != 0) return rc;
  /* One string of statements is one transaction: all of it or nothing. */
  struct mp_buf buf;
  mp_buf_init(&buf, 0);
  mp_buf_add(&buf, sql, size);
  mp_buf_addf(&buf, "\ncomment on database moonpool is '%s';\n", mark);
  rc = buf.failed ? mp_err_set(err, MP_ENOMEM, "out of memory")
                  : run(conn, c, mp_buf_text(&buf), "preparing the roles", err);
  mp_buf_fini(&buf);
  return rc;
}

/* A comment on the database tells which roles.sql it has seen, so that the usual start costs one
 * connection and writes nothing. */
int mp_cluster_bootstrap(struct mp_cluster *c, struct mp_err *err) {
  const char *sql = NULL;
  size_t size = 0;
  int rc = mp_cluster_roles_sql(&sql, &size, err);
  if (rc != 0) return rc;
  char mark[64];
  snprintf(mark, sizeof mark, "moonpool roles %016" PRIx64, mp_cluster_hash(0, sql, size));
  PGconn *conn = open_conn(c, "moonpool");
  if (PQstatus(conn) != CONNECTION_OK) {
    PQfinish(conn);
    rc = make_database(c, err);
    if (rc != 0) return rc;
    conn = open_conn(c, "moonpool");
  }
  if (PQstatus(conn) != CONNECTION_OK) {
    rc = pg_fail(err, conn, c, "connecting to database moonpool");
  } else if (PQserverVersion(conn) / 10000 < MP_CLUSTER_MIN_VERSION) {
    rc = mp_err_set(err, MP_ENODB, "PostgreSQL %d in %.200s is too old; %d or newer is needed",
                    PQserverVersion(conn) / 10000, c->bin_dir, MP_CLUSTER_MIN_VERSION);
  } else {
    rc = value_is(conn, c,
                  "select shobj_description(oid, 'pg_database') from pg_database "
                  "where datname = 'moonpool'",
                  mark, err);
    if (rc == 0) rc = apply_roles(conn, c, mark, err);
    if (rc > 0) rc = 0;
  }
  PQfinish(conn);
  return rc;
}

static void add_param(struct mp_buf *buf, const char *name, const char *value) {
  mp_buf_addf(buf, "%s%s=", strchr(mp_buf_text(buf), '?') ? "&" : "?", name);
  for (; *value; value++) {
    if (mp_cluster_url_plain(*value)) {
      mp_buf_addc(buf, *value);
    } else {
      mp_buf_addf(buf, "%%%02X", (unsigned)(unsigned char)*value);
    }
  }
}

int mp_cluster_split_password(const char *url, char *out, size_t out_size, char *password,
                              size_t password_size, struct mp_err *err) {
  PQconninfoOption *opts = PQconninfoParse(url, NULL);
  /* libpq's own message may quote the text, and so a password. */
  if (!opts) {
    return mp_err_set(err, MP_EINVAL,
                      "the connection string is malformed; it should look like "
                      "postgresql://USER@HOST:PORT/DATABASE");
  }
  struct mp_buf buf;
  mp_buf_init(&buf, 0);
  mp_buf_adds(&buf, "postgresql://");
  password[0] = '\0';
  int rc = 0;
  for (PQconninfoOption *o = opts; o->keyword; o++) {
    if (!o->val || !*o->val) continue;
    if (strcmp(o->keyword, "password") == 0) {
      int n = snprintf(password, password_size, "%s", o->val);
      if (n < 0 || (size_t)n >= password_size) {
        rc = mp_err_set(err, MP_EINVAL, "the password in the connection string is too long");
      }
    } else if (!strchr(o->dispchar, '*')) { /* a star marks secrets */
      add_param(&buf, o->keyword, o->val);
    }
  }
  PQconninfoFree(opts);
  if (rc == 0 && (buf.failed || buf.len >= out_size)) {
    rc = mp_err_set(err, MP_EINVAL, "the connection string is too long");
  }
  if (rc == 0) snprintf(out, out_size, "%s", mp_buf_text(&buf));
  mp_buf_fini(&buf);
  return rc;
}
