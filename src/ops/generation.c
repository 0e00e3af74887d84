/* generation.c: one generation, from opening its Lua state to freeing it. */
#include "ops/generation.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "db/listen.h"
#include "host/host.h"
#include "loop/ids.h"
#include "ops/generation_priv.h"
#include "util/log.h"
#include "util/sm.h"
#include "watch/metrics.h"

enum { SWEEP_MS = 20 };

MP_SM_TABLE(machine, "generation", MP_GENERATION_STATES, NULL);

static void move(struct mp_generation *gen, enum mp_generation_state to) {
  if (mp_sm_may(&machine, gen->state, to)) gen->state = to;
}

static size_t tasks_of(const struct mp_generation *gen, char *names, size_t size) {
  return mp_sched_tasks_of(gen->set->host->sched, mp_vm_lua(gen->vm), names, size);
}

static void count(struct mp_series *of, double by) {
  if (of) mp_series_add(of, by);
}

/* ---- open and close ---- */

int mp_generation_push_lua(lua_State *L) {
  struct mp_generation *gen = lua_touserdata(L, lua_upvalueindex(1));
  char opened_at[32];
  mp_timestamp_format(gen->opened_us, opened_at);
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, gen->number);
  lua_setfield(L, -2, "number");
  lua_pushstring(L, opened_at);
  lua_setfield(L, -2, "opened_at");
  lua_createtable(L, 0, (int)mp_files_count(gen->files));
  for (size_t i = 0; i < mp_files_count(gen->files); i++) {
    const struct mp_file *file = mp_files_at(gen->files, i);
    lua_pushstring(L, file->hash);
    lua_setfield(L, -2, file->name);
  }
  lua_setfield(L, -2, "files");
  lua_pushinteger(L, gen->set->current ? (lua_Integer)gen->set->current->operations : 0);
  lua_setfield(L, -2, "before"); /* operations that the host serves now */
  return 1;
}

/* source(name) -> the text of a file below scripts/, or nil */
static int push_source(lua_State *L) {
  const struct mp_generation *gen = lua_touserdata(L, lua_upvalueindex(1));
  const struct mp_file *file = mp_files_find(gen->files, luaL_checkstring(L, 1));
  if (file)
    lua_pushlstring(L, file->text, file->size);
  else
    lua_pushnil(L);
  return 1;
}

static int open_modules(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"generation", mp_generation_push_lua}, {"source", push_source}, {NULL, NULL}};
  struct mp_generation *gen = lua_touserdata(L, 1);
  mp_host_open(&gen->host, L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonpool.host");
  lua_call(L, 1, 1);
  mp_ops_open(&gen->ops, L);
  lua_pushlightuserdata(L, gen);
  luaL_setfuncs(L, functions, 1);
  if (gen->host.shared->open_vm) gen->host.shared->open_vm(&gen->host, L);
  return 0;
}

void mp_generation_free(struct mp_generation *gen) {
  mp_timer_stop(&gen->drain);
  mp_list_remove(&gen->node);
  count(gen->set->meters.open, -1);
  if (gen->vm) {
    mp_vm_close(gen->vm);
    mp_host_fini(&gen->host);
    mp_ops_fini(&gen->ops);
  }
  mp_agree_gone(gen);
  mp_files_unref(gen->files);
  free(gen);
}

static void on_drain_limit(struct mp_timer *timer) {
  struct mp_generation *gen = MP_CONTAINER_OF(timer, struct mp_generation, drain);
  char names[300];
  size_t count = tasks_of(gen, names, sizeof names);
  if (count || !gen->elsewhere)
    mp_log(MP_LOG_WARN, "host",
           "generation %u was replaced %llu s ago, and %zu tasks still use it (%s); they are ended "
           "and roll back",
           gen->number, (unsigned long long)gen->set->options.drain_ms / 1000, count, names);
  mp_generation_close(gen, "its generation was replaced and the drain limit has passed");
}

int mp_generation_open(struct mp_generation **out, struct mp_generations *set,
                       struct mp_files *files, struct mp_err *err) {
  struct mp_generation *gen = calloc(1, sizeof *gen);
  if (!gen) return mp_err_set(err, MP_ENOMEM, "no memory for a generation");
  gen->set = set;
  gen->number = ++set->last_number;
  gen->files = mp_files_ref(files);
  gen->entry_ref = LUA_NOREF;
  mp_list_init(&gen->calls);
  mp_list_push_back(&set->all, &gen->node);
  count(set->meters.open, 1);
  mp_timer_init(&gen->drain, set->host->loop, on_drain_limit);
  gen->opened_us = mp_loop_wall_us(set->host->loop);
  gen->opened_ms = mp_loop_now_ms(set->host->loop);
  struct mp_vm_options vm = {.app_dir = set->app_dir,
                             .lua_dir = set->lua_dir,
                             .memory_limit = set->options.memory_limit,
                             .files = files};
  int rv = mp_vm_open(&gen->vm, set->host->sched, &vm, err);
  if (rv) {
    mp_generation_free(gen);
    return rv;
  }
  mp_host_init(&gen->host, set->host, gen->vm);
  gen->ops = (struct mp_ops){.host = &gen->host,
                             .crew = set->options.crew,
                             .worker = set->options.worker,
                             .turns = set->options.turns,
                             .brakes = {.lanes = set->options.turns->seat.lanes}};
  lua_State *L = mp_vm_lua(gen->vm);
  lua_pushcfunction(L, open_modules);
  lua_pushlightuserdata(L, gen);
  if (lua_pcall(L, 1, 0, 0)) {
    rv = mp_err_set(err, MP_EINTERNAL, "the host's own modules do not load: %s",
                    luaL_tolstring(L, -1, NULL));
    mp_generation_free(gen);
    return rv;
  }
  *out = gen;
  return 0;
}

void mp_generation_install(struct mp_generation *gen) {
  struct mp_generations *set = gen->set;
  struct mp_generation *old = set->current;
  move(gen, MP_GEN_CURRENT);
  set->current = gen;
  if (!old) return;
  move(old, MP_GEN_RETIRING);
  mp_timer_start(&old->drain, set->options.drain_ms);
  mp_generations_sweep_soon(set);
}

void mp_generation_close(struct mp_generation *gen, const char *why) {
  struct mp_generations *set = gen->set;
  if (gen->state == MP_GEN_CLOSING) return;
  if (set->current == gen) set->current = NULL;
  mp_timer_stop(&gen->drain);
  move(gen, MP_GEN_CLOSING);
  mp_listen_stop(&gen->host);
  if (gen->fail_calls) gen->fail_calls(gen, why);
  mp_task_kill_all(set->host->sched, mp_vm_lua(gen->vm));
  mp_generations_sweep_soon(set);
}

/* ---- which generations can be freed ---- */

/* Nothing of it is left: no task, no call, no transaction that still rolls back. */
static bool is_free(const struct mp_generation *gen) {
  return !gen->call_count && !gen->elsewhere && !gen->host.live_work && !gen->ops.live_calls &&
         !tasks_of(gen, NULL, 0);
}

void mp_generations_on_sweep(struct mp_timer *timer) {
  struct mp_generations *set = MP_CONTAINER_OF(timer, struct mp_generations, sweep);
  bool more = false;
  MP_LIST_EACH_SAFE(node, &set->all) {
    struct mp_generation *gen = MP_LIST_ENTRY(node, struct mp_generation, node);
    switch (gen->state) {
      case MP_GEN_LOADING:
      case MP_GEN_CURRENT: continue;
      case MP_GEN_RETIRING:
        if (is_free(gen)) mp_generation_close(gen, "it is no longer used");
        break;
      case MP_GEN_CLOSING: break;
    }
    if (gen->state == MP_GEN_CLOSING && is_free(gen))
      mp_generation_free(gen);
    else
      more = true;
  }
  if (more) mp_timer_start(&set->sweep, SWEEP_MS);
}

/* Checked by a timer rather than counted: tasks, hooks and the tasks they start come and go in many
 * places. */
void mp_generations_sweep_soon(struct mp_generations *set) {
  if (!mp_timer_running(&set->sweep)) mp_timer_start(&set->sweep, SWEEP_MS);
}
