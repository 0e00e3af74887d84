/* health.c: probes the database for pool/health.h over the host's own connection, so that a busy
 * pool is not mistaken for a silent database. Probes are not counted in metrics or history. */
#include "watch/health.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/conn.h"
#include "pg/servers.h"
#include "pool/pool.h"
#include "script/luaerr.h"
#include "sql/state.h"
#include "util/log.h"

enum {
  LOOK_MS = 2000,     /* for an answer */
  FRESH_MS = 1500,    /* no look follows another sooner because a statement takes long */
  PATIENCE_MS = 5000, /* shorter than the pool's own time limit */
  LATE_MS = 100, /* after a busy turn the answer may already be in the socket: it is read first */
};

struct probe { /* owner: itself, until nothing is under way */
  struct mp_host *host;
  struct mp_lease lease;
  struct mp_req req;
  struct mp_sync sync;
  struct mp_timer timeout;
  struct mp_token token; /* of the task that waits, if one does */
  bool waited, sent, late, excused;
  bool again; /* an older connection says that the server takes no writes: a new one is asked */
  uint64_t since_ms;
  char server[MP_SERVER_KEY], started[40];
  enum mp_look look;
  struct mp_err err; /* code 0: it answered */
};

static void over(struct probe *probe) {
  struct mp_host *host = probe->host;
  mp_timer_stop(&probe->timeout);
  host->live_work--;
  host->shared->health->looking--;
  if (probe->waited) mp_wait_ready(host->sched, probe->token);
  free(probe);
}

static struct mp_health_facts facts_of(const struct mp_host *host) {
  struct mp_pool_stats stats;
  struct mp_health_facts facts = {.draining = host->shared->health->draining || !host->pool};
  if (!host->pool) return facts;
  mp_pool_stats(host->pool, &stats);
  facts.pool_down = !stats.healthy && !stats.idle && !stats.active && stats.connect_failures;
  facts.pool_full_ms = stats.full_ms;
  return facts;
}

const struct mp_health *mp_health_now(struct mp_host *host) {
  struct mp_health_facts facts = facts_of(host);
  (void)mp_health_judge(host->shared->health, mp_loop_now_ms(host->loop), &facts);
  return host->shared->health;
}

static void retire(struct mp_host *host, uint64_t opened_ms) {
  struct mp_health *health = host->shared->health;
  if (opened_ms > health->stale_ms) health->stale_ms = opened_ms;
  mp_pool_retire(host->pool, opened_ms);
}

/* A server seems to be silent. The look has reached it: then only a connection to it was lost. Or
 * it has reached another one at the same address, or another one that takes writes: then nothing
 * comes from the silent one any more. A standby that answers proves nothing: the primary may be
 * slow. */
static void settle_silence(struct probe *probe) {
  struct mp_health *health = probe->host->shared->health;
  bool same = !strcmp(probe->server, health->silent);
  bool known = same && !strcmp(health->server, health->silent);
  bool restarted = known && strcmp(probe->started, health->started) != 0;
  if (!health->silent_ms || (!same && probe->look != MP_LOOK_WRITABLE)) return;
  if (!same || restarted) {
    mp_log(MP_LOG_WARN, "pool", "the database server at %s does not answer; %s at %s does",
           health->silent, same ? "another" : "the one", probe->server);
    mp_pool_leave(probe->host->pool, health->silent_ms, health->silent);
  }
  health->silent_ms = 0;
}

/* The pool's connections are older than this answer: they lead to another server than a new
 * connection, or to a server whose role has changed. */
static void tell_pool(struct probe *probe, enum mp_look before) {
  struct mp_health *health = probe->host->shared->health;
  bool was_read_only = probe->again || before == MP_LOOK_READ_ONLY;
  if (before == MP_LOOK_FAILED) mp_pool_reachable(probe->host->pool);
  if (was_read_only && probe->look == MP_LOOK_WRITABLE)
    retire(probe->host, mp_loop_now_ms(probe->host->loop));
  settle_silence(probe);
  memcpy(health->server, probe->server, sizeof health->server);
  memcpy(health->started, probe->started, sizeof health->started);
}

static void suspect(struct mp_host *host, const struct mp_conn *conn) {
  struct mp_health *health = host->shared->health;
  health->silent_ms = mp_loop_now_ms(host->loop);
  snprintf(health->silent, sizeof health->silent, "%s", mp_conn_server(conn));
}

void mp_health_silent(struct mp_host *host, struct mp_pool *pool, const struct mp_conn *conn) {
  if (!host->pool || !conn) return;
  if (pool != host->pool && pool != host->shared->own) {
    mp_pool_suspect(pool, conn);
    return;
  }
  suspect(host, conn);
  retire(host, mp_loop_now_ms(host->loop));
}

static void tell(struct probe *probe) {
  struct mp_host *host = probe->host;
  const struct mp_err *err = probe->err.code ? &probe->err : NULL;
  enum mp_look before = host->shared->health->look;
  if (err) probe->look = strcmp(err->sqlstate, "53300") ? MP_LOOK_FAILED : MP_LOOK_FULL;
  struct mp_health_facts facts = facts_of(host);
  host->shared->health->looked_ms = mp_loop_now_ms(host->loop);
  mp_health_looked(host->shared->health, mp_loop_now_ms(host->loop), probe->look, err, &facts);
  if (host->pool && !err) tell_pool(probe, before);
  over(probe);
}

bool mp_health_misled(struct mp_host *host, struct mp_pool *pool, const struct mp_conn *conn,
                      struct mp_err *err, bool *discard) {
  struct mp_servers *servers = mp_pool_conn_options(pool)->servers;
  if (!mp_conn_took_no_write(conn, err)) return false;
  *discard = pool != host->pool || host->shared->health->look != MP_LOOK_READ_ONLY;
  if (!*discard)
    return true; /* the last probe, a second ago, found that the address leads to no other server */
  if (servers) mp_servers_shun(servers, mp_conn_server(conn), mp_loop_now_ms(host->loop));
  if (pool == host->pool)
    retire(host, mp_conn_opened_ms(conn));
  else
    mp_pool_retire(pool, mp_conn_opened_ms(conn));
  return true;
}

static void on_answer(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct probe *probe = MP_CONTAINER_OF(req, struct probe, req);
  if (err && !probe->late) probe->err = *err;
  if (err || !result || PQntuples(result->pg) != 1) return;
  bool read_only = !strcmp(PQgetvalue(result->pg, 0, 0), "on");
  probe->look = read_only ? MP_LOOK_READ_ONLY : MP_LOOK_WRITABLE;
  snprintf(probe->started, sizeof probe->started, "%s", PQgetvalue(result->pg, 0, 1));
}

/* The address may lead to another server by now: only a new connection can tell. */
static bool ask_again(struct probe *probe) {
  struct mp_servers *servers = mp_pool_conn_options(probe->host->shared->own)->servers;
  struct mp_err err;
  if (servers) mp_servers_shun(servers, probe->server, mp_loop_now_ms(probe->host->loop));
  probe->again = true;
  probe->sent = false;
  return !mp_pool_acquire(probe->host->shared->own, &probe->lease, &err);
}

static void on_sync(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err) {
  struct probe *probe = MP_CONTAINER_OF(sync, struct probe, sync);
  (void)result;
  if (err && !probe->err.code) probe->err = *err;
  bool stale = !probe->err.code && probe->look == MP_LOOK_READ_ONLY && !probe->again &&
               mp_conn_opened_ms(probe->lease.conn) < probe->since_ms;
  if (!probe->late) mp_pool_release(&probe->lease, stale);
  if (!stale || !ask_again(probe)) tell(probe);
}

static void on_grant(struct mp_lease *lease) {
  struct probe *probe = lease->data;
  probe->sent = true;
  snprintf(probe->server, sizeof probe->server, "%s", mp_conn_server(lease->conn));
  probe->req = (struct mp_req){
      .sql = "select current_setting('transaction_read_only'), pg_postmaster_start_time()",
      .flags = MP_REQ_ONCE,
      .on_done = on_answer};
  probe->sync = (struct mp_sync){.on_done = on_sync};
  mp_conn_send(lease->conn, &probe->req);
  mp_conn_sync(lease->conn, &probe->sync);
}

static void on_not_granted(struct mp_lease *lease, const struct mp_err *err) {
  struct probe *probe = lease->data;
  probe->err = *err;
  tell(probe);
}

/* A connection that does not answer in time cannot be used again: closing it ends the probe. */
static void on_timeout(struct mp_timer *timer) {
  struct probe *probe = MP_CONTAINER_OF(timer, struct probe, timeout);
  if (!probe->excused && mp_loop_now_ms(probe->host->loop) > timer->due_ms + LATE_MS) {
    probe->excused = true;
    mp_timer_start(&probe->timeout, LATE_MS);
    return;
  }
  probe->late = true;
  mp_err_set(&probe->err, MP_ETIMEOUT, "the database does not answer");
  if (probe->sent) {
    mp_health_silent(probe->host, probe->host->shared->own, probe->lease.conn);
    mp_pool_release(&probe->lease, true);
  } else { /* perhaps because a new connection leads to the silence of those in use */
    const struct mp_conn *oldest = probe->host->pool ? mp_pool_oldest(probe->host->pool) : NULL;
    if (oldest) suspect(probe->host, oldest);
    mp_pool_abandon(&probe->lease);
    tell(probe);
  }
}

static void on_abandon(void *data) {
  struct probe *probe = data;
  probe->waited = false;
  if (probe->sent) return; /* the answer or the timeout still comes; the state is judged by it */
  mp_pool_abandon(&probe->lease);
  over(probe);
}

/* NULL: no memory, or the host is closing. */
static struct probe *look(struct mp_host *host, uint64_t timeout_ms) {
  struct mp_err err;
  struct probe *probe = host->shared->own ? malloc(sizeof *probe) : NULL;
  if (!probe) return NULL;
  *probe =
      (struct probe){.host = host, .look = MP_LOOK_FAILED, .since_ms = mp_loop_now_ms(host->loop)};
  probe->lease = (struct mp_lease){.data = probe,
                                   .deadline_ms = probe->since_ms + timeout_ms + PATIENCE_MS,
                                   .where = "health check",
                                   .on_grant = on_grant,
                                   .on_fail = on_not_granted};
  mp_list_init(&probe->lease.node);
  mp_timer_init(&probe->timeout, host->loop, on_timeout);
  if (mp_pool_acquire(host->shared->own, &probe->lease, &err)) {
    free(probe);
    return NULL;
  }
  host->live_work++;
  host->shared->health->looking++;
  mp_timer_start(&probe->timeout, timeout_ms);
  return probe;
}

static void on_busy(void *data) {
  struct mp_host *host = data;
  const struct mp_health *health = host->shared->health;
  bool lately = health->looked_ms + FRESH_MS > mp_loop_now_ms(host->loop);
  if (!health->looking && !lately && host->pool) (void)look(host, LOOK_MS);
}

void mp_health_watch(struct mp_host *host) { mp_pool_watch(host->pool, on_busy, host); }

/* ---- for Lua ---- */

static int looked(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_pushboolean(L, mp_host_of(L)->shared->health->look != MP_LOOK_FAILED);
  return 1;
}

/* look(timeout_ms) -> is the database there? Asks, and waits for the answer. */
int mp_health_look(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  lua_Integer timeout_ms = luaL_checkinteger(L, 1);
  luaL_argcheck(L, timeout_ms > 0, 1, "must be above 0");
  mp_wait_check(L, "host.look");
  struct probe *probe = look(host, (uint64_t)timeout_ms);
  if (!probe) {
    lua_pushboolean(L, 0);
    return 1;
  }
  probe->token = mp_wait_begin(L, on_abandon, probe);
  probe->waited = true;
  return mp_wait_yield(L, 0, looked);
}

static void set_text(lua_State *L, const char *name, const char *text) {
  if (!*text) return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

void mp_health_saturation(struct mp_host *host, struct mp_saturated *out) {
  const struct mp_health *health = mp_health_now(host);
  struct mp_pool_stats stats;
  *out = (struct mp_saturated){.yes = health->state == MP_HEALTH_SATURATED,
                               .for_ms = mp_loop_now_ms(host->loop) - health->since_ms};
  if (!host->pool) return;
  mp_pool_stats(host->pool, &stats);
  out->full_ms = stats.full_ms;
  out->waited_ms = stats.waited_ms;
  mp_pool_holders(host->pool, out->holders, sizeof out->holders);
}

/* health() -> { state=, works=, sound=, since= (s), looked=, failures=, reason=, sqlstate=,
 * full_s=, waited_s=, holders= } */
int mp_health_table(lua_State *L) {
  struct mp_host *host = mp_host_of(L);
  const struct mp_health *health = mp_health_now(host);
  struct mp_pool_stats stats;
  struct mp_saturated pool;
  mp_health_saturation(host, &pool);
  lua_createtable(L, 0, 12);
  set_text(L, "state", mp_health_name(health->state));
  set_text(L, "reason", health->reason);
#define SET(push, name) (push, lua_setfield(L, -2, name))
  SET(lua_pushboolean(L, mp_health_works(health->state)), "works");
  SET(lua_pushboolean(L, mp_health_sound(health->state)), "sound");
  SET(lua_pushboolean(L, health->look != MP_LOOK_NONE), "looked");
  SET(lua_pushnumber(L, (double)pool.for_ms / 1000), "seconds");
  SET(lua_pushinteger(L, (lua_Integer)health->failures), "failures");
  set_text(L, "sqlstate", health->sqlstate);
  if (host->pool) {
    mp_pool_stats(host->pool, &stats);
    if (health->state == MP_HEALTH_UNREACHABLE && health->look != MP_LOOK_FAILED) {
      set_text(L, "reason",
               stats.last_error); /* the host's own connection was opened before the fault */
      set_text(L, "sqlstate", stats.last_sqlstate);
    }
    set_text(L, "holders", pool.holders);
    SET(lua_pushnumber(L, (double)pool.full_ms / 1000), "full_s");
    SET(lua_pushnumber(L, (double)pool.waited_ms / 1000), "waited_s");
  }
#undef SET
  return 1;
}
