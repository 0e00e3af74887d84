/* conn_open.c: from names to a connected libpq. Names are looked up by libuv, because libpq's own
 * look-up would block the loop. Each server has a share of the time. libpq itself goes on to the
 * next server when one refuses or is of the wrong kind (target_session_attrs). When a server is
 * silent for its share, this file starts libpq again without that server. */
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "pg/opening.h"
#include "pg/sqlstate.h"
#include "util/buf.h"
#include "util/log.h"

#define MAX_ADDRESSES 8 /* of one name */

static void key_of(char out[MP_SERVER_KEY], const char *place, const char *port) {
  snprintf(out, MP_SERVER_KEY, "%.80s:%.8s", place, port);
}

static void end_with(struct mp_conn *conn, enum mp_code code, const char *text) {
  struct mp_err err;
  mp_err_set(&err, code, "%s", text);
  if (code == MP_ENODB) err.flags = MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD;
  mp_conn_end(conn, &err);
}

static void stop_opening(struct mp_conn *conn) {
  struct mp_opening *o = conn->opening;
  if (!o) return;
  conn->opening = NULL;
  mp_timer_stop(&o->share);
  o->conn = NULL;
  if (o->looking)
    uv_cancel((uv_req_t *)&o->req); /* its callback frees it */
  else
    mp_opening_free(o);
}

/* ---- connected ---- */

/* The server's FATAL to an idle connection arrives only here; the next request would get an error
 * without a SQLSTATE. Runs inside libpq, so it only stores the error. */
static void on_notice(void *data, const PGresult *pg) {
  struct mp_conn *conn = data;
  const char *severity = PQresultErrorField(pg, PG_DIAG_SEVERITY_NONLOCALIZED);
  if (severity && (!strcmp(severity, "FATAL") || !strcmp(severity, "PANIC")))
    mp_err_from_result(&conn->last_fatal, pg);
  else
    mp_log(MP_LOG_DEBUG, "pg", "%s: %s", severity ? severity : "NOTICE",
           PQresultErrorField(pg, PG_DIAG_MESSAGE_PRIMARY));
}

static void ready(struct mp_conn *conn) {
  struct mp_err err;
  mp_timer_stop(&conn->connect_timer);
  PQsetErrorVerbosity(conn->pg, PQERRORS_DEFAULT);
  PQsetNoticeReceiver(conn->pg, on_notice, conn);
  if (PQsetnonblocking(conn->pg, 1) || !PQenterPipelineMode(conn->pg)) {
    mp_err_set(&err, MP_ENODB, "cannot enter pipeline mode");
    mp_conn_end(conn, &err);
    return;
  }
  if (!mp_conn_move(conn, MP_CONN_READY)) return;
  conn->opened_ms = mp_loop_now_ms(conn->loop);
  if (conn->servers) mp_servers_forgive(conn->servers, conn->server);
  mp_conn_unwatch(conn);
  mp_conn_watch(conn, UV_READABLE, mp_conn_on_io);
  if (conn->events.on_open) conn->events.on_open(conn, conn->data, NULL);
}

/* ---- libpq ---- */

/* 'connection to server at "db" failed: FATAL:  28P01: password ...': libpq has the SQLSTATE in the
 * text only. */
static void take_sqlstate(struct mp_err *err) {
  for (char *at = err->msg; (at = strstr(at, ":  ")); at++) {
    char *state = at + 3;
    if (strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 ||
        strncmp(state + 5, ": ", 2) != 0)
      continue;
    memcpy(err->sqlstate, state, 5);
    memmove(state, state + 7, strlen(state + 7) + 1);
  }
}

/* Each server that was tried has a line, and one more with the place in the server's code. */
static void tell_lines(struct mp_err *err, const char *text) {
  struct mp_buf buf;
  mp_buf_init(&buf, sizeof err->msg - 1);
  for (size_t len; *text; text += len + (text[len] == '\n')) {
    len = strcspn(text, "\n");
    if (!len || !strncmp(text, "LOCATION:", 9)) continue;
    if (buf.len) mp_buf_adds(&buf, "; ");
    mp_buf_add(&buf, text, len);
  }
  mp_err_set(err, MP_ENODB, "%s", buf.len ? mp_buf_text(&buf) : "no connection");
  mp_buf_fini(&buf);
}

static void refused(struct mp_conn *conn) {
  const char *text = PQerrorMessage(conn->pg), *lost = conn->opening->failure;
  struct mp_err err;
  tell_lines(&err, text);
  take_sqlstate(&err);
  if (strstr(text, "unsupported startup parameter"))
    lost = "the pooler does not take `options`: see \"PgBouncer\" in moonpool help deploying";
  size_t len = strlen(err.msg);
  if (*lost) snprintf(err.msg + len, sizeof err.msg - len, "; %s", lost);
  err.flags = MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD;
  mp_conn_end(conn, &err);
}

static void on_connect_io(uv_poll_t *poll, int status, int events);

/* Checks the session settings that values are read and written by. A pooler may have dropped what
 * `options` asked for, and dates would silently be wrong. A server reports each setting; NULL: a
 * pooler does not. */
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
        "%s is %.40s, but the host requested %s: a pooler drops the parameter `options`, or "
        "DATABASE_URL sets another value; connect to the server itself",
        session[i].name, is ? is : "not told", session[i].want);
  }
  return 0;
}

/* Finds the server that libpq is trying. A new one gets its share of the time that is left. */
static void watch_server(struct mp_conn *conn) {
  struct mp_opening *o = conn->opening;
  char now[MP_SERVER_KEY];
  const char *addr = PQhostaddr(conn->pg), *host = PQhost(conn->pg);
  key_of(now, addr && *addr ? addr : host ? host : "", PQport(conn->pg) ? PQport(conn->pg) : "");
  if (mp_timer_running(&o->share) && !strcmp(now, o->trying)) return;
  strcpy(o->trying, now);
  int after = 0; /* servers behind this one */
  for (int i = o->norder - 1; i > 0; i--, after++) {
    char key[MP_SERVER_KEY];
    key_of(key, o->order[i]->addr ? o->order[i]->addr : o->order[i]->host, o->order[i]->port);
    if (!strcmp(key, now)) break;
  }
  uint64_t left_ms = UINT64_MAX, now_ms = mp_loop_now_ms(conn->loop);
  if (mp_timer_running(&conn->connect_timer))
    left_ms = conn->connect_timer.due_ms > now_ms ? conn->connect_timer.due_ms - now_ms : 0;
  if (after) left_ms /= (uint64_t)after + 1;
  if (o->each_ms && o->each_ms < left_ms) left_ms = o->each_ms;
  if (left_ms < UINT64_MAX / 100) mp_timer_start(&o->share, left_ms);
}

/* libpq may have closed its socket and opened another with the same number; the old poll handle
 * would never fire again. So each step makes a new one. */
static void connect_step(struct mp_conn *conn, PostgresPollingStatusType status) {
  struct mp_err err;
  switch (status) {
    case PGRES_POLLING_READING:
    case PGRES_POLLING_WRITING:
      watch_server(conn);
      mp_conn_watch(conn, status == PGRES_POLLING_READING ? UV_READABLE : UV_WRITABLE,
                    on_connect_io);
      return;
    case PGRES_POLLING_OK:
      watch_server(conn);
      if (check_session(conn->pg, &err)) {
        err.flags = MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD;
        mp_conn_end(conn, &err);
        return;
      }
      strcpy(conn->server, conn->opening->trying);
      stop_opening(conn);
      ready(conn);
      return;
    case PGRES_POLLING_ACTIVE:
    case PGRES_POLLING_FAILED: break;
  }
  refused(conn);
}

static void on_connect_io(uv_poll_t *poll, int status, int events) {
  struct mp_conn *conn = poll->data;
  (void)status; /* an error shows in PQconnectPoll, with a better text */
  (void)events;
  mp_conn_unwatch(conn);
  connect_step(conn, PQconnectPoll(conn->pg));
}

/* ---- servers ---- */

/* Servers that were silent lately come last; those that were silent in this opening are left out.
 */
static void put_in_order(struct mp_opening *o) {
  struct mp_servers *servers = o->conn->servers;
  uint64_t now_ms = mp_loop_now_ms(o->conn->loop);
  o->norder = 0;
  for (int last = 0; last < 2; last++) {
    for (int i = 0; i < o->ntargets; i++) {
      const struct mp_target *target = &o->targets[i];
      char key[MP_SERVER_KEY];
      key_of(key, target->addr ? target->addr : target->host, target->port);
      bool shunned = servers && mp_servers_shunned(servers, key, now_ms);
      if (!target->silent && shunned == (last != 0)) o->order[o->norder++] = target;
    }
  }
}

static bool put_targets(struct mp_opening *o) {
  struct mp_buf hosts, addrs, ports;
  if (!o->ntargets) return true;
  mp_buf_init(&hosts, 0), mp_buf_init(&addrs, 0), mp_buf_init(&ports, 0);
  for (int i = 0; i < o->norder; i++) {
    const struct mp_target *target = o->order[i];
    const char *comma = i ? "," : "";
    mp_buf_addf(&hosts, "%s%s", comma, target->host);
    mp_buf_addf(&addrs, "%s%s", comma, target->addr ? target->addr : "");
    mp_buf_addf(&ports, "%s%s", comma, target->port);
  }
  bool ok = !hosts.failed && !addrs.failed && !ports.failed &&
            mp_opening_put(o, "host", mp_buf_text(&hosts)) &&
            mp_opening_put(o, "hostaddr", mp_buf_text(&addrs)) &&
            mp_opening_put(o, "port", mp_buf_text(&ports));
  mp_buf_fini(&hosts), mp_buf_fini(&addrs), mp_buf_fini(&ports);
  return ok;
}

static void connect_now(struct mp_conn *conn) {
  struct mp_opening *o = conn->opening;
  put_in_order(o);
  if (o->ntargets && !o->norder) {
    end_with(conn, MP_ENODB, o->failure);
    return;
  }
  if (put_targets(o))
    conn->pg =
        PQconnectStartParams((const char *const *)o->keywords, (const char *const *)o->values, 0);
  if (!conn->pg) {
    end_with(conn, MP_ENOMEM, "no memory to connect");
    return;
  }
  PQsetErrorVerbosity(conn->pg, PQERRORS_VERBOSE); /* for take_sqlstate */
  connect_step(conn,
               PQstatus(conn->pg) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING);
}

/* The server's share of the time is over: go on to the others. */
static void on_share(struct mp_timer *timer) {
  struct mp_opening *o = MP_CONTAINER_OF(timer, struct mp_opening, share);
  struct mp_conn *conn = o->conn;
  snprintf(o->failure, sizeof o->failure, "no answer from the database server at %s in time",
           o->trying);
  if (conn->servers) mp_servers_shun(conn->servers, o->trying, mp_loop_now_ms(conn->loop));
  bool left = false;
  for (int i = 0; i < o->ntargets; i++) {
    char key[MP_SERVER_KEY];
    key_of(key, o->targets[i].addr ? o->targets[i].addr : o->targets[i].host, o->targets[i].port);
    if (strcmp(key, o->trying) != 0) continue;
    left = o->targets[i].silent = true;
  }
  if (!left) { /* not one of ours: nothing would change */
    end_with(conn, MP_ENODB, o->failure);
    return;
  }
  mp_conn_unwatch(conn);
  PQfinish(conn->pg);
  conn->pg = NULL;
  connect_now(conn);
}

/* ---- names ---- */

static void add_target(struct mp_opening *o, const struct mp_target *of, const char *addr) {
  struct mp_target *target = &o->targets[o->ntargets];
  if (o->ntargets == MP_TARGETS) return;
  *target =
      (struct mp_target){strdup(of->host), addr ? strdup(addr) : NULL, strdup(of->port), false};
  o->ntargets++;
  if (target->host && target->port && (!addr || target->addr)) return;
  o->ntargets--;
  free(target->host), free(target->addr), free(target->port);
  *target = (struct mp_target){0};
  snprintf(o->failure, sizeof o->failure, "no memory to connect");
}

static void look_up(struct mp_opening *o);

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list) {
  struct mp_opening *o = MP_CONTAINER_OF(req, struct mp_opening, req);
  o->looking = false;
  if (!o->conn) { /* the connection ended meanwhile */
    uv_freeaddrinfo(list);
    mp_opening_free(o);
    return;
  }
  if (status) {
    snprintf(o->failure, sizeof o->failure, "cannot look up the host name \"%.60s\": %s",
             o->hosts[o->at].host, uv_strerror(status));
  } else {
    int n = 0;
    for (struct addrinfo *ai = list; ai && n < MAX_ADDRESSES; ai = ai->ai_next) {
      char addr[INET6_ADDRSTRLEN];
      if (getnameinfo(ai->ai_addr, ai->ai_addrlen, addr, sizeof addr, NULL, 0, NI_NUMERICHOST))
        continue;
      add_target(o, &o->hosts[o->at], addr);
      n++;
    }
    uv_freeaddrinfo(list);
  }
  o->at++;
  look_up(o);
}

static void look_up(struct mp_opening *o) {
  struct mp_conn *conn = o->conn;
  for (; o->at < o->nhosts; o->at++) {
    const struct mp_target *host = &o->hosts[o->at];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (host->addr || *host->host == '/' || *host->host == '@') {
      add_target(o, host, host->addr);
      continue;
    }
    int rv = uv_getaddrinfo(mp_loop_uv(conn->loop), &o->req, on_resolved, host->host, NULL, &hints);
    o->looking = !rv;
    if (!rv) return;
    snprintf(o->failure, sizeof o->failure, "cannot look up host names: %s", uv_strerror(rv));
  }
  if (!o->nhosts || o->ntargets)
    connect_now(conn);
  else
    end_with(conn, MP_ENODB, o->failure);
}

static int start(struct mp_conn *conn, const struct mp_conn_options *options, struct mp_err *err) {
  struct mp_opening *o = calloc(1, sizeof *o);
  if (!o) return mp_err_set(err, MP_ENOMEM, "no memory to connect");
  o->conn = conn;
  mp_timer_init(&o->share, conn->loop, on_share);
  int rv = mp_opening_read(o, options, err);
  if (rv) {
    mp_opening_free(o);
    return rv;
  }
  conn->opening = o;
  if (options->connect_timeout_ms)
    mp_timer_start(&conn->connect_timer, options->connect_timeout_ms);
  look_up(o);
  return 0;
}

static void on_connect_timeout(struct mp_timer *timer) {
  struct mp_conn *conn = MP_CONTAINER_OF(timer, struct mp_conn, connect_timer);
  struct mp_err err;
  mp_err_set(&err, MP_ENODB,
             "no answer from the database within the connect timeout (DB_CONNECT_TIMEOUT)");
  err.flags = MP_ERRF_RETRYABLE | MP_ERRF_CONN_DEAD;
  mp_conn_end(conn, &err);
}

static const struct mp_conn_parts parts = {
    .on_io = mp_conn_on_io, .fail = mp_conn_fail_ops, .stop_opening = stop_opening};

int mp_conn_open(struct mp_conn **out, struct mp_loop *loop, const struct mp_conn_options *options,
                 const struct mp_conn_events *events, void *data, struct mp_err *err) {
  struct mp_conn *conn = calloc(1, sizeof *conn);
  if (!conn) return mp_err_set(err, MP_ENOMEM, "no memory for a connection");
  conn->events = *events;
  conn->data = data;
  conn->parts = &parts;
  mp_conn_init(conn, loop);
  mp_timer_init(&conn->connect_timer, loop, on_connect_timeout);
  mp_stmt_cache_init(&conn->stmts, options->statement_cache);
  conn->answer_limit = options->answer_limit;
  conn->servers = options->servers;
  int rv = start(conn, options, err);
  if (rv) {
    free(conn);
    return rv;
  }
  *out = conn;
  return 0;
}
