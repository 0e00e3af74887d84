/* api_call.c: calls of operations from C: held, begun, canceled, answered. */
#include <stdlib.h>
#include <string.h>

#include "app/api_priv.h"

/* ---- the answer ---- */

static void add_text(struct mp_buf *out, const char *text) {
  mp_buf_addc(out, '"');
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c < ' ' || c == '"' || c == '\\')
      mp_buf_addf(out, "\\u%04x", c);
    else
      mp_buf_addc(out, (char)c);
  }
  mp_buf_addc(out, '"');
}

static void forget(struct mp_api_call *call) {
  mp_list_remove(&call->node);
  call->mp->call_count--;
  free(call->operation);
  free(call->input);
  free(call->tenant);
  free(call->user);
  free(call->key);
  MP_FREE_LISTED(call);
}

static void tell(struct mp_api_call *call, struct moonpool_answer *answer) {
  struct moonpool *mp = call->mp;
  moonpool_answer_cb on_answer = call->on_answer;
  void *data = call->data;
  char call_id[sizeof call->call_id];
  memcpy(call_id, call->call_id, sizeof call_id);
  answer->call_id = call_id;
  forget(call);
  if (on_answer) {
    mp->callbacks++;
    on_answer(mp, answer, data);
    mp->callbacks--;
  }
  answer->call_id = "";
}

/* A failure that no operation has answered. */
static void fail(struct mp_api_call *call, const struct mp_err *err) {
  struct mp_buf json;
  mp_buf_init(&json, 0);
  mp_buf_adds(&json, "{\"code\":");
  add_text(&json, mp_err_name(err));
  mp_buf_adds(&json, ",\"message\":");
  add_text(&json, err->msg);
  mp_buf_addf(&json, ",\"status\":%d,\"call_id\":\"%s\"}", mp_err_status(err), call->call_id);
  struct moonpool_answer answer = {.json = json.failed ? "{}" : mp_buf_text(&json),
                                   .status = mp_err_status(err),
                                   .code = mp_err_name(err),
                                   .message = err->msg};
  answer.json_len = strlen(answer.json);
  tell(call, &answer);
  mp_buf_fini(&json);
}

static void on_invoked(void *data, const struct mp_invoke_answer *given) {
  struct mp_api_call *call = data;
  struct moonpool_answer answer = {.ok = given->ok,
                                   .json = given->text,
                                   .json_len = given->len,
                                   .status = given->status,
                                   .code = given->code ? given->code : "",
                                   .message = given->message ? given->message : "",
                                   .detail = given->detail,
                                   .generation = given->generation};
  call->mp->ended += call->mp->rt->killed;
  tell(call, &answer);
}

/* ---- beginning ---- */

static int begin(struct mp_api_call *call, const struct mp_invoke_options *given,
                 struct mp_err *err) {
  struct moonpool *mp = call->mp;
  struct mp_invoke_options options = *given;
  const struct mp_log_about about = {.call_id = call->call_id};
  options.about = &about;
  if (!mp_generations_current(mp->rt->generations) && !mp->rt->stopping)
    return mp_err_set(err, MP_ESCRIPT, "scripts/ is not loaded: %s", mp_buf_text(&mp->fault));
  int rv = mp_invoke(&call->invocation, mp->rt->generations, &options, on_invoked, call, err);
  if (!rv) call->state = MP_API_RUNNING;
  return rv;
}

static bool copy(char **to, const char *text, size_t len) {
  if (!text) return true;
  *to = malloc(len + 1);
  if (!*to) return false;
  memcpy(*to, text, len);
  (*to)[len] = '\0';
  return true;
}

static bool copy_text(char **to, const char *text) {
  return copy(to, text, text ? strlen(text) : 0);
}

static int hold(struct mp_api_call *call, const struct mp_invoke_options *options,
                struct mp_err *err) {
  struct moonpool *mp = call->mp;
  if (mp->call_count > mp->rt->config.queue_limit)
    return mp_err_set(err, MP_EBUSY,
                      "%llu calls wait for scripts/ to be loaded (MOONPOOL_QUEUE_LIMIT)",
                      (unsigned long long)mp->rt->config.queue_limit);
  call->input_len = options->input_len;
  call->timeout_s = options->timeout_s;
  call->made_ms = mp_loop_now_ms(mp->rt->loop);
  if (copy_text(&call->operation, options->name) &&
      copy(&call->input, options->input, options->input_len) &&
      copy_text(&call->tenant, options->tenant) && copy_text(&call->user, options->user) &&
      copy_text(&call->key, options->key))
    return 0;
  return mp_err_set(err, MP_ENOMEM, "no memory for a call of %.60s", options->name);
}

static void begin_held(struct mp_api_call *call) {
  struct mp_err err;
  uint64_t waited_ms = mp_loop_now_ms(call->mp->rt->loop) - call->made_ms;
  struct mp_invoke_options options = {.name = call->operation,
                                      .input = call->input,
                                      .input_len = call->input_len,
                                      .tenant = call->tenant,
                                      .user = call->user,
                                      .key = call->key,
                                      .timeout_s = call->timeout_s,
                                      .waited_s = (double)waited_ms / 1000};
  if (begin(call, &options, &err)) fail(call, &err);
}

/* The first in the given state; the oldest of them. A callback may add or end others. */
static struct mp_api_call *first_of(struct moonpool *mp, enum mp_api_call_state state) {
  MP_LIST_EACH(node, &mp->calls) {
    struct mp_api_call *call = MP_LIST_ENTRY(node, struct mp_api_call, node);
    if (call->state == state) return call;
  }
  return NULL;
}

void mp_api_start_held(struct moonpool *mp) {
  struct mp_api_call *call;
  while ((call = first_of(mp, MP_API_HELD))) begin_held(call);
}

static void end_call(struct mp_api_call *call) {
  struct mp_err err;
  mp_err_set(
      &err, MP_ECANCELED, "%s",
      call->state == MP_API_CANCELED ? "the caller canceled the call" : "the runtime is closing");
  if (call->invocation) mp_invoke_cancel(call->invocation);
  fail(call, &err);
}

void mp_api_end_canceled(struct moonpool *mp) {
  struct mp_api_call *call;
  mp->cancels = false;
  while ((call = first_of(mp, MP_API_CANCELED))) end_call(call);
}

void mp_api_end_calls(struct moonpool *mp) {
  while (!mp_list_empty(&mp->calls))
    end_call(MP_LIST_ENTRY(mp->calls.next, struct mp_api_call, node));
}

/* ---- the public functions ---- */

static int take_request(struct moonpool_request *request, const struct moonpool_request *given,
                        struct moonpool_error *error) {
  struct mp_err err;
  if (mp_api_take(request, sizeof *request, given, "moonpool_request", &err))
    return mp_api_fail(error, &err);
  if (!request->operation || !*request->operation)
    return mp_api_fail_with(error, MP_EINVAL, "the request names no operation");
  if (request->key && (!*request->key || strlen(request->key) > 255))
    return mp_api_fail_with(error, MP_EINVAL, "an idempotency key has 1 to 255 bytes");
  if (request->input && !request->input_len) request->input_len = strlen(request->input);
  return 0;
}

static int add_call(struct moonpool *mp, const struct moonpool_request *request,
                    struct mp_api_call *call, struct mp_err *err) {
  const struct mp_invoke_options options = {.name = request->operation,
                                            .input = request->input,
                                            .input_len = request->input_len,
                                            .tenant = request->tenant,
                                            .user = request->user,
                                            .key = request->key,
                                            .timeout_s = (double)request->timeout_ms / 1000};
  call->id = ++mp->last_id;
  mp_invoke_new_id(mp->rt->generations, call->call_id);
  mp_list_push_back(&mp->calls, &call->node);
  mp->call_count++;
  int rv = mp->ready ? begin(call, &options, err) : hold(call, &options, err);
  if (rv) forget(call);
  return rv;
}

int moonpool_call(struct moonpool *mp, const struct moonpool_request *given,
                  moonpool_answer_cb on_answer, void *data, uint64_t *id,
                  struct moonpool_error *error) {
  struct moonpool_request request;
  struct mp_err err;
  int rv = mp_api_enter(mp, error);
  if (!rv && mp->state == MP_API_DRAINING)
    rv = mp_api_fail_with(error, MP_ECLOSED, "this runtime drains and takes no further calls");
  if (!rv) rv = take_request(&request, given, error);
  if (rv) return rv;
  struct mp_api_call *call = calloc(1, sizeof *call);
  if (!call) return mp_api_fail_with(error, MP_ENOMEM, "no memory for a call");
  *call = (struct mp_api_call){.mp = mp, .on_answer = on_answer, .data = data};
  uint64_t number = mp->last_id + 1;
  if (add_call(mp, &request, call, &err)) return mp_api_fail(error, &err);
  if (id) *id = number;
  return 0;
}

static struct mp_api_call *find(struct moonpool *mp, uint64_t id) {
  MP_LIST_EACH(node, &mp->calls) {
    struct mp_api_call *call = MP_LIST_ENTRY(node, struct mp_api_call, node);
    if (call->id == id) return call;
  }
  return NULL;
}

int moonpool_cancel(struct moonpool *mp, uint64_t id) {
  int rv = mp_api_enter(mp, NULL);
  if (rv) return rv;
  struct mp_api_call *call = find(mp, id);
  if (!call || call->state == MP_API_CANCELED) return MOONPOOL_EINVAL;
  call->state = MP_API_CANCELED;
  mp->cancels = true;
  uv_async_send(&mp->alive);
  return 0;
}

/* ---- waiting ---- */

void mp_api_forget_kept(struct mp_api_kept *kept) {
  mp_buf_fini(&kept->text);
  mp_buf_fini(&kept->code);
  mp_buf_fini(&kept->message);
  mp_buf_fini(&kept->detail);
  *kept = (struct mp_api_kept){0};
}

struct call_waiting {
  struct mp_api_kept *kept;
  bool done;
};

static void keep(struct moonpool *mp, const struct moonpool_answer *given, void *data) {
  struct call_waiting *waiting = data;
  struct mp_api_kept *kept = waiting->kept;
  (void)mp;
  waiting->done = true;
  kept->answer = *given;
  mp_buf_add(&kept->text, given->json, given->json_len);
  mp_buf_adds(&kept->code, given->code);
  mp_buf_adds(&kept->message, given->message);
  if (given->detail) mp_buf_adds(&kept->detail, given->detail);
  memcpy(kept->call_id, given->call_id, sizeof kept->call_id);
  kept->answer.json = mp_buf_text(&kept->text);
  kept->answer.code = mp_buf_text(&kept->code);
  kept->answer.message = mp_buf_text(&kept->message);
  kept->answer.detail = given->detail ? mp_buf_text(&kept->detail) : NULL;
  kept->answer.call_id = kept->call_id;
}

int moonpool_call_wait(struct moonpool *mp, const struct moonpool_request *request,
                       const struct moonpool_answer **answer, struct moonpool_error *error) {
  struct call_waiting waiting = {.kept = &mp->kept};
  int rv = mp_api_enter_waiting(mp, error);
  if (rv) return rv;
  mp_api_forget_kept(&mp->kept);
  rv = moonpool_call(mp, request, keep, &waiting, NULL, error);
  if (rv) return rv;
  mp_api_run_until(mp, &waiting.done);
  if (mp->kept.text.failed || mp->kept.message.failed || mp->kept.code.failed)
    return mp_api_fail_with(error, MP_ENOMEM, "no memory for the answer of a call that is done: %s",
                            mp->kept.answer.ok ? "it is committed" : "it failed");
  *answer = &mp->kept.answer;
  return 0;
}
