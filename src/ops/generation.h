/* generation.h: the operations of scripts/ as they were at one moment, in a Lua state of their own,
 * and the set of them: one that takes calls, and older ones that finish what they began.
 *
 *   LOADING --> CURRENT --> RETIRING --> CLOSING --> (gone)
 *        \____________________________---^     (a scripts/ that is broken never becomes current)
 *
 * A reload reads scripts/ twice until both readings are the same (an editor's half-written file is
 * not seen), opens a fresh state on that snapshot, compiles every file, defines every operation,
 * runs scripts/smoke.lua, and only then switches the pointer to the current generation. A call, its
 * retries and its hooks stay where they started. A retired generation is closed when its last task
 * and its last work on a connection have ended, or when the drain limit has passed; then the log
 * names the tasks that held it. Owner: the runtime. One thread: the loop's. */
#ifndef MP_GENERATION_H
#define MP_GENERATION_H

#include <lua.h>

#include "ops/turns.h"
#include "sql/state.h"
#include "util/list.h"

struct mp_generations;

struct mp_crew;

struct mp_generations_options {
  struct mp_crew *crew;       /* NULL, or the workers of the host (crew.h) ... */
  unsigned worker;            /* ... and which one of them this is */
  const struct mp_host *host; /* what the states share: loop, scheduler, pool, settings; borrowed */
  struct mp_turns *turns;     /* shared, so that a lane goes on across a reload */
  const char *app_dir, *lua_dir;
  size_t memory_limit; /* of each state */
  uint64_t settle_ms;  /* between the two readings */
  uint64_t load_ms;    /* for loading and scripts/smoke.lua */
  uint64_t drain_ms;   /* for a retired generation to end by itself */
};

int mp_generations_new(struct mp_generations **out, const struct mp_generations_options *options,
                       struct mp_err *err) MP_MUST_CHECK;
/* Takes no new calls and no reload; work under way goes on. */
void mp_generations_stop(struct mp_generations *set);
/* Ends all tasks; their transactions roll back while the loop runs on: see mp_generations_busy. */
void mp_generations_kill(struct mp_generations *set);
/* Whether work is left: transactions and statements on connections, or a reading on the thread
 * pool. */
bool mp_generations_busy(const struct mp_generations *set);
/* Closes the states. Nothing may be busy any more. */
void mp_generations_free(struct mp_generations *set);

/* ---- reload ---- */

struct mp_reload_report {
  bool ok;
  unsigned number; /* of the generation that is current now; 0: there is none */
  size_t files, changed;
  uint64_t took_us;
  /* one line for people if ok; else one line per fault, "scripts/x.lua:12: message" */
  const char *text;
};

struct mp_reload {
  struct mp_list node; /* the set's, until on_done; remove it to be told nothing */
  void (*on_done)(struct mp_reload *reload, const struct mp_reload_report *report);
};

/* Starts a reload; if one has begun to read already, another follows it. The result is logged in
 * any case; `reload` may be NULL. MP_ECLOSED: the host is stopping. */
int mp_generations_reload(struct mp_generations *set, struct mp_reload *reload,
                          struct mp_err *err) MP_MUST_CHECK;
/* Checks scripts/ every `interval_ms` and reloads when it has changed. 0: stops checking. */
void mp_generations_watch(struct mp_generations *set, uint64_t interval_ms);

/* ---- for reports ---- */

unsigned mp_generations_current(const struct mp_generations *set); /* its number; 0: none */
/* Pushes a list of { number, state, opened_at, age, calls, memory, files = { name = hash } }, the
 * current one first. [-0, +1] */
void mp_generations_push(lua_State *L, const struct mp_generations *set);

#endif
