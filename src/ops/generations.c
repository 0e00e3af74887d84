/* generations.c: all generations of one runtime: opened, counted, reported, ended. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "ops/generation_priv.h"
#include "sql/state.h"
#include "watch/metrics.h"

/* ---- metrics ---- */

static struct mp_metric *metric(struct mp_generations *set, const char *name,
                                enum mp_metric_kind kind, const char *label, const char *help) {
  struct mp_metric_options options = {
      .name = name,
      .help = help,
      .kind = kind,
      .merge = kind == MP_GAUGE ? MP_MERGE_MAX : MP_MERGE_SUM, /* all workers have the same */
      .labels = {label}};
  struct mp_metric *found = NULL;
  if (mp_metrics_add(set->host->shared->metrics, &options, &found, NULL)) return NULL;
  return found;
}

static struct mp_series *series(struct mp_metric *of, const char *label) {
  const char *values[] = {label};
  return of ? mp_metric_series(of, values) : NULL;
}

static void add_metrics(struct mp_generations *set) {
  struct mp_metric *reloads = metric(set, "moonpool_reloads_total", MP_COUNTER, "result",
                                     "Times that scripts/ was loaded, or refused.");
  set->meters.loaded = series(reloads, "loaded");
  set->meters.refused = series(reloads, "refused");
  set->meters.number = series(metric(set, "moonpool_generation", MP_GAUGE, NULL,
                                     "The generation of scripts/ that takes calls."),
                              NULL);
  set->meters.opened = series(metric(set, "moonpool_generation_start_time_seconds", MP_GAUGE, NULL,
                                     "When it was loaded, in seconds since 1970."),
                              NULL);
  set->meters.open =
      series(metric(set, "moonpool_generations_open", MP_GAUGE, NULL,
                    "Generations in memory: the current one, and those that finish calls."),
             NULL);
}

/* ---- the set ---- */

int mp_generations_new(struct mp_generations **out, const struct mp_generations_options *options,
                       struct mp_err *err) {
  struct mp_generations *set = calloc(1, sizeof *set);
  if (!set) return mp_err_set(err, MP_ENOMEM, "no memory for generations");
  set->options = *options;
  set->host = options->host;
  set->app_dir = strdup(options->app_dir);
  set->lua_dir = options->lua_dir ? strdup(options->lua_dir) : NULL;
  mp_list_init(&set->all);
  if (set->host->shared->metrics) add_metrics(set);
  mp_timer_init(&set->sweep, set->host->loop, mp_generations_on_sweep);
  mp_reload_init(set);
  if (!set->app_dir || (options->lua_dir && !set->lua_dir)) {
    mp_generations_free(set);
    return mp_err_set(err, MP_ENOMEM, "no memory for generations");
  }
  *out = set;
  return 0;
}

void mp_generations_stop(struct mp_generations *set) {
  set->stopping = true;
  mp_reload_stop(set);
}

void mp_generations_kill(struct mp_generations *set) {
  mp_generations_stop(set);
  MP_LIST_EACH(node, &set->all) {
    mp_generation_close(MP_LIST_ENTRY(node, struct mp_generation, node), "the host is stopping");
  }
}

bool mp_generations_busy(const struct mp_generations *set) {
  if (set->working) return true;
  MP_LIST_EACH(node, &set->all) {
    if (MP_LIST_ENTRY(node, struct mp_generation, node)->host.live_work) return true;
  }
  return false;
}

void mp_generations_free(struct mp_generations *set) {
  if (!set) return;
  mp_generations_kill(set);
  mp_timer_stop(&set->sweep);
  MP_LIST_EACH_SAFE(node, &set->all) {
    mp_generation_free(MP_LIST_ENTRY(node, struct mp_generation, node));
  }
  free(set->app_dir);
  free(set->lua_dir);
  free(set);
}

unsigned mp_generations_current(const struct mp_generations *set) {
  return set->current ? set->current->number : 0;
}

void mp_generations_push(lua_State *L, const struct mp_generations *set) {
  static const char *const shown[] = {"loading", "current", "retiring", "closing"};
  lua_newtable(L);
  lua_Integer n = 0;
  for (struct mp_list *node = set->all.prev; node != &set->all; node = node->prev) {
    struct mp_generation *gen = MP_LIST_ENTRY(node, struct mp_generation, node);
    lua_pushlightuserdata(L, gen);
    lua_pushcclosure(L, mp_generation_push_lua, 1);
    lua_call(L, 0, 1);
    lua_pushstring(L, shown[gen->state]);
    lua_setfield(L, -2, "state");
    lua_pushinteger(L, (lua_Integer)gen->call_count);
    lua_setfield(L, -2, "calls");
    lua_pushinteger(L, (lua_Integer)mp_vm_memory(gen->vm));
    lua_setfield(L, -2, "memory");
    lua_pushinteger(L, (lua_Integer)gen->operations);
    lua_setfield(L, -2, "operations");
    lua_pushnumber(L, (double)(mp_loop_now_ms(set->host->loop) - gen->opened_ms) / 1000);
    lua_setfield(L, -2, "age");
    lua_rawseti(L, -2, ++n);
  }
}
