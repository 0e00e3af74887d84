/* reload.c: a reload: reads scripts/ twice, opens a Lua state, loads it, makes it current.
 *
 *   NONE --> READING --> SETTLING --> READING ... --> LOADING --> [AGREEING] --> NONE
 * The files are read on the thread pool. They are loaded when two readings in a row gave the same
 * bytes. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "ops/generation_priv.h"
#include "script/luaerr.h"
#include "util/log.h"

enum { MAX_READINGS = 100 };

static void count_reload(struct mp_generations *set, bool ok) {
  struct mp_series *result = ok ? set->meters.loaded : set->meters.refused;
  if (result) mp_series_add(result, 1);
  if (!ok || !set->current || !set->meters.number || !set->meters.opened) return;
  mp_series_set(set->meters.number, set->current->number);
  mp_series_set(set->meters.opened, (double)set->current->opened_us / 1e6);
}

static void start(struct mp_generations *set);

/* ---- the end of an attempt ---- */

static void log_lines(const char *text) {
  while (*text) {
    int len = (int)strcspn(text, "\n");
    if (len) mp_log(MP_LOG_ERROR, "host", "  %.*s", len, text);
    text += len;
    text += *text == '\n';
  }
}

void mp_reload_clear(struct mp_generations *set) {
  mp_timer_stop(&set->reload.timer);
  mp_files_unref(set->reload.read);
  set->reload.read = NULL;
  set->reload.loading = NULL;
  set->reload.stage = MP_RELOAD_NONE;
}

static void finish(struct mp_generations *set, const struct mp_reload_report *report) {
  struct mp_list told;
  mp_reload_clear(set);
  if (!report->ok || report->text[0]) count_reload(set, report->ok);
  if (!report->ok) {
    if (report->number)
      mp_log(MP_LOG_ERROR, "host", "reload failed, generation %u stays:", report->number);
    else
      mp_log(MP_LOG_ERROR, "host", "scripts/ cannot be loaded:");
    log_lines(report->text);
  } else if (report->text[0]) {
    mp_log(MP_LOG_INFO, "host", "%s", report->text);
  }
  mp_list_init(&told);
  struct mp_list *node;
  while ((node = mp_list_pop_front(&set->reload.told))) mp_list_push_back(&told, node);
  if (set->reload.again && !set->stopping) start(set);
  while ((node = mp_list_pop_front(&told))) {
    struct mp_reload *reload = MP_LIST_ENTRY(node, struct mp_reload, node);
    reload->on_done(reload, report);
  }
}

static struct mp_reload_report report_now(struct mp_generations *set, bool ok, const char *text) {
  return (struct mp_reload_report){
      .ok = ok,
      .number = (set->current ? set->current->number : 0),
      .files = set->reload.read ? mp_files_count(set->reload.read) : 0,
      .took_us = (mp_loop_clock_ns(set->host->loop) - set->reload.began_ns) / 1000,
      .text = text};
}

void mp_reload_fail(struct mp_generations *set, const char *text) {
  struct mp_reload_report report = report_now(set, false, text);
  struct mp_generation *gen = set->reload.loading;
  set->reload.loading = NULL;
  if (set->options.worker) { /* the front tells everybody */
    mp_agree_refused(set, text);
    mp_reload_clear(set);
  } else {
    mp_agree_stop(set);
    finish(set, &report);
  }
  if (!gen) return;
  set->last_number--; /* only generations that were current keep a number */
  mp_generation_close(gen, "it does not load");
}

/* ---- loading ---- */

void mp_reload_succeed(struct mp_generations *set) {
  struct mp_generation *gen = set->reload.loading;
  struct mp_generation *old = set->current;
  struct mp_reload_report report = report_now(set, true, "");
  struct mp_buf names, text;
  mp_buf_init(&names, 0);
  mp_buf_init(&text, 0);
  report.changed = mp_files_compare(old ? old->files : NULL, gen->files, &names);
  report.number = gen->number;
  mp_buf_addf(&text, "generation %u: %zu files, ", gen->number, report.files);
  if (!old)
    mp_buf_adds(&text, "the first");
  else if (report.changed)
    mp_buf_addf(&text, "changed: %s", mp_buf_text(&names));
  else
    mp_buf_adds(&text, "none changed");
  mp_buf_addf(&text, ", %.0f ms", (double)report.took_us / 1000);
  report.text = mp_buf_text(&text);
  mp_generation_install(gen);
  finish(set, &report);
  mp_buf_fini(&names);
  mp_buf_fini(&text);
}

/* "scripts/a.lua:12: ...": of the error object on top. */
static void tell_failure(const struct mp_generation *gen, lua_State *L, char *text, size_t size) {
  const struct mp_task_limits *limits = &gen->host.shared->loading;
  struct mp_err err;
  mp_luaerr_get(L, -1, &err);
  const char *line = NULL;
  if (lua_istable(L, -1) && lua_getfield(L, -1, "line") == LUA_TSTRING) line = lua_tostring(L, -1);
  if (err.code == MP_ETIMEOUT || err.code == MP_ESCRIPT_TIMEOUT)
    mp_err_set(&err, err.code, "loading took longer than %llu ms (MOONPOOL_LOAD_TIMEOUT)",
               (unsigned long long)limits->cpu_ms);
  if (err.code == MP_ENOMEM)
    mp_err_set(&err, err.code, "loading needed more than %zu MB of memory (MOONPOOL_TASK_MEMORY)",
               limits->memory >> 20);
  snprintf(text, size, "%s: %s", line ? line : "scripts/", err.msg);
}

/* moonpool.operation.server.open: the function that serves calls and the number of operations, or
 * nil and the faults. */
static void on_loaded(struct mp_task *task, lua_State *L, bool ok, void *data) {
  struct mp_generation *gen = data;
  struct mp_generations *set = gen->set;
  (void)task;
  if (set->reload.loading != gen) return; /* too late */
  if (ok && lua_isfunction(L, 1)) {
    gen->operations = (size_t)lua_tointeger(L, 2);
    lua_settop(L, 1);
    gen->entry_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    if (set->options.crew)
      mp_agree_loaded(set);
    else
      mp_reload_succeed(set);
    return;
  }
  if (lua_isstring(L, -1)) {
    mp_reload_fail(set, lua_tostring(L, -1));
    return;
  }
  char text[800];
  tell_failure(gen, L, text, sizeof text);
  mp_reload_fail(set, text);
}

static int start_loading(lua_State *L) {
  struct mp_generation *gen = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonpool.operation.server");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "open");
  struct mp_task *task =
      mp_task_start(gen->set->host->sched, L, 0, "scripts/", &mp_task_of_host, on_loaded, gen);
  /* Limits: a file that spins, waits or fills the memory is ended, and the error names its line. */
  mp_task_limit(task, &gen->host.shared->loading);
  return 0;
}

static void load(struct mp_generations *set) {
  struct mp_err err;
  set->reload.stage = MP_RELOAD_LOADING;
  if (mp_generation_open(&set->reload.loading, set, set->reload.read, &err)) {
    mp_reload_fail(set, err.msg);
    return;
  }
  struct mp_generation *gen = set->reload.loading;
  lua_State *L = mp_vm_lua(gen->vm);
  lua_pushcfunction(L, start_loading);
  lua_pushlightuserdata(L, gen);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return;
  mp_luaerr_get(L, -1, &err);
  lua_pop(L, 1);
  mp_reload_fail(set, err.msg);
}

void mp_reload_load(struct mp_generations *set, struct mp_files *files, unsigned number) {
  set->reload.began_ns = mp_loop_clock_ns(set->host->loop);
  set->reload.read = mp_files_ref(files);
  set->last_number = number - 1;
  load(set);
}

/* ---- reading ---- */

struct scripts_reading {
  struct mp_generations *set;
  char *app_dir;
  bool look; /* the watch's check: only compares */
  int rv;
  struct mp_files *files;
  uint64_t stamp;
  struct mp_err err;
};

static void read_now(void *data) {
  struct scripts_reading *reading = data;
  reading->rv = reading->look ? mp_files_stamp(reading->app_dir, &reading->stamp, &reading->err)
                              : mp_files_read(&reading->files, reading->app_dir, &reading->err);
}

static void looked(struct mp_generations *set, const struct scripts_reading *reading);

static void take_reading(struct mp_generations *set, struct mp_files *files) {
  struct mp_files *before = set->reload.read;
  bool same = before && !mp_files_compare(before, files, NULL);
  set->reload.read = files;
  mp_files_unref(before);
  set->watch.stamp = mp_files_stamp_of(files);
  if (!same) {
    if (++set->reload.readings > MAX_READINGS) {
      mp_reload_fail(set,
                     "files in scripts/ keep changing; reload again when all of them are written");
      return;
    }
    set->reload.stage = MP_RELOAD_SETTLING;
    mp_timer_start(&set->reload.timer, set->options.settle_ms);
    return;
  }
  if (set->reload.quiet && set->current && !mp_files_compare(set->current->files, files, NULL)) {
    struct mp_reload_report report = report_now(set, true, "");
    finish(set, &report);
    return;
  }
  load(set);
}

static void on_read(void *data) {
  struct scripts_reading *reading = data;
  struct mp_generations *set = reading->set;
  set->working = false;
  if (reading->look) {
    looked(set, reading);
  } else if (set->stopping) {
    mp_files_unref(reading->files);
    mp_reload_fail(set, "the host is stopping");
  } else if (reading->rv) {
    mp_reload_fail(set, reading->err.msg);
  } else {
    take_reading(set, reading->files);
  }
  free(reading->app_dir);
  free(reading);
}

static int read_aside(struct mp_generations *set, bool look, struct mp_err *err) {
  struct scripts_reading *reading = calloc(1, sizeof *reading);
  int rv = -MP_ENOMEM;
  if (reading) {
    *reading = (struct scripts_reading){.set = set, .look = look, .app_dir = strdup(set->app_dir)};
    if (reading->app_dir) rv = mp_loop_work(set->host->loop, read_now, on_read, reading, err);
  }
  if (!rv) {
    set->working = true;
    return 0;
  }
  if (!reading || !reading->app_dir) mp_err_set(err, MP_ENOMEM, "no memory to read scripts/");
  if (reading) free(reading->app_dir);
  free(reading);
  return rv;
}

static void read_files(struct mp_generations *set) {
  struct mp_err err;
  set->reload.stage = MP_RELOAD_READING;
  if (set->working) { /* the watch looks: then */
    set->reload.stage = MP_RELOAD_SETTLING;
    mp_timer_start(&set->reload.timer, 1);
    return;
  }
  if (read_aside(set, false, &err)) mp_reload_fail(set, err.msg);
}

static void on_timer(struct mp_timer *timer) {
  struct mp_generations *set = MP_CONTAINER_OF(timer, struct mp_generations, reload.timer);
  switch (set->reload.stage) {
    case MP_RELOAD_NONE:
    case MP_RELOAD_READING:
    case MP_RELOAD_LOADING:
    case MP_RELOAD_AGREEING: break;
    case MP_RELOAD_SETTLING: read_files(set); break;
  }
}

/* ---- from outside ---- */

/* The first reading starts on the next turn: no callback may come before this function returns. */
static void start(struct mp_generations *set) {
  struct mp_list *node;
  while ((node = mp_list_pop_front(&set->reload.next))) mp_list_push_back(&set->reload.told, node);
  set->reload.quiet = !set->reload.again_asked;
  set->reload.again = set->reload.again_asked = false;
  set->reload.began_ns = mp_loop_clock_ns(set->host->loop);
  set->reload.readings = 0;
  set->reload.stage = MP_RELOAD_SETTLING;
  mp_timer_start(&set->reload.timer, 0);
}

static void want(struct mp_generations *set, bool asked) {
  set->reload.again = true;
  set->reload.again_asked |= asked;
  if (set->reload.stage == MP_RELOAD_NONE) start(set);
}

int mp_generations_reload(struct mp_generations *set, struct mp_reload *reload,
                          struct mp_err *err) {
  if (set->stopping) return mp_err_set(err, MP_ECLOSED, "the host is stopping");
  if (reload) mp_list_push_back(&set->reload.next, &reload->node);
  want(set, true);
  return 0;
}

/* ---- the watch ---- */

static void look_later(struct mp_generations *set) {
  if (set->watch.interval_ms && !set->stopping)
    mp_timer_start(&set->watch.timer, set->watch.interval_ms);
}

static void on_watch(struct mp_timer *timer) {
  struct mp_generations *set = MP_CONTAINER_OF(timer, struct mp_generations, watch.timer);
  struct mp_err err;
  if (set->reload.stage == MP_RELOAD_NONE && !set->working && !read_aside(set, true, &err)) return;
  look_later(set);
}

static void looked(struct mp_generations *set, const struct scripts_reading *reading) {
  if (!reading->rv && reading->stamp != set->watch.stamp && set->reload.stage == MP_RELOAD_NONE &&
      !set->stopping) {
    set->watch.stamp = reading->stamp;
    want(set, false);
  }
  look_later(set);
}

void mp_generations_watch(struct mp_generations *set, uint64_t interval_ms) {
  set->watch.interval_ms = interval_ms;
  mp_timer_stop(&set->watch.timer);
  look_later(set);
}

void mp_reload_init(struct mp_generations *set) {
  mp_list_init(&set->reload.told);
  mp_list_init(&set->reload.next);
  mp_list_init(&set->reload.answers);
  mp_timer_init(&set->reload.timer, set->host->loop, on_timer);
  mp_timer_init(&set->watch.timer, set->host->loop, on_watch);
}

/* Callers that wait for a reload are told that none will come. A reading under way ends by itself.
 */
void mp_reload_stop(struct mp_generations *set) {
  struct mp_list *node;
  mp_timer_stop(&set->watch.timer);
  while ((node = mp_list_pop_front(&set->reload.next))) mp_list_push_back(&set->reload.told, node);
  set->reload.again = false;
  switch (set->reload.stage) {
    case MP_RELOAD_NONE:
    case MP_RELOAD_READING: break;
    case MP_RELOAD_SETTLING:
    case MP_RELOAD_LOADING:
    case MP_RELOAD_AGREEING: mp_reload_fail(set, "the host is stopping"); break;
  }
}
