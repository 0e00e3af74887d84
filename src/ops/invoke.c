/* invoke.c: one call from outside of Lua, as a task in the current generation. */
#include "ops/invoke.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "ops/errand.h"
#include "ops/generation_priv.h"
#include "script/luaerr.h"
#include "script/memory.h"
#include "watch/metrics.h"

struct mp_invocation {
  struct mp_list node;
  struct mp_generation *gen;
  struct mp_task *task;     /* NULL: another worker has the call */
  struct mp_errand *errand; /* what the worker is given; NULL: the host has no others */
  unsigned worker;          /* that has the call */
  bool far;                 /* as in the options */
  mp_invoke_cb on_answer;
  void *data;
};

struct start {
  struct mp_invocation *call;
  const struct mp_invoke_options *options;
};

static void leave(struct mp_invocation *call) {
  struct mp_generation *gen = call->gen;
  mp_list_remove(&call->node);
  gen->call_count--;
  if (call->errand && !call->worker) mp_crew_done(gen->set->options.crew, 0);
  MP_FREE_LISTED(call);
  if (gen->state == MP_GEN_RETIRING) mp_generations_sweep_soon(gen->set);
}

static void answer(struct mp_invocation *call, struct mp_invoke_answer *what) {
  mp_invoke_cb on_answer = call->on_answer;
  void *data = call->data;
  struct mp_errand *errand = call->errand;
  what->generation = call->gen->number;
  leave(call);
  on_answer(data, what);
  if (errand) mp_errand_free(errand);
}

/* Writes an error without Lua, whose memory, limits or state are used up. `why` is plain text
 * without quotes. */
static void answer_plainly(struct mp_invocation *call, const char *code, const char *why) {
  const struct mp_code_info *info = mp_code_find(code);
  int status = info ? info->status : 500;
  char text[800];
  int len = snprintf(text, sizeof text, "{\"code\":\"%s\",\"message\":\"%s\",\"status\":%d", code,
                     why, status);
  if (!call->far)
    len += snprintf(text + len, sizeof text - (size_t)len, ",\"generation\":%u", call->gen->number);
  text[len++] = '}';
  text[len] = '\0';
  struct mp_invoke_answer what = {.text = text, .len = (size_t)len, .status = status};
  if (!call->far) {
    what.code = code;
    what.message = what.detail = why;
  }
  answer(call, &what);
}

/* Calls that another worker has are ended there, where the generation of this number ends too. */
static void fail_calls(struct mp_generation *gen, const char *why) {
  MP_LIST_EACH_SAFE(node, &gen->calls) {
    struct mp_invocation *call = MP_LIST_ENTRY(node, struct mp_invocation, node);
    if (!call->task) continue;
    mp_task_kill(call->task);
    answer_plainly(call, mp_code_name(MP_ECANCELED), why);
  }
}

static void tell_plainly(struct mp_invocation *call, const char *code, const char *why) {
  const struct mp_host *host = call->gen->set->host;
  const struct mp_code_info *info = mp_code_find(code);
  const char *name = mp_task_name(call->task);
  mp_log(MP_LOG_ERROR, "call", "%s: %s: %s", name, code, why);
  mp_metrics_call_failed(host->shared->meters, name, code, info ? info->status : 500, NULL,
                         mp_loop_wall_us(host->loop));
  answer_plainly(call, code, why);
}

/* The task has ended without an answer. If its work is stored, the answer says so, whatever failed
 * afterwards. */
static void answer_failure(struct mp_invocation *call, const struct mp_task *task, lua_State *L) {
  struct mp_err err;
  char why[600];
  mp_luaerr_get(L, -1, &err);
  for (char *at = err.msg; *at; at++)
    if ((unsigned char)*at < ' ' || *at == '"' || *at == '\\') *at = ' ';
  if (mp_task_settled(task)) {
    snprintf(why, sizeof why, "the call is done and stored, but its result cannot be written: %s",
             err.msg);
    tell_plainly(call, "RESULT_UNWRITABLE", why);
  } else if (mp_task_condemned(task)) { /* its own limits */
    tell_plainly(call, mp_err_name(&err), err.msg);
  } else {
    tell_plainly(call, "HOST_OUT_OF_MEMORY", "the host has no memory for the call");
  }
}

static void send_on(struct mp_invocation *call, unsigned owner);

/* The entry gives: ok, text, status, detail, code, message; or nil and the worker that owns the
 * call's lane. */
static void on_done(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_invocation *call = data;
  if (ok && lua_isnil(L, 1) && lua_isinteger(L, 2)) {
    call->task = NULL;
    send_on(call, (unsigned)lua_tointeger(L, 2));
    return;
  }
  if (!ok) {
    answer_failure(call, task, L);
    return;
  }
  if (!lua_isstring(L, 2)) {
    tell_plainly(call, mp_code_name(MP_EINTERNAL), "the answer is not text");
    return;
  }
  struct mp_invoke_answer what = {.ok = lua_toboolean(L, 1)};
  what.text = lua_tolstring(L, 2, &what.len);
  what.status = (int)lua_tointeger(L, 3);
  if (!what.ok) {
    what.detail = lua_tostring(L, 4);
    what.code = lua_tostring(L, 5);
    what.message = lua_tostring(L, 6);
  }
  answer(call, &what);
}

static int start_p(lua_State *L) {
  const struct start *start = lua_touserdata(L, 1);
  const struct mp_invoke_options *o = start->options;
  struct mp_invocation *call = start->call;
  char name[72];
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->gen->entry_ref);
  lua_pushstring(L, o->name);
  if (o->input)
    lua_pushlstring(L, o->input, o->input_len);
  else
    lua_pushliteral(L, "{}");
  lua_createtable(L, 0, 8);
#define SET(field, value) (lua_pushstring(L, value), lua_setfield(L, -2, field))
  SET("tenant", o->tenant), SET("as", o->user), SET("scopes", o->scopes), SET("key", o->key);
  SET("entry", o->entry);
  if (call->gen->set->options.crew && !o->settled && !o->entry) {
    lua_pushboolean(L, true);
    lua_setfield(L, -2, "movable");
  }
  if (o->about) {
    lua_createtable(L, 0, 4);
    SET("call_id", o->about->call_id), SET("request_id", o->about->request_id);
    SET("trace_id", o->about->trace_id), SET("span_id", o->about->span_id);
    SET("parent_id", o->about->parent_id);
    lua_pushboolean(L, o->about->unsampled);
    lua_setfield(L, -2, "unsampled");
    lua_setfield(L, -2, "origin");
  }
#undef SET
  lua_pushboolean(L, o->far);
  lua_setfield(L, -2, "far");
  lua_pushboolean(L, o->dry_run);
  lua_setfield(L, -2, "dry_run");
  if (o->timeout_s > 0) {
    lua_pushnumber(L, o->timeout_s);
    lua_setfield(L, -2, "timeout");
  }
  lua_pushnumber(L, o->waited_s);
  lua_setfield(L, -2, "waited");
  snprintf(name, sizeof name, "call of %s", o->name ? o->name : o->entry);
  call->task =
      mp_task_start(call->gen->set->host->sched, L, 3, name, &mp_task_of_host, on_done, call);
  /* Limits for the work before and after the transaction: reading, checking and writing JSON. */
  if (!o->entry) mp_task_limit_apart(call->task, &call->gen->host.shared->limits);
  return 0;
}

static int start_here(struct mp_invocation *call, const struct mp_invoke_options *options,
                      struct mp_err *err) {
  lua_State *L = mp_vm_lua(call->gen->vm);
  struct start start = {call, options};
  lua_pushcfunction(L, start_p);
  lua_pushlightuserdata(L, &start);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return 0;
  lua_pop(L, 1);
  return mp_err_set(err, MP_ENOMEM, "no memory for a call of %.60s", options->name);
}

/* ---- other workers ---- */

/* On the worker's thread: its answer goes home. */
static void on_errand_done(void *data, const struct mp_invoke_answer *answer) {
  mp_errand_answer(data, answer);
}

static void errand_begin(struct mp_errand *errand) {
  struct mp_invocation *call = NULL;
  struct mp_err err;
  int rv = mp_invoke(&call, mp_errand_generations(errand), mp_errand_options(errand),
                     on_errand_done, errand, &err);
  if (!rv) {
    *mp_errand_work(errand) = call;
    return;
  }
  /* No text: the front makes one of the status. */
  mp_errand_answer(errand, &(struct mp_invoke_answer){.status = mp_err_status(&err)});
}

static void errand_recall(struct mp_errand *errand) {
  struct mp_invocation *call = *mp_errand_work(errand);
  if (call) mp_invoke_cancel(call);
}

static void errand_back(struct mp_errand *errand, const struct mp_invoke_answer *given) {
  struct mp_invocation *call = mp_errand_data(errand);
  struct mp_invoke_answer what = *given;
  if (given->moved)
    send_on(call, given->owner);
  else if (!given->text || !given->len)
    answer_plainly(call, given->status == 503 ? mp_code_name(MP_ECLOSED) : "HOST_OUT_OF_MEMORY",
                   "a worker of the host could not take the call");
  else
    answer(call, &what);
}

static const struct mp_errand_events errand_events = {errand_begin, errand_recall, errand_back};

/* Begins the call at its worker, which may be this one. */
static int begin_at_worker(struct mp_invocation *call, struct mp_err *err) {
  if (call->worker) {
    mp_errand_go(call->errand, call->worker);
    return 0;
  }
  mp_crew_take(call->gen->set->options.crew, 0);
  return start_here(call, mp_errand_options(call->errand), err);
}

/* The call was not begun here, because its lane belongs to another worker. */
static void send_on(struct mp_invocation *call, unsigned owner) {
  struct mp_err err;
  if (!call->errand) { /* this is a worker: the front sends the call on */
    struct mp_invoke_answer what = {.moved = true, .owner = owner};
    answer(call, &what);
    return;
  }
  if (!call->worker) mp_crew_done(call->gen->set->options.crew, 0);
  call->worker = owner;
  mp_errand_options(call->errand)->settled = true;
  if (begin_at_worker(call, &err)) answer_plainly(call, "HOST_OUT_OF_MEMORY", err.msg);
}

/* The front's calls go to the worker that has the least to do. */
static int begin(struct mp_invocation *call, const struct mp_invoke_options *options,
                 struct mp_err *err) {
  const struct mp_generations_options *set = &call->gen->set->options;
  bool here = !set->crew || set->worker || (options->entry && !options->worker);
  if (here) return start_here(call, options, err);
  int rv = mp_errand_new(&call->errand, set->crew, options, &errand_events, call, err);
  if (rv) return rv;
  call->worker = options->worker ? options->worker : mp_crew_choose(set->crew);
  return begin_at_worker(call, err);
}

/* ---- from outside ---- */

int mp_invoke(struct mp_invocation **out, struct mp_generations *set,
              const struct mp_invoke_options *options, mp_invoke_cb on_answer, void *data,
              struct mp_err *err) {
  struct mp_generation *gen = set->current;
  if (set->stopping)
    return mp_err_set(err, MP_ECLOSED, "the host is shutting down and takes no new calls");
  if (!gen) return mp_err_set(err, MP_ECLOSED, "the host has not loaded its operations yet");
  if (mp_memory_short(mp_vm_lua(gen->vm))) {
    int rv = mp_err_set(err, MP_ENOMEM, "the host has no memory for further calls");
    strcpy(err->name, "HOST_OUT_OF_MEMORY");
    return rv;
  }
  struct mp_invocation *call = calloc(1, sizeof *call);
  if (!call) return mp_err_set(err, MP_ENOMEM, "no memory for a call");
  *call =
      (struct mp_invocation){.gen = gen, .far = options->far, .on_answer = on_answer, .data = data};
  gen->fail_calls = fail_calls;
  mp_list_push_back(&gen->calls, &call->node);
  gen->call_count++;
  int rv = begin(call, options, err);
  if (rv) {
    struct mp_errand *errand = call->errand;
    leave(call);
    if (errand) mp_errand_free(errand);
    return rv;
  }
  *out = call;
  return 0;
}

void mp_invoke_new_id(struct mp_generations *set, char id[37]) { mp_uuid_new(set->host->loop, id); }

void mp_invoke_cancel(struct mp_invocation *call) {
  struct mp_errand *errand = call->errand;
  struct mp_task *task = call->task;
  leave(call);
  if (task) mp_task_kill(task);
  if (errand && task)
    mp_errand_free(errand);
  else if (errand)
    mp_errand_cancel(errand);
}
