/* sweep.c: a runtime's whole life, in which the n-th request for memory is refused. A function then
 * returns an error, or the answer is one; nothing crashes, hangs or stays behind, and as soon as
 * there is memory again the runtime works.
 *
 * DESK_SWEEP is "KIND FIRST STEP": 0: one request is refused; 1: and all after it. The first life
 * refuses request FIRST, the next one STEP further, until a life makes no such request. */
#define _GNU_SOURCE
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "refuse.h"

/* Longer than any life needs, also on a busy machine. */
#ifndef HANG_S
#define HANG_S 60
#endif

static const char *step; /* of the life that runs */
static long number;
static enum desk_refusal kind;

static void on_alarm(int signal_number) {
  void *frames[64];
  (void)signal_number;
  dprintf(2, "hangs in %s, n = %ld, %s\n", step, number, kind == DESK_ONE ? "one" : "all after");
  backtrace_symbols_fd(frames, backtrace(frames, 64), 2);
  _exit(3);
}

static int is_failure(int rv, const struct moonpool_error *error) {
  return rv < 0 && error->code == rv && *error->message && *error->name;
}

static void call(struct moonpool *mp, const char *operation) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request(operation, "{}");
  const struct moonpool_answer *answer = NULL;
  request.timeout_ms = 500; /* so long it waits for a connection, which needs memory */
  step = "moonpool_call_wait";
  int rv = moonpool_call_wait(mp, &request, &answer, &error);
  if (rv)
    CHECK(is_failure(rv, &error));
  else
    CHECK(answer->ok ? answer->json_len > 0 : answer->status >= 400 && *answer->code);
}

static void reload(struct moonpool *mp) {
  struct moonpool_error error;
  const struct moonpool_verdict *verdict = NULL;
  step = "moonpool_reload_wait";
  int rv = moonpool_reload_wait(mp, &verdict, &error);
  if (rv)
    CHECK(is_failure(rv, &error));
  else
    CHECK(verdict->text && *verdict->text);
}

static void read_metrics(struct moonpool *mp) {
  size_t len = 0;
  step = "moonpool_metrics";
  const char *text = moonpool_metrics(mp, &len);
  CHECK(!text || strlen(text) == len);
}

/* With memory, it is as good as new. */
static void works(struct moonpool *mp, const char *operation) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request(operation, "{}");
  const struct moonpool_answer *answer = NULL;
  const struct moonpool_verdict *verdict = NULL;
  step = "a reload with memory";
  OK(moonpool_reload_wait(mp, &verdict, &error));
  if (!verdict->ok) fprintf(stderr, "n = %ld: %s\n", number, verdict->text);
  CHECK(verdict->ok);
  step = "a call with memory";
  OK(moonpool_call_wait(mp, &request, &answer, &error));
  if (!answer->ok) fprintf(stderr, "n = %ld: %s\n", number, answer->json);
  CHECK(answer->ok);
}

static void on_drained(struct moonpool *mp, size_t ended, void *data) {
  (void)mp;
  (void)ended;
  *(int *)data = 1;
}

static void drain(struct moonpool *mp) {
  struct moonpool_error error;
  int drained = 0;
  step = "moonpool_drain";
  int rv = moonpool_drain(mp, 100, on_drained, &drained, &error);
  CHECK(!rv || is_failure(rv, &error));
  while (!rv && !drained) CHECK(moonpool_run_once(mp, 1) == 1);
}

/* How many requests were refused; 0: the life makes no more than n. */
static long live(const struct desk *desk, const char *operation, long n,
                 enum desk_refusal refusal) {
  struct moonpool_error error;
  struct moonpool_options options;
  struct moonpool *mp = NULL;
  long refusals = 0;
  number = n;
  kind = refusal;
  alarm(HANG_S);
  desk_options(&options, desk->workshop, desk->url[0]);
  desk_refuse(n, refusal);
  step = "moonpool_open";
  int rv = moonpool_open(&mp, &options, &error);
  CHECK(rv ? !mp && is_failure(rv, &error) : mp != NULL);
  if (mp) {
    call(mp, operation);
    reload(mp);
    read_metrics(mp);
    if (n % 2) { /* memory comes back; or drained and closed without it */
      refusals = desk_grant();
      works(mp, operation);
    }
    drain(mp);
    step = "moonpool_close_wait";
    CHECK(moonpool_close_wait(mp) == 0);
  }
  if (!refusals) refusals = desk_grant();
  alarm(0);
  return refusals;
}

/* The lines are written, and nobody reads them. */
static void on_log(enum moonpool_log_level level, const char *topic, const char *text,
                   const char *operation, const char *call_id, void *data) {
  (void)level, (void)topic, (void)text, (void)operation, (void)call_id, (void)data;
}

void desk_sweep(const struct desk *desk) {
  void *frames[2];
  int given_kind = 0;
  long first = 0, stride = 0, lives = 0;
  const char *lot = getenv("DESK_SWEEP");
  CHECK(lot && sscanf(lot, "%d %ld %ld", &given_kind, &first, &stride) == 3 && stride > 0);
  moonpool_log_to(on_log, MOONPOOL_LOG_DEBUG, NULL);
  (void)backtrace(frames, 2); /* it loads a library the first time */
  signal(SIGALRM, on_alarm);
  CHECK(live(desk, "careful", 1000000, DESK_ONE) == 0); /* what is made once is there from now on */
  long n = first;
  while (live(desk, "careful", n, (enum desk_refusal)given_kind)) n += stride, lives++;
  printf("%ld lives, the last without request %ld\n", lives, n);
}
