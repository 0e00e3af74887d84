/* conn_open.c: from a connection string to a connected libpq. Names are looked up by libuv, because
 * libpq's own look-up would block the loop, once for each further host. */
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "pg/conn_internal.h"
#include "pg/conninfo.h"
#include "util/buf.h"

#define MAX_KEYWORDS 64
#define MAX_HOSTS 16
#define MAX_ADDRESSES 8 /* of one name */

struct mp_resolve {
  uv_getaddrinfo_t req;
  struct mp_conn *conn; /* NULL: the connection has ended meanwhile */
  char *keywords[MAX_KEYWORDS], *values[MAX_KEYWORDS];
  int count;
  char *hosts[MAX_HOSTS], *ports[MAX_HOSTS];
  int nhosts, at; /* hosts of the string; the one that is looked up */
  struct mp_buf host_list, addr_list, port_list;
  char failure[160];
};

static void resolve_free(struct mp_resolve *r) {
  for (int i = 0; i < r->count; i++) {
    free(r->keywords[i]);
    free(r->values[i]);
  }
  for (int i = 0; i < r->nhosts; i++) {
    free(r->hosts[i]);
    free(r->ports[i]);
  }
  mp_buf_fini(&r->host_list);
  mp_buf_fini(&r->addr_list);
  mp_buf_fini(&r->port_list);
  free(r);
}

static char *const *find(struct mp_resolve *r, const char *keyword) {
  for (int i = 0; i < r->count; i++)
    if (!strcmp(r->keywords[i], keyword)) return &r->values[i];
  return NULL;
}

static bool put(struct mp_resolve *r, const char *keyword, const char *value) {
  char *copy = strdup(value);
  if (!copy) return false;
  char **slot = (char **)(void *)find(r, keyword);
  if (slot) {
    free(*slot);
    *slot = copy;
    return true;
  }
  char *name = strdup(keyword);
  if (!name || r->count == MAX_KEYWORDS - 1) {
    free(copy);
    free(name);
    return false;
  }
  r->keywords[r->count] = name;
  r->values[r->count++] = copy;
  return true;
}

/* Splits "a,b,c" into at most MAX_HOSTS copies; the number of them, or -1. */
static int split(const char *list, char **out) {
  int n = 0;
  for (const char *at = list;;) {
    size_t len = strcspn(at, ",");
    if (n == MAX_HOSTS || !(out[n] = strndup(at, len))) {
      while (n) free(out[--n]);
      return -1;
    }
    n++;
    if (!at[len]) return n;
    at += len + 1;
  }
}

static void on_connect_io(uv_poll_t *poll, int status, int events);

/* What was asked for in `options`, and what values are read and written by: a pooler may have kept it back, and dates would be
 * wrong without anybody noticing. A server reports each of them; NULL is a pooler that does not. */
static int check_session(PGconn *pg, struct mp_err *err) {
  static const struct {
    const char *name, *want;
    bool reported;
  } session[] = {{"TimeZone", "UTC", true},
                 {"DateStyle", "ISO", true},
                 {"IntervalStyle", "iso_8601", false},
                 {"client_encoding", "UTF8", true},
                 {"standard_conforming_strings", "on", true}};
  for (size_t i = 0; i < MP_ARRAY_LEN(session); i++) {
    const char *is = PQparameterStatus(pg, session[i].name);
    if (is ? !strncmp(is, session[i].want, strlen(session[i].want)) : !session[i].reported)
      continue;
    return mp_err_set(
        err, MP_ENODB,
        "%s is %.40s, not %s, although it was asked for: a pooler between here and the server keeps "
        "back the parameter `options`, or DATABASE_URL sets another; let the pooler pass it on, or "
        "connect to the server itself",
        session[i].name, is ? is : "not told", session[i].want);
  }
  return 0;
}

/* libpq's text; a pooler's refusal of `options` with what to do. */
static void connect_error(PGconn *pg, struct mp_err *err) {
  const char *text = PQerrorMessage(pg);
  bool pooler = strstr(text, "unsupported startup parameter") != NULL;
  mp_err_set(err, MP_ENODB, "%.*s%s", (int)strcspn(text, "\n"), text,
             pooler ? "; the pooler does not pass on the session's settings: connect to the server "
                      "itself, or by a pooler that lets `options` through"
                    : "");
}

/* libpq may have closed its socket and opened another under the same number: a watch that was left
 * active would never fire again. So each step takes a new one. */
static void connect_step(struct mp_conn *conn, PostgresPollingStatusType status) {
  struct mp_err err;
  switch (status) {
    case PGRES_POLLING_READING: mp_conn_watch(conn, UV_READABLE, on_connect_io); return;
    case PGRES_POLLING_WRITING: mp_conn_watch(conn, UV_WRITABLE, on_connect_io); return;
    case PGRES_POLLING_OK:
      if (check_session(conn->pg, &err)) break;
      mp_conn_ready(conn);
      return;
    case PGRES_POLLING_ACTIVE:
    case PGRES_POLLING_FAILED: connect_error(conn->pg, &err); break;
  }
  err.flags = MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD;
  mp_conn_end(conn, &err);
}

static void on_connect_io(uv_poll_t *poll, int status, int events) {
  struct mp_conn *conn = poll->data;
  (void)status; /* an error shows in PQconnectPoll, with a better text */
  (void)events;
  mp_conn_unwatch(conn);
  connect_step(conn, PQconnectPoll(conn->pg));
}

static void connect_now(struct mp_conn *conn, struct mp_resolve *r) {
  struct mp_err err;
  if (r->addr_list.len) {
    if (!put(r, "host", mp_buf_text(&r->host_list)) ||
        !put(r, "hostaddr", mp_buf_text(&r->addr_list)) ||
        !put(r, "port", mp_buf_text(&r->port_list))) {
      mp_err_set(&err, MP_ENOMEM, "no memory to connect");
      mp_conn_end(conn, &err);
      return;
    }
  }
  conn->pg =
      PQconnectStartParams((const char *const *)r->keywords, (const char *const *)r->values, 0);
  if (!conn->pg) {
    mp_err_set(&err, MP_ENOMEM, "no memory to connect");
    mp_conn_end(conn, &err);
    return;
  }
  connect_step(conn,
               PQstatus(conn->pg) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING);
}

static void look_up(struct mp_resolve *r);

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list) {
  struct mp_resolve *r = MP_CONTAINER_OF(req, struct mp_resolve, req);
  struct mp_conn *conn = r->conn;
  if (!conn) { /* the connection ended meanwhile */
    uv_freeaddrinfo(list);
    resolve_free(r);
    return;
  }
  if (status) {
    snprintf(r->failure, sizeof r->failure, "cannot look up the host name \"%s\": %s",
             r->hosts[r->at], uv_strerror(status));
  } else {
    int n = 0;
    for (struct addrinfo *ai = list; ai && n < MAX_ADDRESSES; ai = ai->ai_next) {
      char addr[INET6_ADDRSTRLEN];
      if (getnameinfo(ai->ai_addr, ai->ai_addrlen, addr, sizeof addr, NULL, 0, NI_NUMERICHOST))
        continue;
      const char *comma = r->addr_list.len ? "," : "";
      mp_buf_addf(&r->host_list, "%s%s", comma, r->hosts[r->at]);
      mp_buf_addf(&r->addr_list, "%s%s", comma, addr);
      mp_buf_addf(&r->port_list, "%s%s", comma, r->ports[r->at]);
      n++;
    }
    uv_freeaddrinfo(list);
  }
  r->at++;
  look_up(r);
}

static void look_up(struct mp_resolve *r) {
  struct mp_conn *conn = r->conn;
  struct mp_err err;
  if (r->at < r->nhosts) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int rv =
        uv_getaddrinfo(mp_loop_uv(conn->loop), &r->req, on_resolved, r->hosts[r->at], NULL, &hints);
    if (!rv) return;
    snprintf(r->failure, sizeof r->failure, "cannot look up host names: %s", uv_strerror(rv));
  }
  conn->resolve = NULL;
  if (!r->nhosts || r->addr_list.len) {
    connect_now(conn, r);
  } else {
    mp_err_set(&err, MP_ENODB, "%s", r->failure);
    err.flags = MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD;
    mp_conn_end(conn, &err);
  }
  resolve_free(r);
}

void mp_conn_stop_resolve(struct mp_conn *conn) {
  if (!conn->resolve) return;
  conn->resolve->conn = NULL; /* its callback frees it */
  uv_cancel((uv_req_t *)&conn->resolve->req);
  conn->resolve = NULL;
}

/* Whether libpq would have to look up names: not for sockets, and not when addresses are given. */
static int prepare_hosts(struct mp_resolve *r, struct mp_err *err) {
  char *const *host = find(r, "host"), *const *hostaddr = find(r, "hostaddr"),
              *const *port = find(r, "port");
  if (!host || !**host || (hostaddr && **hostaddr)) return 0;
  int n = split(*host, r->hosts), ports = 0;
  char *given[MAX_HOSTS];
  if (n < 0)
    return mp_err_set(err, MP_EINVAL, "more than %d hosts in the connection string", MAX_HOSTS);
  for (int i = 0; i < n; i++) {
    if (r->hosts[i][0] != '/' && r->hosts[i][0] != '@' && r->hosts[i][0]) continue;
    for (int k = 0; k < n; k++)
      free(r->hosts[k]); /* sockets: libpq does it without looking anything up */
    return 0;
  }
  r->nhosts = n;
  if (port && **port && (ports = split(*port, given)) < 0)
    return mp_err_set(err, MP_EINVAL, "more than %d ports in the connection string", MAX_HOSTS);
  for (int i = 0; i < n; i++)
    r->ports[i] = strdup(ports == 1 ? given[0] : i < ports ? given[i] : "5432");
  for (int i = 0; i < ports; i++) free(given[i]);
  return 0;
}

/* The string's keywords, and where it leads by its service, the environment or libpq's defaults. */
static int read_keywords(struct mp_resolve *r, const char *url, struct mp_err *err) {
  static const char *const places[] = {"host", "hostaddr", "port"};
  PQconninfoOption *whole = mp_conninfo_read(url, err), *given = PQconninfoParse(url, NULL);
  bool ok = whole && given;
  for (size_t i = 0; ok && i < MP_ARRAY_LEN(places); i++) {
    const char *value = mp_conninfo_get(whole, places[i]);
    if (value) ok = put(r, places[i], value);
  }
  for (PQconninfoOption *o = given; ok && o && o->keyword; o++)
    if (o->val && *o->val) ok = put(r, o->keyword, o->val);
  PQconninfoFree(given);
  PQconninfoFree(whole);
  if (ok) return 0;
  return whole ? mp_err_set(err, MP_ENOMEM, "no memory to connect") : -MP_EINVAL;
}

/* A link that is dead is noticed within half a minute, by us and by the server, which would hold the locks of a
 * transaction for as long. The connection string may say otherwise. */
static const char *const keepalives[][2] = {{"keepalives_idle", "10"},
                                            {"keepalives_interval", "5"},
                                            {"keepalives_count", "3"},
                                            {"tcp_user_timeout", "25000"}};
#define SERVER_KEEPALIVES                                                                \
  "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c " \
  "tcp_user_timeout=25000"

int mp_conn_start(struct mp_conn *conn, const struct mp_conn_options *options, struct mp_err *err) {
  struct mp_resolve *r = calloc(1, sizeof *r);
  if (!r) return mp_err_set(err, MP_ENOMEM, "no memory to connect");
  r->conn = conn;
  int rv = read_keywords(r, options->url, err);
  if (!rv) rv = prepare_hosts(r, err);
  if (!rv) {
    char *const *own = find(r, "options");
    struct mp_buf text;
    mp_buf_init(&text, 0);
    mp_buf_addf(&text,
                "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 " SERVER_KEEPALIVES
                " %s %s",
                options->settings ? options->settings : "", own ? *own : "");
    bool ok =
        !text.failed && put(r, "options", mp_buf_text(&text)) && put(r, "client_encoding", "UTF8");
    if (ok && !find(r, "application_name"))
      ok = put(r, "application_name",
               options->application_name ? options->application_name : "moonpool");
    for (size_t i = 0; ok && i < MP_ARRAY_LEN(keepalives); i++)
      if (!find(r, keepalives[i][0])) ok = put(r, keepalives[i][0], keepalives[i][1]);
    /* An attempt at GSS costs a round trip before each connection. */
    if (ok && !find(r, "gssencmode")) ok = put(r, "gssencmode", "disable");
    mp_buf_fini(&text);
    if (!ok) rv = mp_err_set(err, MP_ENOMEM, "no memory to connect");
  }
  if (rv) {
    resolve_free(r);
    return rv;
  }
  conn->resolve = r;
  look_up(r);
  return 0;
}
