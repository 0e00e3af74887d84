/* api.c: the life of a runtime as include/moonpool.h tells it: opened, run, closed. */
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/api_priv.h"
#include "app/judge.h"
#include "app/settings_file.h"
#include "util/log.h"

/* ---- versions and errors ---- */

const char *moonpool_version(void) { return MOONPOOL_VERSION; }
int moonpool_api_version(void) { return MOONPOOL_API_VERSION; }

#define SAME(code, public) _Static_assert((int)(public) == -(int)(code), #public)
SAME(MP_EINVAL, MOONPOOL_EINVAL);
SAME(MP_ENOMEM, MOONPOOL_ENOMEM);
SAME(MP_ENODB, MOONPOOL_ENODB);
SAME(MP_ECONN, MOONPOOL_ECONN);
SAME(MP_ESQL, MOONPOOL_ESQL);
SAME(MP_ETIMEOUT, MOONPOOL_ETIMEDOUT);
SAME(MP_EBUSY, MOONPOOL_EBUSY);
SAME(MP_ECLOSED, MOONPOOL_ECLOSED);
SAME(MP_ECANCELED, MOONPOOL_ECANCELED);
SAME(MP_EUNKNOWN, MOONPOOL_EUNKNOWN);
SAME(MP_ESCRIPT, MOONPOOL_ESCRIPT);
SAME(MP_ESCRIPT_TIMEOUT, MOONPOOL_ECPU);
SAME(MP_EIO, MOONPOOL_EIO);
SAME(MP_EINTERNAL, MOONPOOL_EINTERNAL);
#undef SAME

const char *moonpool_code_name(int code) {
  static const char *const names[] = {
      "MOONPOOL_OK",      "MOONPOOL_EINVAL",    "MOONPOOL_ENOMEM",    "MOONPOOL_ENODB",
      "MOONPOOL_ECONN",   "MOONPOOL_ESQL",      "MOONPOOL_ETIMEDOUT", "MOONPOOL_EBUSY",
      "MOONPOOL_ECLOSED", "MOONPOOL_ECANCELED", "MOONPOOL_EUNKNOWN",  "MOONPOOL_ESCRIPT",
      "MOONPOOL_ECPU",    "MOONPOOL_EIO",       "MOONPOOL_EINTERNAL"};
  _Static_assert(MP_ARRAY_LEN(names) == MP_EINTERNAL + 1, "a name for each code");
  return code > 0 || code < MOONPOOL_EINTERNAL ? names[MP_EINTERNAL] : names[-code];
}

int mp_api_fail(struct moonpool_error *error, const struct mp_err *err) {
  if (error) {
    *error = (struct moonpool_error){.code = -(int)err->code, .status = mp_err_status(err)};
    mp_copy_text(error->name, sizeof error->name, mp_err_name(err));
    mp_copy_text(error->message, sizeof error->message, err->msg);
  }
  return -(int)err->code;
}

int mp_api_fail_with(struct moonpool_error *error, enum mp_code code, const char *fmt, ...) {
  struct mp_err err;
  char text[sizeof err.msg];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  mp_err_set(&err, code, "%s", text);
  return mp_api_fail(error, &err);
}

int mp_api_take(void *to, size_t size, const void *from, const char *what, struct mp_err *err) {
  size_t given;
  memcpy(&given, from, sizeof given);
  if (given < sizeof given)
    return mp_err_set(err, MP_EINVAL, "struct %s has no size: call %s_init first", what, what);
  for (size_t at = size; at < given; at++)
    if (((const char *)from)[at])
      return mp_err_set(err, MP_EINVAL,
                        "struct %s has a field that moonpool " MOONPOOL_VERSION
                        " does not know: the program was compiled for a newer one",
                        what);
  memset(to, 0, size);
  memcpy(to, from, given < size ? given : size);
  return 0;
}

/* ---- log ---- */

static struct {
  moonpool_log_cb log;
  void *data;
} log_to;

static void pass_log(enum mp_log_level level, const char *topic, const char *text,
                     const struct mp_log_about *about, void *data) {
  (void)data;
  log_to.log((enum moonpool_log_level)level, topic, text, about ? about->operation : NULL,
             about ? about->call_id : NULL, log_to.data);
}

void moonpool_log_to(moonpool_log_cb log, enum moonpool_log_level level, void *data) {
  log_to.log = log;
  log_to.data = data;
  mp_log_set_level((enum mp_log_level)level);
  mp_log_set_sink(log ? pass_log : NULL, NULL);
}

/* ---- who may call ---- */

int mp_api_enter(struct moonpool *mp, struct moonpool_error *error) {
  if (mp->pid != getpid())
    return mp_api_fail_with(error, MP_ECLOSED,
                            "this runtime belongs to process %ld, which this one was forked from; "
                            "open another one here",
                            (long)mp->pid);
  if (mp->state == MP_API_CLOSING)
    return mp_api_fail_with(error, MP_ECLOSED, "this runtime is closing");
  return 0;
}

static int may_wait(struct moonpool *mp, struct moonpool_error *error) {
  if (!mp->own)
    return mp_api_fail_with(error, MP_EINVAL,
                            "a runtime on the caller's loop is not run by blocking functions");
  if (mp->callbacks)
    return mp_api_fail_with(error, MP_EINVAL, "a callback must not call a blocking function");
  return 0;
}

int mp_api_enter_waiting(struct moonpool *mp, struct moonpool_error *error) {
  int rv = mp_api_enter(mp, error);
  return rv ? rv : may_wait(mp, error);
}

/* ---- close ---- */

static void free_own_loop(uv_loop_t *own) {
  if (!own) return;
  while (uv_loop_close(own) == UV_EBUSY) uv_run(own, UV_RUN_ONCE);
  free(own);
}

/* The last of all. */
static void finish(struct moonpool *mp) {
  moonpool_closed_cb on_closed = mp->on_closed;
  void *data = mp->closed_data;
  free_own_loop(mp->own);
  mp_api_forget_kept(&mp->kept);
  mp_buf_fini(&mp->metrics);
  mp_buf_fini(&mp->fault);
  free(mp);
  if (on_closed) on_closed(data);
}

/* An own loop cannot be freed from inside of itself: whoever runs it finishes. */
static void on_alive_closed(uv_handle_t *handle) {
  struct moonpool *mp = handle->data;
  mp->closed = true;
  if (!mp->own) finish(mp);
}

static void on_runtime_closed(void *data) {
  struct moonpool *mp = data;
  mp->rt = NULL;
  mp_api_mail_close(mp->mail);
  mp->mail = NULL;
  uv_close((uv_handle_t *)&mp->alive, on_alive_closed);
}

static void close_now(struct moonpool *mp) {
  mp_api_end_calls(mp);
  mp_api_end_waits(mp);
  mp_runtime_close_start(mp->rt, on_runtime_closed, mp);
}

static void at_end(void *data) {
  struct moonpool *mp = data;
  if (mp->cancels) mp_api_end_canceled(mp);
  if (mp->state == MP_API_DRAINING) mp_api_look_at_drain(mp);
  if (mp->state == MP_API_CLOSING) close_now(mp);
}

int moonpool_close(struct moonpool *mp, moonpool_closed_cb on_closed, void *data) {
  int rv = mp ? mp_api_enter(mp, NULL) : 0;
  if (rv || !mp) return rv;
  mp->state = MP_API_CLOSING;
  mp->on_closed = on_closed;
  mp->closed_data = data;
  uv_async_send(&mp->alive);
  return 0;
}

int moonpool_close_wait(struct moonpool *mp) {
  int rv = mp ? mp_api_enter_waiting(mp, NULL) : 0;
  if (rv || !mp) return rv;
  (void)moonpool_close(mp, NULL, NULL);
  while (moonpool_run_once(mp, 1) > 0) {}
  return 0;
}

int moonpool_run_once(struct moonpool *mp, int wait) {
  int rv = mp_api_enter(mp, NULL);
  if (rv && mp->pid != getpid()) return rv;
  rv = may_wait(mp, NULL);
  if (rv) return rv;
  uv_run(mp->own, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
  if (!mp->closed) return 1;
  finish(mp);
  return 0;
}

void mp_api_run_until(struct moonpool *mp, const bool *done) {
  while (!*done && !mp->closed) uv_run(mp->own, UV_RUN_ONCE);
}

/* ---- open ---- */

static int make_own_loop(struct moonpool *mp, struct mp_err *err) {
  uv_loop_t *own = calloc(1, sizeof *own);
  if (!own) return mp_err_set(err, MP_ENOMEM, "no memory for an event loop");
  int rv = uv_loop_init(own);
  if (rv) {
    free(own);
    return mp_err_set(err, rv == UV_ENOMEM ? MP_ENOMEM : MP_EIO, "cannot make an event loop: %s",
                      uv_strerror(rv));
  }
  mp->uv = mp->own = own;
  return 0;
}

static void on_alive(uv_async_t *handle) {
  const struct moonpool *mp = handle->data;
  if (mp->mail) mp_api_mail_open(mp->mail);
}

static int open_alive(struct moonpool *mp, struct mp_err *err) {
  int rv = uv_async_init(mp->uv, &mp->alive, on_alive);
  if (rv)
    return mp_err_set(err, rv == UV_ENOMEM ? MP_ENOMEM : MP_EIO, "no handle on the loop: %s",
                      uv_strerror(rv));
  mp->alive.data = mp;
  return 0;
}

static int open_runtime(struct moonpool *mp, const struct moonpool_options *options,
                        struct mp_err *err) {
  mp->modules = options->modules;
  mp->mail = mp_api_mail_new(&mp->alive);
  if (!mp->mail) return mp_err_set(err, MP_ENOMEM, "no memory for a runtime");
  const struct mp_settings_file no_file = {0};
  struct mp_config config = {0};
  struct mp_runtime_options runtime = {.config = &config,
                                       .app_dir = options->app_dir,
                                       .database_url = options->database_url,
                                       .open_vm = mp_api_open_vm,
                                       .open_vm_data = mp,
                                       .uv = mp->uv};
  int rv = mp_api_check_modules(mp->modules, err);
  if (!rv) rv = mp_config_read_list(&config, options->settings, &no_file, err);
  if (!rv) rv = mp_judge_database("database_url", options->database_url, err);
  if (!rv) rv = mp_runtime_open(&mp->rt, &runtime, err);
  mp_config_fini(&config);
  if (rv) return rv;
  mp_loop_at_end(mp->rt->loop, at_end, mp);
  return mp_api_load(mp, err);
}

/* What a failed open has made; the caller's loop closes its handles. */
static void abandon(struct moonpool *mp) {
  mp->state = MP_API_CLOSING;
  if (mp->rt)
    close_now(mp);
  else
    on_runtime_closed(mp);
  if (!mp->own) return;
  mp_api_run_until(mp, &mp->closed);
  finish(mp);
}

int moonpool_open(struct moonpool **out, const struct moonpool_options *given,
                  struct moonpool_error *error) {
  struct moonpool_options options = {0};
  struct mp_err err;
  if (mp_api_take(&options, sizeof options, given, "moonpool_options", &err))
    return mp_api_fail(error, &err);
  if (!options.app_dir || !options.database_url)
    return mp_api_fail_with(error, MP_EINVAL, "moonpool_open needs app_dir and database_url");
  if (sodium_init() < 0)
    return mp_api_fail_with(error, MP_EIO, "the system provides no random numbers");
  struct moonpool *mp = calloc(1, sizeof *mp);
  if (!mp) return mp_api_fail_with(error, MP_ENOMEM, "no memory for a runtime");
  mp_list_init(&mp->calls);
  mp_list_init(&mp->reloads);
  mp_list_init(&mp->drains);
  mp->pid = getpid();
  mp->uv = options.loop;
  mp->on_ready = options.on_ready;
  mp->ready_data = options.data;
  if ((!mp->uv && make_own_loop(mp, &err)) || open_alive(mp, &err)) {
    finish(mp);
    return mp_api_fail(error, &err);
  }
  if (open_runtime(mp, &options, &err)) {
    abandon(mp);
    return mp_api_fail(error, &err);
  }
  *out = mp;
  return 0;
}

const char *moonpool_metrics(struct moonpool *mp, size_t *len) {
  if (mp_api_enter(mp, NULL)) return NULL;
  mp_buf_clear(&mp->metrics);
  mp->metrics.failed = false;
  mp_meters_refresh(mp->rt->meters, &mp->rt->host);
  mp_metrics_text(mp->rt->metrics, &mp->metrics);
  if (mp->metrics.failed) return NULL;
  if (len) *len = mp->metrics.len;
  return mp_buf_text(&mp->metrics);
}
