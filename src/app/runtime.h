/* runtime.h: one host: loop, scheduler, VM, pool, lanes, operations and their generations, wired
 * together. Nothing in it is global: a process may have several. Owner: whoever opened it. */
#ifndef MP_RUNTIME_H
#define MP_RUNTIME_H

#include <lua.h>
#include <stdbool.h>

#include "app/config.h"
#include "util/err.h"

struct mp_seat;
struct mp_host;
struct mp_runtime;

struct mp_runtime_options {
  const struct mp_config *config; /* borrowed while opening */
  const char *app_dir;
  const char *database_url;   /* what the pool connects to */
  const char *lua_dir;        /* NULL, or a folder in front of the built-in modules */
  unsigned pool_min;          /* connections opened at once, whatever the settings say */
  bool serving;               /* SIGHUP reloads scripts/; config->workers counts */
  const struct mp_seat *seat; /* NULL, or this is a worker of another runtime (ops/crew.h) */
  bool interactive;           /* SIGINT is the caller's: it ends what a person has started */
  void (*open_vm)(struct mp_host *host, lua_State *L); /* see struct mp_shared; or NULL */
  void *open_vm_data;                                  /* for open_vm */
  struct uv_loop_s *uv; /* the loop, if others run it; NULL: one of its own */
};

/* On a loop that others run, what a failure leaves of handles is closed by its next iterations. */
int mp_runtime_open(struct mp_runtime **out, const struct mp_runtime_options *options,
                    struct mp_err *err) MP_MUST_CHECK;
/* Runs `push` (which pushes a function and its arguments, and returns how many) as a task, and the
 * loop until the task and everything that it started has ended. The exit code is the task's first
 * result; -1: it raised, the error is in `err` and the full text in mp_runtime_report. */
int mp_runtime_run(struct mp_runtime *rt, int (*push)(lua_State *L, void *data), void *data,
                   const char *name, struct mp_err *err);
/* What the task raised, with its place and traceback; "" if it did not. Borrowed. */
const char *mp_runtime_report(struct mp_runtime *rt);
/* Takes no new calls; work under way may finish until the drain timeout. May be called from signal
 * callbacks of the loop. */
void mp_runtime_stop(struct mp_runtime *rt);
/* Ends everything and frees the memory. The error names what could not be ended. */
int mp_runtime_close(struct mp_runtime *rt, struct mp_err *err);
/* The same on a loop that others run; it must not be called from Lua or from a callback of a call.
 * `on_closed` is the last thing. */
void mp_runtime_close_start(struct mp_runtime *rt, void (*on_closed)(void *data), void *data);

#endif
