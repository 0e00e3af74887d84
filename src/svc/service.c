/* service.c: one HTTP request, from authorization to the answer. */
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "script/luaerr.h"
#include "svc/feed.h"
#include "svc/service_priv.h"

enum {
  FIND_MS = 2000,  /* for the database's answer about a token */
  DOWN_MS = 10000, /* after a failed query, cached tokens are used that long without asking again */
};

/* ---- operations ---- */

static void on_call(void *data, const struct mp_invoke_answer *answer) {
  struct mp_job *job = data;
  job->call = NULL;
  mp_job_answer_json(job, answer->ok, answer->status, answer->text, answer->len);
}

static void call_operation(struct mp_job *job, const struct mp_principal *who) {
  const struct mp_http_message *message = &job->request->message;
  struct mp_http_text name = {message->path.at + 9, message->path.len - 9};
  char key[MP_KEY_LEN + 1];
  struct mp_err err;
  double timeout_s;
  if (name.len > MP_JOB_NAME_LEN || !mp_text_in_set(name, "_")) {
    mp_job_refuse(job, 404, "UNKNOWN_OPERATION",
                  "no operation has this name; GET /api/ops lists them");
    return;
  }
  memcpy(job->name, name.at, name.len);
  if (!mp_scopes_allow(who->scopes, "ops", job->name)) {
    mp_job_refuse(job, 403, "FORBIDDEN", "this token lacks the scope for this operation");
    return;
  }
  const char *not_json = mp_header_not_json(message);
  if (not_json) {
    mp_job_refuse(job, 415, "UNSUPPORTED_MEDIA_TYPE", not_json);
    return;
  }
  if (!mp_header_timeout(message, &timeout_s)) {
    mp_job_refuse(job, 400, "VALIDATION_ERROR",
                  "Request-Timeout is a number of seconds, up to 86400");
    return;
  }
  if (!mp_header_key(message, key)) {
    mp_job_refuse(job, 400, "VALIDATION_ERROR", "Idempotency-Key is one text of 1 to 255 bytes");
    return;
  }
  mp_invoke_new_id(job->service->generations, job->call_id);
  struct mp_log_about of = mp_job_about(job);
  struct mp_invoke_options options = {.name = job->name,
                                      .input = message->body.len ? message->body.at : NULL,
                                      .input_len = message->body.len,
                                      .tenant = who->tenant,
                                      .user = who->user,
                                      .scopes = who->scopes,
                                      .key = *key ? key : NULL,
                                      .about = &of,
                                      .far = true,
                                      .timeout_s = timeout_s,
                                      .waited_s = mp_job_waited_s(job)};
  if (mp_invoke(&job->call, job->service->generations, &options, on_call, job, &err))
    mp_job_refuse(job, mp_err_status(&err), mp_err_name(&err), err.msg);
}

/* ---- tasks of the host's own Lua state ---- */

struct service_start {
  struct mp_job *job;
  const struct mp_principal *who;
  mp_task_done on_done;
};

static void push_text(lua_State *L, struct mp_http_text text) {
  if (text.at)
    lua_pushlstring(L, text.at, text.len);
  else
    lua_pushnil(L);
}

/* What a page may have to know of the request's headers. */
static void push_head(lua_State *L, const struct mp_job *job) {
  const struct mp_http_message *message = &job->request->message;
  struct mp_http_text given;
  lua_createtable(L, 0, 3);
  if (mp_http_header(message, "mcp-protocol-version", &given)) {
    push_text(L, given);
    lua_setfield(L, -2, "mcp_version");
  }
  lua_pushboolean(L, mp_http_header(message, "origin", &given) && !job->cors.origin[0]);
  lua_setfield(L, -2, "foreign");
  lua_pushstring(L, mp_header_not_json(message));
  lua_setfield(L, -2, "not_json");
}

static int start_page(lua_State *L) {
  static const char *const methods[] = {
#define X(name) #name,
      MP_HTTP_METHOD_MAP(X)
#undef X
  };
  const struct service_start *start = lua_touserdata(L, 1);
  struct mp_job *job = start->job;
  const struct mp_http_message *message = &job->request->message;
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, job->service->page_ref);
  lua_pushstring(L, methods[message->method]);
  push_text(L, message->path);
  push_text(L, message->query);
  push_text(L, message->body);
  if (start->who) {
    lua_createtable(L, 0, 4);
#define SET(field) (lua_pushstring(L, start->who->field), lua_setfield(L, -2, #field))
    SET(id), SET(tenant), SET(user), SET(scopes);
#undef SET
  } else {
    lua_pushnil(L);
  }
  lua_pushboolean(L, job->service->draining);
  push_head(L, job);
  job->task =
      mp_task_start(job->service->sched, L, 7, "page", &mp_task_of_host, start->on_done, job);
  return 0;
}

static int start_find(lua_State *L) {
  const struct service_start *start = lua_touserdata(L, 1);
  struct mp_job *job = start->job;
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, job->service->find_ref);
  lua_pushstring(L, job->token_id);
  job->task =
      mp_task_start(job->service->sched, L, 1, "token", &mp_task_of_host, start->on_done, job);
  double timeout_s;
  bool less = mp_header_timeout(&job->request->message, &timeout_s) && timeout_s > 0 &&
              timeout_s * 1000 < FIND_MS;
  mp_timer_start(&job->find_timer, less ? (uint64_t)(timeout_s * 1000) : FIND_MS);
  return 0;
}

static void start_task(struct mp_job *job, lua_CFunction start_p, const struct mp_principal *who,
                       mp_task_done on_done) {
  lua_State *L = job->service->L;
  struct service_start start = {job, who, on_done};
  lua_pushcfunction(L, start_p);
  lua_pushlightuserdata(L, &start);
  if (lua_pcall(L, 1, 0, 0)) {
    lua_pop(L, 1);
    mp_job_refuse(job, 503, "HOST_OUT_OF_MEMORY", "no memory for an answer");
  }
}

static void start_watching(struct mp_job *job, const char *content_type, const char *line,
                           size_t len) {
  struct mp_http_field fields[2 + MP_CORS_FIELDS] = {{"X-Request-Id", job->id},
                                                     {"Cache-Control", "no-store"}};
  struct mp_http_answer answer = {.status = 200,
                                  .content_type = content_type,
                                  .body = line,
                                  .body_len = len,
                                  .fields = fields,
                                  .fields_len = 2};
  for (size_t i = 0; i < job->cors.len; i++) fields[answer.fields_len++] = job->cors.fields[i];
  if (mp_feed_watch(job->service->feed, job->request, &answer)) {
    mp_meter_streams(job->service->meter, answer.status);
    free(job);
  } else {
    mp_job_refuse(job, 503, "BUSY",
                  "enough dashboards are open; close one, or ask /api/db/overview");
  }
}

/* The page's task returns: status, content type, body, Content-Security-Policy or nil, follow. */
static void on_page(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_job *job = data;
  (void)task;
  job->task = NULL;
  size_t len;
  const char *body = ok ? lua_tolstring(L, 3, &len) : NULL;
  if (body && lua_toboolean(L, 5)) {
    start_watching(job, lua_tostring(L, 2), body, len);
    return;
  }
  if (body) {
    job->policy = lua_tostring(L, 4); /* nil, or nothing there: NULL */
    mp_job_answer(job, (int)lua_tointeger(L, 1), lua_tostring(L, 2), body, len);
    return;
  }
  struct mp_err err = {.msg = "it returned no text"};
  if (!ok) mp_luaerr_get(L, -1, &err);
  struct mp_log_about of = mp_job_about(job);
  if (!err.code) err.code = MP_EINTERNAL;
  mp_log_on(&of, MP_LOG_ERROR, "http", "a page failed: %s: %s", mp_err_name(&err), err.msg);
  mp_job_refuse(job, mp_err_status(&err), mp_err_name(&err),
                "the page failed; the log says why, under the request's id");
}

/* ---- authorization ---- */

static void authorize(struct mp_job *job);

static const char *text_at(lua_State *L, int at) {
  return lua_isstring(L, at) ? lua_tostring(L, at) : NULL;
}

/* The database cannot be reached: a cached answer is good enough for a while. */
static void ask_in_vain(struct mp_job *job) {
  job->told = true;
  job->service->down_until_ms = mp_loop_now_ms(job->service->loop) + DOWN_MS;
  authorize(job);
}

static void on_find_timeout(struct mp_timer *timer) {
  struct mp_job *job = MP_CONTAINER_OF(timer, struct mp_job, find_timer);
  mp_task_kill(job->task);
  job->task = NULL;
  ask_in_vain(job);
}

/* The token's task gives: nil, or hash, tenant, user, scopes, seconds until it ends. */
static void on_found(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_job *job = data;
  struct mp_service *service = job->service;
  uint64_t now_ms = mp_loop_now_ms(service->loop);
  (void)task;
  job->task = NULL;
  job->told = true;
  mp_timer_stop(&job->find_timer);
  if (!ok) {
    ask_in_vain(job);
    return;
  }
  if (text_at(L, 1)) {
    double ends_s = lua_isnumber(L, 5) ? lua_tonumber(L, 5) : 0;
    struct mp_token_row row = {
        .id = job->token_id,
        .hash_hex = text_at(L, 1),
        .tenant = text_at(L, 2),
        .user = text_at(L, 3),
        .scopes = text_at(L, 4),
        .ends_ms = lua_isnumber(L, 5) ? now_ms + (uint64_t)fmax(1, fmin(ends_s, 1e9) * 1000) : 0};
    mp_access_tell(service->access, job->token_id, &row, now_ms);
  } else {
    mp_access_tell(service->access, job->token_id, NULL, now_ms);
  }
  authorize(job);
}

static bool starts_with(struct mp_http_text text, const char *prefix) {
  size_t len = strlen(prefix);
  return text.len >= len && !memcmp(text.at, prefix, len);
}

static void dispatch(struct mp_job *job, const struct mp_principal *who) {
  const struct mp_http_message *message = &job->request->message;
  bool operation = job->route == MP_ROUTE_OPERATION;
  if (operation && message->method != MP_HTTP_POST)
    mp_job_refuse(job, 405, "METHOD_NOT_ALLOWED", "an operation is called with POST");
  else if (operation && !who)
    mp_job_refuse(job, 401, "UNAUTHORIZED", "this needs a token: Authorization: Bearer mp_...");
  else if (operation)
    call_operation(job, who);
  else
    start_task(job, start_page, who, on_page);
}

static void authorize(struct mp_job *job) {
  struct mp_service *service = job->service;
  struct mp_http_text given;
  struct mp_principal who;
  uint64_t now_ms = mp_loop_now_ms(service->loop);
  size_t n = mp_http_header(&job->request->message, "authorization", &given);
  if (!n) {
    dispatch(job, NULL);
    return;
  }
  if (!*job->address) mp_header_address(job->request, job->address, sizeof job->address);
  bool bearer = n == 1 && given.len > 7 && !strncasecmp(given.at, "bearer ", 7);
  struct mp_log_about of = mp_job_about(job);
  enum mp_verdict verdict =
      mp_access_check(service->access, bearer ? given.at + 7 : "", bearer ? given.len - 7 : 0,
                      job->address, now_ms, now_ms < service->down_until_ms, &who, job->token_id);
  switch (verdict) {
    case MP_ACCESS_KNOWN: dispatch(job, &who); return;
    case MP_ACCESS_ASK:
      if (job->told)
        mp_job_refuse(job, 503, "NO_DATABASE",
                      "the token cannot be checked: the database cannot be reached");
      else
        start_task(job, start_find, NULL, on_found);
      return;
    case MP_ACCESS_DENIED:
      mp_log_on(&of, MP_LOG_WARN, "http", "an invalid token from %s", job->address);
      mp_job_refuse(job, 401, "UNAUTHORIZED", "the token is unknown, revoked or expired");
      return;
    case MP_ACCESS_LIMITED:
      mp_job_refuse(job, 429, "TOO_MANY_REQUESTS", "too many invalid tokens from this address");
      return;
  }
}

/* ---- requests ---- */

/* The client is gone: work that is not committed is rolled back. */
static void on_gone(struct mp_http_request *request) {
  struct mp_job *job = request->data;
  if (job->call) mp_invoke_cancel(job->call);
  if (job->task) mp_task_kill(job->task);
  mp_job_refuse(job, 499, "CANCELED", "the client went away");
}

/* Always answered: load balancers ask here whether the host may take work. */
static bool asks_for_health(const struct mp_http_message *message) {
  return mp_http_text_is(message->path, "/health") ||
         mp_http_text_is(message->path, "/api/db/health");
}

static void on_request(struct mp_http_server *server, void *data, struct mp_http_request *request) {
  struct mp_service *service = data;
  (void)server;
  struct mp_job *job = calloc(1, sizeof *job);
  if (!job) {
    struct mp_http_answer answer = {.status = 503};
    mp_http_respond(request, &answer);
    return;
  }
  job->service = service;
  job->request = request;
  job->route = starts_with(request->message.path, "/api/ops/") ? MP_ROUTE_OPERATION : MP_ROUTE_PAGE;
  job->began_ns = mp_loop_clock_ns(service->loop);
  request->data = job;
  request->on_gone = on_gone;
  mp_timer_init(&job->find_timer, service->loop, on_find_timeout);
  mp_header_request_id(&request->message, service->loop, job->id);
  mp_header_trace(&request->message, service->loop, &job->trace);
  mp_cors_judge(&service->cors, &request->message, &job->cors);
  if (!asks_for_health(&request->message)) {
    if (request->extra) {
      mp_job_refuse(job, 503, "BUSY", "all connections of the host are in use; try again");
      return;
    }
    if (!mp_hosts_allow(&service->hosts, &request->message)) {
      mp_job_refuse(
          job, 421, "MISDIRECTED_REQUEST",
          "this host does not serve the name in the Host header; MOONPOOL_HOSTS lists its names");
      return;
    }
  }
  switch (job->cors.kind) {
    case MP_CORS_PLAIN: authorize(job); return;
    case MP_CORS_PREFLIGHT: mp_job_answer(job, 204, NULL, NULL, 0); return;
    case MP_CORS_REFUSED:
      mp_job_refuse(job, 403, "FORBIDDEN", "MOONPOOL_CORS_ORIGINS does not list this origin");
      return;
  }
}

/* ---- the service ---- */

static void on_server_closed(void *data) {
  struct mp_service *service = data;
  mp_feed_unref(service->feed);
  mp_meter_unref(service->meter);
  void (*on_closed)(void *) = service->on_closed;
  void *owner = service->data;
  luaL_unref(service->L, LUA_REGISTRYINDEX, service->page_ref);
  luaL_unref(service->L, LUA_REGISTRYINDEX, service->find_ref);
  mp_access_unref(service->access);
  mp_cors_fini(&service->cors);
  mp_hosts_fini(&service->hosts);
  free(service);
  on_closed(owner);
}

int mp_service_check(const char *cors_origins, const char *hosts, struct mp_err *err) {
  struct mp_cors cors;
  struct mp_hosts names;
  int rv = mp_cors_init(&cors, cors_origins, err);
  if (rv) return rv;
  mp_cors_fini(&cors);
  rv = mp_hosts_init(&names, hosts, "", err);
  if (!rv) mp_hosts_fini(&names);
  return rv;
}

int mp_service_open(struct mp_service **out, const struct mp_service_options *options,
                    struct mp_err *err) {
  static const struct mp_http_events events = {on_request, on_server_closed};
  struct mp_service *service = calloc(1, sizeof *service);
  if (!service) return mp_err_set(err, MP_ENOMEM, "no memory for the HTTP service");
  int rv = mp_access_new(&service->access, err);
  if (!rv) rv = mp_cors_init(&service->cors, options->cors_origins, err);
  if (!rv) rv = mp_hosts_init(&service->hosts, options->hosts, options->http.host, err);
  if (!rv)
    rv = mp_feed_new(&service->feed, options->loop, options->sched, options->L, &service->page_ref,
                     err);
  if (!rv) rv = mp_meter_new(&service->meter, options->metrics, &service->server, err);
  service->loop = options->loop;
  service->sched = options->sched;
  service->generations = options->generations;
  service->L = options->L;
  service->on_closed = options->on_closed;
  service->data = options->data;
  if (!rv)
    rv =
        mp_http_server_open(&service->server, options->loop, &options->http, &events, service, err);
  if (rv) {
    mp_access_unref(service->access);
    mp_cors_fini(&service->cors);
    mp_hosts_fini(&service->hosts);
    mp_feed_unref(service->feed);
    mp_meter_unref(service->meter);
    free(service);
    return rv;
  }
  service->find_ref = luaL_ref(options->L, LUA_REGISTRYINDEX);
  service->page_ref = luaL_ref(options->L, LUA_REGISTRYINDEX);
  *out = service;
  return 0;
}

int mp_service_port(const struct mp_service *service) {
  return mp_http_server_port(service->server);
}

void mp_service_close(struct mp_service *service, uint64_t grace_ms) {
  service->draining = true;
  mp_feed_end(service->feed);
  mp_http_server_close(service->server, grace_ms);
}
