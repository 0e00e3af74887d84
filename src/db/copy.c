#include "db/copy.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "pg/copy.h"
#include "script/charge.h"
#include "script/luaerr.h"
#include "values/json.h"

#define CHUNK 65536 /* bytes given to a script at a time; a longer row is given whole */
/* COPY lasts as long as its data, so statement_timeout is off for it and each step has the source's
 * timeout. SET LOCAL and COPY are one text, hence one transaction, which ends the setting. */
static const char prefix[] = "set local statement_timeout = 0; ";

/* From copy_start to on_done: the connection points at it. */
struct mp_copier {
  struct mp_copy copy;
  struct mp_source *source; /* NULL: the lease has ended */
  struct mp_host *host;
  struct mp_timer timeout;
  struct mp_token token;
  bool waiting, done, late;
  bool storing; /* all data was sent: if the connection is lost now, the outcome is unknown */
  struct mp_failure failure; /* done: why it failed, or no code */
  lua_Integer rows;
  struct mp_charge put; /* for what is on its way to the server */
  char sql[];
};

static void free_copier(struct mp_copier *copier) {
  mp_timer_stop(&copier->timeout);
  mp_charge_drop(&copier->put);
  mp_failure_clear(&copier->failure);
  copier->host->live_work--;
  free(copier);
}

static void wake(struct mp_copier *copier) {
  mp_charge_drop(&copier->put);
  mp_timer_stop(&copier->timeout);
  if (copier->waiting) mp_wait_ready(copier->host->sched, copier->token);
  copier->waiting = false;
}

static void on_ready(struct mp_copy *copy) { wake(MP_CONTAINER_OF(copy, struct mp_copier, copy)); }

static void on_done(struct mp_copy *copy, struct mp_result *result, const struct mp_err *err) {
  struct mp_copier *copier = MP_CONTAINER_OF(copy, struct mp_copier, copy);
  copier->done = true;
  if (err) copier->failure.err = *err;
  if (err && copier->storing && err->flags & MP_ERRF_CONN_DEAD) {
    mp_err_wrap(&copier->failure.err,
                "the connection was lost at the end of COPY; it may or may not be stored");
    copier->failure.err.flags = MP_ERRF_OUTCOME_UNKNOWN | MP_ERRF_CONN_DEAD;
  }
  if (err && result) copier->failure.result = mp_result_ref(result);
  if (!err) copier->rows = (lua_Integer)strtoll(PQcmdTuples(result->pg), NULL, 10);
  if (!copier->source)
    free_copier(copier);
  else
    wake(copier);
}

static void on_timeout(struct mp_timer *timer) {
  struct mp_copier *copier = MP_CONTAINER_OF(timer, struct mp_copier, timeout);
  copier->late = true;
  wake(copier);
}

static void abandon(void *data) {
  struct mp_copier *copier = data;
  copier->waiting = false;
  mp_timer_stop(&copier->timeout);
}

static void orphan(struct mp_source *source) {
  struct mp_copier *copier = source->copier;
  source->copier = NULL;
  if (!copier) return;
  copier->source = NULL;
  if (copier->done) free_copier(copier);
}

static struct mp_copier *copier_of(lua_State *L, const char *what) {
  struct mp_source *source = mp_source_of(L);
  if (!source->pool) mp_luaerr_misuse(L, what, "the connection was given back");
  if (!source->copier) mp_luaerr_misuse(L, what, "no COPY is under way");
  return source->copier;
}

static int wait(lua_State *L, struct mp_copier *copier, const char *what, lua_KFunction k) {
  mp_wait_check(L, what);
  if (copier->waiting) mp_luaerr_misuse(L, what, "another task waits for this COPY");
  copier->token = mp_wait_begin(L, abandon, copier);
  copier->waiting = true;
  if (copier->source->timeout_ms) mp_timer_start(&copier->timeout, copier->source->timeout_ms);
  return mp_wait_yield(L, (lua_KContext)copier, k);
}

/* "COPY items, line 12, column price: ...": the place without the value. */
static void add_line(lua_State *L, const PGresult *pg) {
  const char *context = PQresultErrorField(pg, PG_DIAG_CONTEXT);
  const char *line = context ? strstr(context, ", line ") : NULL;
  if (!line) return;
  lua_pushinteger(L, (lua_Integer)strtoll(line + strlen(", line "), NULL, 10));
  lua_setfield(L, -2, "copy_line");
}

/* Raises if it has failed or took too long; the connection is then closed with the lease. */
static void check(lua_State *L, struct mp_copier *copier) {
  struct mp_source *source = copier->source;
  struct mp_err err;
  if (copier->late && !copier->done) {
    mp_err_set(&err, MP_ETIMEOUT, "COPY made no progress for longer than %s", "DB_QUERY_TIMEOUT");
    mp_luaerr_push(L, &err);
    lua_error(L);
  }
  if (!copier->done || !copier->failure.err.code) return;
  mp_failure_push(L, &copier->failure, NULL);
  if (copier->failure.result) add_line(L, copier->failure.result->pg);
  if (!(copier->failure.err.flags & MP_ERRF_CONN_DEAD)) source->dirty = false;
  orphan(source);
  lua_error(L);
}

/* It is over, and all is well. */
static lua_Integer settle(struct mp_copier *copier) {
  lua_Integer rows = copier->rows;
  copier->source->dirty = false;
  orphan(copier->source);
  return rows;
}

static int started(lua_State *L, int status, lua_KContext ctx) {
  struct mp_copier *copier = (struct mp_copier *)ctx;
  (void)status;
  check(L, copier);
  if (copier->done) {
    settle(copier);
    return 0;
  }
  lua_pushstring(L, copier->copy.state == MP_COPY_PUTTING ? "in" : "out");
  return 1;
}

int mp_copy_start(lua_State *L) {
  struct mp_source *source = mp_source_usable(L, "db.copy");
  struct mp_text *text = mp_source_text(L, source, 1, "db.copy");
  if (!text) return mp_text_read(L, 1, "db.copy", mp_copy_start);
  struct mp_err err;
  if (strcmp(text->kind, "CopyStmt") != 0)
    mp_luaerr_misuse(L, "db.copy", "this is not a COPY statement");
  if (text->nparams) mp_luaerr_misuse(L, "db.copy", "COPY takes no parameters");
  if (source->dirty) mp_luaerr_misuse(L, "db.copy", "the connection has settings of its own");
  size_t size = strlen(prefix) + strlen(text->sql) + 1;
  struct mp_copier *copier = calloc(1, sizeof *copier + size);
  if (!copier) return luaL_error(L, "not enough memory");
  snprintf(copier->sql, size, "%s%s", prefix, text->sql);
  copier->host = source->host;
  copier->copy = (struct mp_copy){.sql = copier->sql, .on_ready = on_ready, .on_done = on_done};
  mp_timer_init(&copier->timeout, source->host->loop, on_timeout);
  source->host->live_work++;
  if (mp_conn_copy(source->lease.conn, &copier->copy, &err)) {
    free_copier(copier);
    mp_luaerr_push(L, &err);
    return lua_error(L);
  }
  copier->source = source;
  source->copier = copier;
  source->on_end = orphan;
  source->dirty = true; /* until it is over */
  return wait(L, copier, "db.copy", started);
}

static int was_put(lua_State *L, int status, lua_KContext ctx) {
  struct mp_copier *copier = (struct mp_copier *)ctx;
  (void)status;
  if (copier->late) check(L, copier);
  lua_pushboolean(L, !copier->done);
  return 1;
}

int mp_copy_put(lua_State *L) {
  struct mp_copier *copier = copier_of(L, "copy_put");
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  if (copier->done) return was_put(L, LUA_OK, (lua_KContext)copier);
  if (copier->copy.state != MP_COPY_PUTTING)
    mp_luaerr_misuse(L, "copy_put", "the server does not take data");
  mp_wait_check(L, "copy_put");
  mp_charge_drop(&copier->put);
  mp_charge_take(L, &copier->put, len, "what COPY sends");
  mp_conn_copy_put(copier->source->lease.conn, bytes, len);
  return wait(L, copier, "copy_put", was_put);
}

static int get_more(lua_State *L, int status, lua_KContext ctx) {
  struct mp_copier *copier = (struct mp_copier *)ctx;
  (void)status;
  check(L, copier);
  lua_settop(L, 0);
  if (copier->done) {
    lua_pushnil(L);
    lua_pushinteger(L, settle(copier));
    return 2;
  }
  struct mp_buf *chunk = mp_json_buf_new(L, 0);
  char *row;
  size_t len;
  while (chunk->len < CHUNK && copier->copy.state == MP_COPY_GETTING &&
         (row = mp_conn_copy_get(copier->source->lease.conn, &len))) {
    mp_buf_add(chunk, row, len);
    PQfreemem(row);
  }
  if (chunk->failed) return luaL_error(L, "not enough memory");
  if (!chunk->len) return wait(L, copier, "copy_get", get_more);
  lua_pushlstring(L, mp_buf_text(chunk), chunk->len);
  return 1;
}

int mp_copy_get(lua_State *L) {
  return get_more(L, LUA_OK, (lua_KContext)copier_of(L, "copy_get"));
}

static int ended(lua_State *L, int status, lua_KContext ctx) {
  struct mp_copier *copier = (struct mp_copier *)ctx;
  (void)status;
  check(L, copier);
  if (!copier->done) return wait(L, copier, "copy_end", ended); /* woken by an earlier event */
  lua_pushinteger(L, settle(copier));
  return 1;
}

int mp_copy_end(lua_State *L) {
  struct mp_copier *copier = copier_of(L, "copy_end");
  const char *reason = luaL_optstring(L, 1, NULL);
  mp_wait_check(L, "copy_end");
  if (!copier->done && copier->copy.state == MP_COPY_PUTTING) {
    copier->storing = !reason;
    mp_conn_copy_end(copier->source->lease.conn, reason);
  }
  if (copier->done) return ended(L, LUA_OK, (lua_KContext)copier);
  return wait(L, copier, "copy_end", ended);
}
