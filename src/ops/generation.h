/* generation.h: the operations of scripts/ as they were at one moment, in a Lua state of their own,
 * and the set of them: one that takes calls, and older ones that finish what they began.
 *
 *   LOADING --> CURRENT --> RETIRING --> CLOSING --> (gone)
 *        \____________________________---^     (a scripts/ that is broken never becomes current)
 *
 * A reload reads scripts/ twice until both readings are the same (an editor's half-written file is
 * not seen), opens a fresh state on that snapshot, compiles every file, defines every operation,
 * runs scripts/smoke.lua, and only then lets one pointer change. A call, its retries and its hooks
 * stay where they started. A retired generation is closed when its last task and its last piece of
 * work on a connection have ended, or, with a word about who holds it, when the drain limit has
 * passed. Owner: the runtime. One thread: the loop's. */
#ifndef MP_GENERATION_H
#define MP_GENERATION_H

#include <lua.h>

#include "rules/lane.h"
#include "sql/state.h"
#include "util/list.h"

struct mp_generations;

struct mp_generations_options {
  const struct mp_host *host; /* what the states share: loop, scheduler, pool, settings; borrowed */
  struct mp_lanes *lanes;     /* shared, so that a lane goes on across a reload */
  const char *app_dir, *lua_dir;
  size_t memory_limit; /* of each state */
  uint64_t settle_ms;  /* between the two readings */
  uint64_t load_ms;    /* for loading and scripts/smoke.lua */
  uint64_t drain_ms;   /* for a retired generation to end by itself */
};

int mp_generations_new(struct mp_generations **out, const struct mp_generations_options *options,
                       struct mp_err *err) MP_MUST_CHECK;
/* No new calls, no further reload; what runs goes on. */
void mp_generations_stop(struct mp_generations *set);
/* Kills what still runs; transactions roll back, which the loop must carry out: see _busy. */
void mp_generations_kill(struct mp_generations *set);
/* Work that is not done: transactions and statements on connections, a reading on the thread
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

/* Starts a reload, or the next one behind the one that has begun to read. It is logged in any case;
 * `reload` may be NULL. MP_ECLOSED: the host is stopping. */
int mp_generations_reload(struct mp_generations *set, struct mp_reload *reload,
                          struct mp_err *err) MP_MUST_CHECK;
/* Looks at scripts/ each `interval_ms` and reloads when it has changed. 0: no longer. */
void mp_generations_watch(struct mp_generations *set, uint64_t interval_ms);

/* ---- for reports ---- */

unsigned mp_generations_current(const struct mp_generations *set); /* its number; 0: none */
/* Pushes a list of { number, state, opened_at, age, calls, memory, files = { name = hash } }, the
 * current one first. [-0, +1] */
void mp_generations_push(lua_State *L, const struct mp_generations *set);

#endif
