/* generation_priv.h: what generation.c (one and its states), generations.c (all of a runtime),
 * reload.c (loading a new one) and invoke.c (calls into one) share. */
#ifndef MP_GENERATION_PRIV_H
#define MP_GENERATION_PRIV_H

#include "ops/call.h"
#include "ops/generation.h"
#include "script/files.h"
#include "util/metrics.h"

#define MP_GENERATION_STATES(X)                              \
  X(LOADING, MP_TO(MP_GEN_CURRENT) | MP_TO(MP_GEN_CLOSING))  \
  X(CURRENT, MP_TO(MP_GEN_RETIRING) | MP_TO(MP_GEN_CLOSING)) \
  X(RETIRING, MP_TO(MP_GEN_CLOSING))                         \
  X(CLOSING, 0)

enum mp_generation_state {
#define X(name, moves) MP_GEN_##name,
  MP_GENERATION_STATES(X)
#undef X
};

struct mp_generation {
  struct mp_list node;
  struct mp_generations *set;
  enum mp_generation_state state;
  unsigned number;
  struct mp_files *files;
  struct mp_vm *vm;
  struct mp_host host;
  struct mp_ops ops;
  struct mp_list calls; /* struct mp_invocation */
  size_t call_count;
  /* invoke.c: answers all calls with `why`; NULL until the first one */
  void (*fail_calls)(struct mp_generation *gen, const char *why);
  unsigned elsewhere;           /* the front's: workers that still have one of this number */
  struct mp_proposal *proposal; /* a worker's: it goes home when this is freed; agree.c */
  int entry_ref;                /* the Lua function that serves calls */
  size_t operations;            /* how many it has, once it is loaded */
  uint64_t opened_us;           /* wall clock */
  uint64_t opened_ms;           /* the loop's */
  struct mp_timer drain;        /* while RETIRING */
};

enum mp_reload_stage {
  MP_RELOAD_NONE,
  MP_RELOAD_READING,
  MP_RELOAD_SETTLING,
  MP_RELOAD_LOADING,
  MP_RELOAD_AGREEING /* loaded here; the other workers are asked */
};

struct mp_proposal;

struct mp_generations {
  struct mp_generations_options options;
  const struct mp_host *host; /* the runtime's: what new states share */
  char *app_dir, *lua_dir;
  struct mp_list all; /* struct mp_generation */
  struct mp_generation *current;
  unsigned last_number;
  struct mp_timer sweep;
  bool stopping;

  /* reload.c */
  struct {
    enum mp_reload_stage stage;
    struct mp_list told, next; /* struct mp_reload: waiting for this reload, for the one after it */
    bool again, quiet;     /* again: another reload follows. quiet: the watch began it, so unchanged
                              files end it silently */
    bool again_asked;      /* the following reload was requested, not begun by the watch */
    struct mp_files *read; /* the last reading */
    struct mp_generation *loading;
    struct mp_timer timer; /* SETTLING: the pause; LOADING: the deadline */
    uint64_t began_ns;
    unsigned readings;

    /* agree.c */
    unsigned round, asked;        /* the front's: of workers that have not answered */
    struct mp_list answers;       /* the front's: struct mp_proposal, until the decision */
    struct mp_proposal *proposal; /* a worker's, while it loads */
  } reload;
  struct {
    uint64_t interval_ms, stamp;
    struct mp_timer timer;
    bool looking;
  } watch;
  struct {
    struct mp_series *loaded, *refused, *number, *opened, *open; /* NULL: not counted */
  } meters;
  bool working; /* on the thread pool: a reading or a look */
};

/* ---- generation.c ---- */

/* Opens a Lua state for the files, without running any of them. */
int mp_generation_open(struct mp_generation **out, struct mp_generations *set,
                       struct mp_files *files, struct mp_err *err) MP_MUST_CHECK;
/* It takes calls from now on; the current one before it retires. */
void mp_generation_install(struct mp_generation *gen);
/* Ends its tasks and answers its calls with `why`; it is freed when its connections are released.
 */
void mp_generation_close(struct mp_generation *gen, const char *why);
void mp_generation_free(struct mp_generation *gen);
/* Pushes { number, opened_at, files, before } of the generation that is upvalue 1. [-0, +1] */
int mp_generation_push_lua(lua_State *L);
void mp_generations_sweep_soon(struct mp_generations *set);
void mp_generations_on_sweep(struct mp_timer *timer); /* set->sweep */

/* ---- reload.c ---- */

void mp_reload_init(struct mp_generations *set);
void mp_reload_stop(struct mp_generations *set);
/* A worker loads what the front has read; the end is mp_agree_loaded or mp_agree_refused. */
void mp_reload_load(struct mp_generations *set, struct mp_files *files, unsigned number);
/* Forgets the generation that was loaded: the caller installs or closes it. */
void mp_reload_clear(struct mp_generations *set);
/* The end of the front's reload. */
void mp_reload_succeed(struct mp_generations *set);
void mp_reload_fail(struct mp_generations *set, const char *text);

/* ---- agree.c: the host has several workers ---- */

void mp_agree_loaded(struct mp_generations *set);
void mp_agree_refused(struct mp_generations *set,
                      const char *text);        /* a worker's files do not load */
void mp_agree_gone(struct mp_generation *gen);  /* a worker frees what was agreed */
void mp_agree_stop(struct mp_generations *set); /* the front's reload ends without a decision */

#endif
