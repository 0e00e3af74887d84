#include "db/listen.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "db/source.h"
#include "pool/pool.h"
#include "script/luaerr.h"
#include "util/log.h"
#include "watch/health.h"

#define LISTENER_TYPE "moonpool.listener"
#define MAX_CHANNEL 63 /* PostgreSQL cuts longer names */
enum { RETRY_MS = 250, RETRY_CAP_MS = 10000, CHECK_MS = 1000, PING_MS = 5000 };

struct mp_listen {
  struct mp_host *host;
  struct mp_conn *conn;
  enum { LISTEN_NONE, LISTEN_OPENING, LISTEN_READY, LISTEN_WAITING } state;
  bool stopped, pinging;
  bool read_only; /* the server took no writes when it was connected to */
  unsigned retry_ms;
  uint64_t pinged_ms;
  struct mp_timer retry; /* WAITING; READY: the next check */
  struct mp_list listeners;
};

/* Lives in a userdata, which the registry keeps while it listens; its user value is the
 * function. */
struct listener {
  struct mp_list node;
  struct mp_listen *listen; /* NULL: closed */
  struct mp_list events;
  struct mp_token token;
  struct mp_err err;
  bool waiting, soon, working;
  bool heard, gap; /* LISTEN was confirmed once; the connection was lost since then */
  int self_ref;
  char channel[MAX_CHANNEL + 1];
};

struct listen_event {
  struct mp_list node;
  const char *what; /* NULL: a notification */
  char payload[];
};

/* ---- events ---- */

static void start_task(struct listener *listener);

static void drop_events(struct listener *listener) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(&listener->events)))
    MP_FREE_LISTED(MP_LIST_ENTRY(node, struct listen_event, node));
}

static void push_event(struct listener *listener, const char *what, const char *payload) {
  size_t size = strlen(payload) + 1;
  struct listen_event *event = malloc(sizeof *event + size);
  if (!event) {
    mp_log(MP_LOG_ERROR, "listen", "no memory for a notification on %s", listener->channel);
    return;
  }
  event->what = what;
  memcpy(event->payload, payload, size);
  mp_list_push_back(&listener->events, &event->node);
  start_task(listener);
}

/* The listener is argument 1. */
static int work(lua_State *L, int status, lua_KContext ctx) {
  struct listener *listener = lua_touserdata(L, 1);
  (void)status;
  (void)ctx;
  while (!mp_list_empty(&listener->events)) {
    struct listen_event *event = MP_LIST_ENTRY(listener->events.next, struct listen_event, node);
    lua_settop(L, 1);
    lua_getiuservalue(L, 1, 1);
    if (event->what)
      lua_pushnil(L);
    else
      lua_pushstring(L, event->payload);
    lua_pushstring(L, event->what);
    mp_list_remove(&event->node);
    MP_FREE_LISTED(event);
    lua_callk(L, 2, 0, 0, work);
  }
  return 0;
}

static int work_first(lua_State *L) { return work(L, LUA_OK, 0); }

static void on_worked(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct listener *listener = data;
  struct mp_err err;
  listener->working = false;
  if (!ok) {
    mp_luaerr_get(L, -1, &err);
    mp_log(MP_LOG_ERROR, "script", "%s failed: %s", mp_task_name(task), err.msg);
  }
  if (!listener->listen)
    luaL_unref(L, LUA_REGISTRYINDEX, listener->self_ref); /* closed meanwhile */
  else if (!mp_list_empty(&listener->events))
    start_task(listener);
}

static int start_task_p(lua_State *L) {
  struct listener *listener = lua_touserdata(L, 1);
  char name[96];
  snprintf(name, sizeof name, "listener on %s", listener->channel);
  lua_pushcfunction(L, work_first);
  lua_rawgeti(L, LUA_REGISTRYINDEX, listener->self_ref);
  mp_task_start(listener->listen->host->sched, L, 1, name, &mp_task_of_host, on_worked, listener);
  return 0;
}

static void start_task(struct listener *listener) {
  lua_State *L = mp_vm_lua(listener->listen->host->vm);
  if (listener->working) return;
  listener->working = true;
  lua_pushcfunction(L, start_task_p);
  lua_pushlightuserdata(L, listener);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return;
  listener->working = false;
  lua_pop(L, 1);
}

/* ---- statements ---- */

struct command {
  struct mp_req req;
  struct mp_sync sync;
  struct mp_listen *listen;
  char channel[MAX_CHANNEL + 1]; /* of a LISTEN; "": of a ping or UNLISTEN */
  bool ping;
  struct mp_err err;
  char sql[2 * MAX_CHANNEL + 32];
};

/* The server listens to the channel, or said why not. */
static void tell(struct mp_listen *listen, const char *channel, const struct mp_err *err) {
  MP_LIST_EACH(node, &listen->listeners) {
    struct listener *listener = MP_LIST_ENTRY(node, struct listener, node);
    if (strcmp(listener->channel, channel) != 0) continue;
    if (listener->waiting) {
      if (err) listener->err = *err;
      listener->waiting = false;
      mp_wait_ready(listen->host->sched, listener->token);
    } else if (!err && listener->soon && (listener->gap || !listener->heard)) {
      push_event(listener, "listening", "");
    } else if (!err && listener->gap) {
      push_event(listener, "reconnected", "");
    }
    if (err) continue;
    listener->heard = true;
    listener->gap = false;
  }
}

static void on_command(struct mp_req *req, struct mp_result *result, const struct mp_err *err) {
  struct command *command = MP_CONTAINER_OF(req, struct command, req);
  (void)result;
  if (err) command->err = *err;
}

static void on_command_sync(struct mp_sync *sync, struct mp_result *result,
                            const struct mp_err *err) {
  struct command *command = MP_CONTAINER_OF(sync, struct command, sync);
  struct mp_listen *listen = command->listen;
  (void)result;
  if (command->ping) listen->pinging = false;
  if (!err && command->err.code) err = &command->err;
  /* A lost connection is opened again, and its LISTENs sent again. */
  if (*command->channel && !(err && err->flags & MP_ERRF_CONN_DEAD) && !listen->stopped)
    tell(listen, command->channel, err);
  free(command);
}

/* Sends "`verb` channel", or a ping. */
static void tell_server(struct mp_listen *listen, const char *verb, const char *channel) {
  struct command *command = calloc(1, sizeof *command);
  if (!command) {
    mp_conn_close(listen->conn, "no memory for a statement");
    return;
  }
  command->listen = listen;
  char *at = command->sql + snprintf(command->sql, 32, "%s", verb);
  if (channel) {
    *at++ = ' ';
    *at++ = '"';
    for (const char *from = channel; *from; from++) {
      if (*from == '"') *at++ = '"';
      *at++ = *from;
    }
    *at++ = '"';
    *at = '\0';
    if (*verb == 'L') snprintf(command->channel, sizeof command->channel, "%s", channel);
  }
  command->req = (struct mp_req){.sql = command->sql, .flags = MP_REQ_ONCE, .on_done = on_command};
  command->sync.on_done = on_command_sync;
  command->ping = !channel;
  if (command->ping) listen->pinging = true;
  mp_conn_send(listen->conn, &command->req);
  mp_conn_sync(listen->conn, &command->sync);
}

/* ---- the connection ---- */

static void open_conn(struct mp_listen *listen);

static void wait_and_retry(struct mp_listen *listen) {
  listen->state = LISTEN_WAITING;
  mp_timer_start(&listen->retry, listen->retry_ms);
  listen->retry_ms = listen->retry_ms * 2 < RETRY_CAP_MS ? listen->retry_ms * 2 : RETRY_CAP_MS;
}

static void on_open(struct mp_conn *conn, void *data, const struct mp_err *err) {
  struct mp_listen *listen = data;
  if (err) {
    struct mp_err copy = *err;
    mp_log(MP_LOG_WARN, "listen", "cannot connect to the database to listen: %s", err->msg);
    MP_LIST_EACH(node, &listen->listeners) {
      struct listener *listener = MP_LIST_ENTRY(node, struct listener, node);
      if (listener->waiting) tell(listen, listener->channel, &copy);
    }
    mp_conn_close(conn, "it could not be opened");
    return;
  }
  listen->state = LISTEN_READY;
  listen->retry_ms = RETRY_MS;
  listen->pinging = false;
  listen->read_only = mp_conn_read_only(conn);
  listen->pinged_ms = mp_loop_now_ms(listen->host->loop);
  mp_timer_start(&listen->retry, CHECK_MS);
  MP_LIST_EACH(node, &listen->listeners) {
    struct listener *listener = MP_LIST_ENTRY(node, struct listener, node);
    tell_server(listen, "LISTEN", listener->channel);
  }
}

static void on_lost(struct mp_conn *conn, void *data, const struct mp_err *err) {
  struct mp_listen *listen = data;
  if (!listen->stopped)
    mp_log(MP_LOG_WARN, "listen", "lost the connection that listens, opening another: %s",
           err->msg);
  mp_conn_close(conn, "it was lost");
}

static void on_closed(void *data) {
  struct mp_listen *listen = data;
  bool wanted = listen->state != LISTEN_NONE;
  MP_LIST_EACH(node, &listen->listeners) {
    struct listener *listener = MP_LIST_ENTRY(node, struct listener, node);
    listener->gap = listener->heard;
  }
  listen->conn = NULL;
  listen->state = LISTEN_NONE;
  mp_timer_stop(&listen->retry);
  if (listen->stopped) {
    listen->host->live_work--;
  } else if (!mp_list_empty(&listen->listeners)) {
    if (!wanted) listen->retry_ms = 0; /* a new listener came while it closed */
    wait_and_retry(listen);
    if (!wanted) listen->retry_ms = RETRY_MS;
  }
}

static void on_notify(struct mp_conn *conn, void *data, const char *channel, const char *payload) {
  struct mp_listen *listen = data;
  (void)conn;
  MP_LIST_EACH(node, &listen->listeners) {
    struct listener *listener = MP_LIST_ENTRY(node, struct listener, node);
    if (!strcmp(listener->channel, channel)) push_event(listener, NULL, payload);
  }
}

static void open_conn(struct mp_listen *listen) {
  static const struct mp_conn_events events = {on_open, on_lost, on_closed, on_notify};
  struct mp_err err;
  if (!listen->host->pool) return; /* the host is closing */
  struct mp_conn_options options = *mp_pool_conn_options(listen->host->pool);
  options.purpose = "listen";
  options.statement_cache = 0;
  listen->state = LISTEN_OPENING;
  if (mp_conn_open(&listen->conn, listen->host->loop, &options, &events, listen, &err)) {
    listen->conn = NULL;
    mp_log(MP_LOG_WARN, "listen", "cannot connect to the database to listen: %s", err.msg);
    wait_and_retry(listen);
  }
}

/* Messages are sent on the server that takes writes: is this connection to one that does not any
 * more, or to one that the host has left? */
static bool led_away(const struct mp_listen *listen) {
  return mp_conn_opened_ms(listen->conn) <= listen->host->shared->health->stale_ms ||
         (mp_conn_read_only(listen->conn) && !listen->read_only);
}

/* A connection that only listens would never notice that the other side is gone. */
static void check(struct mp_listen *listen) {
  uint64_t now_ms = mp_loop_now_ms(listen->host->loop);
  bool due = now_ms >= listen->pinged_ms + PING_MS;
  if (led_away(listen)) {
    mp_conn_close(listen->conn, "another server takes the writes");
    return;
  }
  if (due && listen->pinging) {
    mp_health_silent(listen->host, listen->host->pool, listen->conn);
    mp_conn_close(listen->conn, "the server does not answer");
    return;
  }
  if (due) {
    listen->pinged_ms = now_ms;
    tell_server(listen, "select 1", NULL);
  }
  mp_timer_start(&listen->retry, CHECK_MS);
}

static void on_timer(struct mp_timer *timer) {
  struct mp_listen *listen = MP_CONTAINER_OF(timer, struct mp_listen, retry);
  switch (listen->state) {
    case LISTEN_WAITING: open_conn(listen); break;
    case LISTEN_READY: check(listen); break;
    case LISTEN_NONE:
    case LISTEN_OPENING: break;
  }
}

static struct mp_listen *listen_of(lua_State *L, struct mp_host *host) {
  if (host->listen) return host->listen;
  struct mp_listen *listen = calloc(1, sizeof *listen);
  if (!listen) luaL_error(L, "not enough memory");
  listen->host = host;
  listen->retry_ms = RETRY_MS;
  mp_list_init(&listen->listeners);
  mp_timer_init(&listen->retry, host->loop, on_timer);
  return host->listen = listen;
}

void mp_listen_stop(struct mp_host *host) {
  struct mp_listen *listen = host->listen;
  if (!listen || listen->stopped) return;
  listen->stopped = true;
  mp_timer_stop(&listen->retry);
  if (!listen->conn) return;
  host->live_work++; /* until it is closed */
  mp_conn_close(listen->conn, "the host ends");
}

void mp_listen_fini(struct mp_host *host) {
  free(host->listen);
  host->listen = NULL;
}

/* ---- Lua ---- */

static void close_listener(lua_State *L, struct listener *listener) {
  struct mp_listen *listen = listener->listen;
  if (!listen) return;
  listener->listen = NULL;
  mp_list_remove(&listener->node);
  drop_events(listener);
  if (!listener->working) luaL_unref(L, LUA_REGISTRYINDEX, listener->self_ref);
  if (listen->stopped) return;
  bool shared = false;
  MP_LIST_EACH(node, &listen->listeners) {
    shared =
        shared || !strcmp(MP_LIST_ENTRY(node, struct listener, node)->channel, listener->channel);
  }
  if (mp_list_empty(&listen->listeners)) {
    mp_timer_stop(&listen->retry);
    listen->state = LISTEN_NONE;
    if (listen->conn) mp_conn_close(listen->conn, "the listener was closed");
  } else if (!shared && listen->state == LISTEN_READY) {
    tell_server(listen, "UNLISTEN", listener->channel);
  }
}

static int listener_close(lua_State *L) {
  close_listener(L, luaL_checkudata(L, 1, LISTENER_TYPE));
  return 0;
}

static int listener_gc(lua_State *L) {
  struct listener *listener = lua_touserdata(L, 1);
  if (listener->listen) mp_list_remove(&listener->node); /* the state is closed */
  listener->listen = NULL;
  drop_events(listener);
  return 0;
}

static void abandon(void *data) {
  struct listener *listener = data;
  listener->waiting = false;
  close_listener(mp_vm_lua(listener->listen->host->vm), listener);
}

/* Pushes a listener for the channel and the function at 1 and 2. */
static struct listener *push_listener(lua_State *L, const char *what, struct mp_host *host) {
  static const luaL_Reg methods[] = {{"close", listener_close}, {NULL, NULL}};
  size_t len;
  const char *channel = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &len) : NULL;
  if (!channel || !len || len > MAX_CHANNEL || strlen(channel) != len)
    mp_luaerr_misuse(L, what, "the channel must be a name of 1 to %d bytes", MAX_CHANNEL);
  if (lua_type(L, 2) != LUA_TFUNCTION)
    mp_luaerr_misuse(L, what, "the function that gets the payloads is missing");
  struct mp_listen *listen = listen_of(L, host);
  if (listen->stopped) mp_luaerr_misuse(L, what, "the host is closing");
  struct listener *listener = lua_newuserdatauv(L, sizeof *listener, 1);
  memset(listener, 0, sizeof *listener);
  mp_list_init(&listener->events);
  if (luaL_newmetatable(L, LISTENER_TYPE)) {
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, listener_close);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, listener_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 1);
  memcpy(listener->channel, channel, len + 1);
  lua_pushvalue(L, -1);
  listener->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  listener->listen = listen;
  mp_list_push_back(&listen->listeners, &listener->node);
  return listener;
}

static void start(struct listener *listener) {
  struct mp_listen *listen = listener->listen;
  switch (listen->state) {
    case LISTEN_NONE:
      if (!listen->conn) open_conn(listen); /* one that closes is followed by another */
      break;
    case LISTEN_READY: tell_server(listen, "LISTEN", listener->channel); break;
    case LISTEN_OPENING:
    case LISTEN_WAITING: break;
  }
}

/* The listener is on top. */
static int listening(lua_State *L, int status, lua_KContext ctx) {
  struct listener *listener = lua_touserdata(L, -1);
  (void)status;
  (void)ctx;
  if (!listener->err.code) return 1;
  close_listener(L, listener);
  mp_luaerr_push(L, &listener->err);
  return lua_error(L);
}

int mp_db_listen(lua_State *L) {
  struct mp_source *source = mp_source_usable(L, "db.listen");
  struct mp_host *host = source->host;
  if (source->pool != host->pool)
    mp_luaerr_misuse(L, "db.listen", "only on the host's own database: moonpool.db");
  struct listener *listener = push_listener(L, "db.listen", host);
  listener->waiting = true;
  listener->token = mp_wait_begin(L, abandon, listener);
  start(listener);
  return mp_wait_yield(L, 0, listening);
}

static int host_listen_soon(lua_State *L) {
  struct listener *listener = push_listener(L, "listen_soon", mp_host_of(L));
  listener->soon = true;
  start(listener);
  return 1;
}

void mp_listen_open(lua_State *L) {
  lua_pushcfunction(L, host_listen_soon);
  lua_setfield(L, -2, "listen_soon");
}
