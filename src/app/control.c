/* control.c: the socket, its clients, and a task for each line. */
#include "app/control.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "cluster/cluster.h"
#include "script/luaerr.h"
#include "util/buf.h"
#include "util/hash.h"
#include "util/list.h"
#include "util/log.h"

enum { MAX_LINE = 16 << 20, MAX_CLIENTS = 1000, BACKLOG = 128 };

struct mp_control_channel {
  uv_pipe_t listener;
  struct mp_sched *sched;
  lua_State *main;
  int handler_ref;
  char *path;
  struct mp_list clients;
  size_t handles; /* libuv's, not closed yet */
  bool draining, closing;
};

struct client {
  struct mp_list node;
  struct mp_control_channel *control;
  uv_pipe_t pipe;
  struct mp_buf in;
  struct mp_task *task; /* answers a line */
  bool ended;           /* the other side sends no more */
};

struct answer {
  uv_write_t req;
  struct client *client;
  char text[];
};

/* ---- where ---- */

/* Makes `dir` for its user alone. Its parent may be missing when no embedded database was ever
 * made. */
static int make_private(const char *dir) {
  char parent[MP_CLUSTER_PATH];
  if (mkdir(dir, 0700) == 0 || errno == EEXIST) return 0;
  snprintf(parent, sizeof parent, "%s", dir);
  char *slash = strrchr(parent, '/');
  if (errno != ENOENT || !slash || slash == parent) return -1;
  *slash = '\0';
  if (make_private(parent)) return -1;
  return mkdir(dir, 0700);
}

int mp_control_path(const char *app_dir, long pid, char *out, size_t size, struct mp_err *err) {
  struct mp_cluster_env env;
  char state[MP_CLUSTER_PATH - 16], dir[MP_CLUSTER_PATH];
  struct stat st;
  mp_cluster_env_read(&env);
  int rv = mp_cluster_default_dir(&env, state, sizeof state, err);
  if (rv) return rv;
  snprintf(dir, sizeof dir, "%s/control", state);
  if (pid && (make_private(dir) || stat(dir, &st)))
    return mp_err_set(err, MP_EIO, "cannot make %.200s: %s", dir, strerror(errno));
  if (pid && st.st_uid != geteuid() && geteuid() != 0)
    return mp_err_set(err, MP_EIO, "%.200s belongs to another user", dir);
  uint64_t hash = mp_hash(MP_HASH_START, app_dir, strlen(app_dir));
  int n = pid ? snprintf(out, size, "%s/%08x-%ld.sock", dir, (unsigned)(hash >> 32), pid)
              : snprintf(out, size, "%s/%08x-", dir, (unsigned)(hash >> 32));
  if (n < 0 || (size_t)n >= size || (size_t)n >= sizeof((struct sockaddr_un *)0)->sun_path)
    return mp_err_set(err, MP_EINVAL,
                      "%.200s is too long for a socket; choose a shorter MOONPOOL_STATE", dir);
  return 0;
}

/* ---- the end of a client ---- */

static void free_when_closed(struct mp_control_channel *control) {
  if (--control->handles || !control->closing) return;
  free(control->path); /* the handler's reference goes with its state */
  free(control);
}

static void on_client_closed(uv_handle_t *handle) {
  struct client *client = handle->data;
  struct mp_control_channel *control = client->control;
  mp_buf_fini(&client->in);
  free(client);
  free_when_closed(control);
}

static void close_client(struct client *client) {
  struct mp_task *task = client->task;
  if (uv_is_closing((uv_handle_t *)&client->pipe)) return;
  client->task = NULL;
  mp_list_remove(&client->node);
  uv_close((uv_handle_t *)&client->pipe, on_client_closed);
  if (task) mp_task_kill(task);
}

/* ---- lines ---- */

static void next_line(struct client *client);

static void on_written(uv_write_t *req, int status) {
  struct answer *answer = MP_CONTAINER_OF(req, struct answer, req);
  struct client *client = answer->client;
  free(answer);
  if (status < 0)
    close_client(client);
  else
    next_line(client);
}

static void send_answer(struct client *client, const char *text, size_t len) {
  struct answer *answer = malloc(sizeof *answer + len + 1);
  if (!answer) {
    close_client(client);
    return;
  }
  answer->client = client;
  memcpy(answer->text, text, len);
  answer->text[len] = '\n';
  uv_buf_t buf = uv_buf_init(answer->text, (unsigned)len + 1);
  if (uv_write(&answer->req, (uv_stream_t *)&client->pipe, &buf, 1, on_written)) {
    free(answer);
    close_client(client);
  }
}

static void on_answered(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct client *client = data;
  size_t len;
  (void)task;
  client->task = NULL;
  const char *text = ok ? lua_tolstring(L, -1, &len) : NULL;
  if (text) {
    send_answer(client, text, len);
  } else {
    struct mp_err err;
    mp_luaerr_get(L, -1, &err);
    mp_log(MP_LOG_ERROR, "host", "the control channel failed: %s", err.msg);
    close_client(client);
  }
}

struct line {
  struct client *client;
  const char *text;
  size_t len;
};

static int start_line(lua_State *L) {
  const struct line *line = lua_touserdata(L, 1);
  struct client *client = line->client;
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, client->control->handler_ref);
  lua_pushlstring(L, line->text, line->len);
  client->task =
      mp_task_start(client->control->sched, L, 1, "control", &mp_task_of_host, on_answered, client);
  return 0;
}

static void next_line(struct client *client) {
  struct mp_control_channel *control = client->control;
  if (client->task || uv_is_closing((uv_handle_t *)&client->pipe)) return;
  char *end = client->in.len ? memchr(client->in.data, '\n', client->in.len) : NULL;
  if (!end || control->draining) {
    if (client->ended || control->draining) close_client(client);
    return;
  }
  struct line line = {client, client->in.data, (size_t)(end - client->in.data)};
  lua_pushcfunction(control->main, start_line);
  lua_pushlightuserdata(control->main, &line);
  if (lua_pcall(control->main, 1, 0, 0)) {
    lua_pop(control->main, 1);
    close_client(client);
    return;
  }
  client->in.len -= line.len + 1;
  memmove(client->in.data, end + 1, client->in.len);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  struct client *client = handle->data;
  char *room = mp_buf_reserve(&client->in, 16384);
  (void)suggested;
  *buf = uv_buf_init(room, room ? 16384 : 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  struct client *client = stream->data;
  (void)buf;
  if (n > 0) {
    client->in.len += (size_t)n;
  } else if (n < 0) {
    client->ended = true;
    /* A client that only shut down its sending side still reads; for one that is gone the next
     * write fails. */
    if (n != UV_EOF) {
      close_client(client);
      return;
    }
    uv_read_stop(stream);
    if (client->task) { /* the two cannot be told apart; for a control channel "gone" is the safer
                           assumption */
      close_client(client);
      return;
    }
  }
  next_line(client);
}

static void on_connection(uv_stream_t *stream, int status) {
  struct mp_control_channel *control = stream->data;
  if (status < 0) return;
  struct client *client = calloc(1, sizeof *client);
  if (!client) return;
  client->control = control;
  client->pipe.data = client;
  mp_buf_init(&client->in, MAX_LINE);
  mp_list_push_back(&control->clients, &client->node);
  uv_pipe_init(mp_loop_uv(mp_sched_loop(control->sched)), &client->pipe, 0);
  client->pipe.data = client;
  control->handles++;
  if (uv_accept(stream, (uv_stream_t *)&client->pipe) || control->handles > MAX_CLIENTS ||
      uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read))
    close_client(client);
}

/* ---- the socket ---- */

static void on_listener_closed(uv_handle_t *handle) { free_when_closed(handle->data); }

int mp_control_open(struct mp_control_channel **out, struct mp_sched *sched, lua_State *L,
                    const char *path, struct mp_err *err) {
  struct mp_control_channel *control = calloc(1, sizeof *control);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  if (control) control->path = strdup(path);
  if (!control || !control->path) {
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    free(control);
    return mp_err_set(err, MP_ENOMEM, "no memory for the control channel");
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  control->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  control->sched = sched;
  control->handler_ref = ref;
  mp_list_init(&control->clients);
  uv_pipe_init(mp_loop_uv(mp_sched_loop(sched)), &control->listener, 0);
  control->listener.data = control;
  control->handles = 1;
  unlink(path); /* left by a dead process with the same id */
  int rv = uv_pipe_bind(&control->listener, path);
  if (!rv) rv = uv_listen((uv_stream_t *)&control->listener, BACKLOG, on_connection);
  if (rv) {
    mp_control_close(control);
    return mp_err_set(err, MP_EIO, "cannot listen on %.300s: %s", path, uv_strerror(rv));
  }
  uv_unref((uv_handle_t *)&control->listener); /* it must not keep the loop alive */
  *out = control;
  return 0;
}

static void close_listener(struct mp_control_channel *control) {
  if (uv_is_closing((uv_handle_t *)&control->listener)) return; /* or closed */
  unlink(control->path);
  uv_close((uv_handle_t *)&control->listener, on_listener_closed);
}

void mp_control_drain(struct mp_control_channel *control) {
  control->draining = true;
  close_listener(control);
  MP_LIST_EACH_SAFE(node, &control->clients) {
    next_line(MP_LIST_ENTRY(node, struct client, node));
  }
}

void mp_control_close(struct mp_control_channel *control) {
  if (!control) return;
  control->closing = true;
  MP_LIST_EACH_SAFE(node, &control->clients) {
    close_client(MP_LIST_ENTRY(node, struct client, node));
  }
  control->handles++; /* held while we look */
  close_listener(control);
  free_when_closed(control);
}
