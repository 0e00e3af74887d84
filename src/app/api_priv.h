/* api_priv.h: struct moonpool, for the files that carry out include/moonpool.h: api.c (life),
 * api_call.c (calls), api_reload.c (loading and draining).
 *
 *   OPEN --> DRAINING --> CLOSING --> (gone)
 *      \____________________^
 * Work that a public function must not do itself, because it would call back before it returns, is
 * done at the end of the loop's iteration (mp_api_at_end). */
#ifndef MP_API_PRIV_H
#define MP_API_PRIV_H

#include <pthread.h>
#include <sys/types.h>
#include <uv.h>

#include "app/runtime_priv.h"
#include "moonpool.h"

enum mp_api_state { MP_API_OPEN, MP_API_DRAINING, MP_API_CLOSING };

enum mp_api_call_state { MP_API_HELD, MP_API_RUNNING, MP_API_CANCELED };

/* One call; held while the first files load. */
struct mp_api_call {
  struct mp_list node; /* moonpool.calls */
  struct moonpool *mp;
  enum mp_api_call_state state;
  uint64_t id;
  struct mp_invocation *invocation; /* RUNNING */
  char call_id[37];
  moonpool_answer_cb on_answer;
  void *data;
  /* the request, while HELD */
  double timeout_s;
  uint64_t made_ms; /* on the loop's clock */
  char *operation, *input, *tenant, *user, *key;
  size_t input_len;
};

struct mp_api_reload {
  struct mp_list node; /* moonpool.reloads */
  struct moonpool *mp;
  struct mp_reload reload;
  moonpool_verdict_cb on_verdict; /* NULL: nobody asks */
  void *data;
};

struct mp_api_drain {
  struct mp_list node; /* moonpool.drains */
  moonpool_drained_cb on_drained;
  void *data;
};

/* The last answer of a blocking function. */
struct mp_api_kept {
  struct moonpool_answer answer;
  struct moonpool_verdict verdict;
  struct mp_buf text, code, message, detail;
  char call_id[37];
};

/* Between the loop and other threads, which may use it when the runtime is gone. */
struct mp_api_mail {
  pthread_mutex_t lock;
  unsigned owners;     /* the runtime, and each wait */
  uv_async_t *wake;    /* NULL: the runtime is closed */
  struct mp_list came; /* struct moonpool_wait: completed */
};

struct moonpool {
  struct mp_runtime *rt;
  uv_loop_t *uv;
  uv_loop_t *own;   /* NULL: the caller's loop */
  uv_async_t alive; /* keeps the loop alive, and wakes it */
  struct mp_api_mail *mail;
  const struct moonpool_module *const *modules;
  pid_t pid;          /* of the process that opened it */
  unsigned callbacks; /* the caller's, under way: a blocking function would wait for itself */
  enum mp_api_state state;
  bool ready; /* the first loading is over */
  uint64_t last_id;
  struct mp_list calls; /* in the order of their ids */
  size_t call_count;
  bool cancels; /* one of them is CANCELED */
  struct mp_list reloads, drains;
  struct mp_buf metrics;
  struct mp_buf fault; /* why scripts/ could not be loaded the first time */
  uint64_t drain_ms;
  size_t ended; /* calls that a drain has ended */
  struct mp_api_kept kept;
  moonpool_verdict_cb on_ready;
  void *ready_data;
  moonpool_closed_cb on_closed;
  void *closed_data;
  bool closed;
};

/* ---- api.c ---- */

/* 0: the function may go on. */
int mp_api_enter(struct moonpool *mp, struct moonpool_error *error);
/* As above, for a function that waits. */
int mp_api_enter_waiting(struct moonpool *mp, struct moonpool_error *error);
/* Copies the error, if there is a place for it; returns its code as the caller knows it. */
int mp_api_fail(struct moonpool_error *error, const struct mp_err *err);
int mp_api_fail_with(struct moonpool_error *error, enum mp_code code, const char *fmt, ...)
    MP_PRINTF(3, 4);
/* Runs the own loop until *done, or the runtime is closed. */
void mp_api_run_until(struct moonpool *mp, const bool *done);
/* The struct that a program gave, which may be that of an older or of a newer header. -MP_EINVAL:
 * newer, and it uses what this library does not know. */
int mp_api_take(void *to, size_t size, const void *from, const char *what, struct mp_err *err);

/* ---- api_call.c ---- */

void mp_api_forget_kept(struct mp_api_kept *kept);

void mp_api_start_held(struct moonpool *mp);
void mp_api_end_canceled(struct moonpool *mp);
void mp_api_end_calls(struct moonpool *mp); /* the runtime closes */

/* ---- api_module.c ---- */

int mp_api_check_modules(const struct moonpool_module *const *modules, struct mp_err *err);
void mp_api_open_vm(struct mp_host *host, lua_State *L); /* the open_vm of struct mp_shared */

/* ---- api_wait.c ---- */

/* The functions below `mail` on the loop's thread; completed waits are handed over there. */
struct mp_api_mail *mp_api_mail_new(uv_async_t *wake);
void mp_api_mail_open(struct mp_api_mail *mail);
void mp_api_mail_close(struct mp_api_mail *mail); /* NULL is fine */

/* ---- api_reload.c ---- */

/* The first loading. */
int mp_api_load(struct moonpool *mp, struct mp_err *err);
void mp_api_look_at_drain(struct moonpool *mp);
/* Reloads and drains that have not ended are told that the runtime closes. */
void mp_api_end_waits(struct moonpool *mp);

#endif
