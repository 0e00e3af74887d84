/* ends.c: closing in every state, draining, files that do not load, a forked child. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static struct moonpool *open_one(const char *app, const char *url) {
  struct moonpool_error error;
  struct moonpool_options options;
  struct moonpool *mp = NULL;
  desk_options(&options, app, url);
  OK(moonpool_open(&mp, &options, &error));
  return mp;
}

struct seen {
  int answers, drains, closed;
  char code[64];
};

static void on_answer(struct moonpool *mp, const struct moonpool_answer *answer, void *data) {
  struct seen *seen = (struct seen *)data;
  const struct moonpool_answer *none;
  struct moonpool_request request = desk_request("greet", NULL);
  CHECK(moonpool_call_wait(mp, &request, &none, NULL) < 0); /* not from a callback */
  snprintf(seen->code, sizeof seen->code, "%s", answer->code);
  seen->answers++;
}

static void on_closed(void *data) { ((struct seen *)data)->closed++; }

static void on_drained(struct moonpool *mp, size_t ended, void *data) {
  struct seen *seen = (struct seen *)data;
  CHECK(ended == (size_t)(seen->answers && !strcmp(seen->code, "CANCELED")));
  seen->drains++;
  CHECK(moonpool_close(mp, on_closed, seen) == 0);
}

static void call(struct moonpool *mp, const char *operation, struct seen *seen) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request(operation, NULL);
  OK(moonpool_call(mp, &request, on_answer, seen, NULL, &error));
}

static void run_to_end(struct moonpool *mp, struct seen *seen) {
  while (moonpool_run_once(mp, 1) > 0) {}
  CHECK(seen->closed == 1);
}

static void close_before_ready(const struct desk *desk) {
  struct seen seen = {0};
  struct moonpool *mp = open_one(desk->workshop, desk->url[0]);
  CHECK(moonpool_close_wait(mp) == 0);
  mp = open_one(desk->workshop, desk->url[0]);
  call(mp, "greet", &seen);
  CHECK(moonpool_close(mp, on_closed, &seen) == 0);
  CHECK(seen.answers == 0); /* not before it returned */
  run_to_end(mp, &seen);
  CHECK(seen.answers == 1 && !strcmp(seen.code, "CANCELED"));
  CHECK(moonpool_close(NULL, NULL, NULL) == 0);
}

static void close_while_running(const struct desk *desk) {
  struct seen seen = {0};
  struct moonpool_error error;
  struct moonpool *mp = open_one(desk->workshop, desk->url[0]);
  OK(moonpool_ready_wait(mp, &error));
  call(mp, "wait", &seen);
  for (int i = 0; i < 20; i++) moonpool_run_once(mp, 0);
  CHECK(moonpool_close(mp, on_closed, &seen) == 0);
  run_to_end(mp, &seen);
  CHECK(seen.answers == 1 && !strcmp(seen.code, "CANCELED"));
}

static void drain(const struct desk *desk) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request("greet", NULL);
  for (int over = 0; over < 2; over++) { /* what is under way finishes; or its time is over */
    struct seen seen = {0};
    struct moonpool *mp = open_one(desk->workshop, desk->url[0]);
    OK(moonpool_ready_wait(mp, &error));
    call(mp, over ? "wait" : "greet", &seen);
    OK(moonpool_drain(mp, over ? 50 : 60000, on_drained, &seen, &error));
    CHECK(moonpool_call(mp, &request, on_answer, &seen, NULL, &error) == MOONPOOL_ECLOSED);
    CHECK(moonpool_reload(mp, NULL, NULL, &error) == MOONPOOL_ECLOSED);
    run_to_end(mp, &seen);
    CHECK(seen.answers == 1 && seen.drains == 1);
    CHECK(!strcmp(seen.code, over ? "CANCELED" : ""));
  }
}

/* scripts/ that does not load: the runtime stays, and a reload mends it. */
static void faults(const struct desk *desk) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request("greet", NULL);
  const struct moonpool_answer *answer;
  const struct moonpool_verdict *verdict;
  char path[4096], whole[4096];
  snprintf(path, sizeof path, "%s/scripts/broken.lua", desk->workshop);
  snprintf(whole, sizeof whole, "%s/scripts/broken.lua.off", desk->workshop);
  CHECK(rename(whole, path) == 0);
  struct moonpool *mp = open_one(desk->workshop, desk->url[0]);
  CHECK(moonpool_ready_wait(mp, &error) == MOONPOOL_ESCRIPT);
  CHECK(strstr(error.message, "scripts/broken.lua:1:") != NULL);
  CHECK(moonpool_call_wait(mp, &request, &answer, &error) == MOONPOOL_ESCRIPT);
  OK(moonpool_reload_wait(mp, &verdict, &error));
  CHECK(!verdict->ok && strstr(verdict->text, "broken.lua"));
  CHECK(rename(path, whole) == 0);
  OK(moonpool_reload_wait(mp, &verdict, &error));
  CHECK(verdict->ok && verdict->generation == 1);
  OK(moonpool_call_wait(mp, &request, &answer, &error));
  CHECK(answer->ok && !strcmp(answer->json, "\"hello\""));
  request.input = "no json";
  OK(moonpool_call_wait(mp, &request, &answer, &error));
  CHECK(!answer->ok && answer->status == 400 && !strcmp(answer->code, "VALIDATION_ERROR"));
  size_t len = 0;
  const char *metrics = moonpool_metrics(mp, &len);
  CHECK(metrics && len == strlen(metrics) && strstr(metrics, "moonpool_reloads_total"));
  CHECK(moonpool_close_wait(mp) == 0);
}

static void refuse(const struct desk *desk) {
  static const char *const settings[] = {"PATH=/bin", "DB_POOL_MAX=many", NULL};
  struct moonpool_error error;
  struct moonpool_options options;
  struct moonpool *mp = NULL;
  desk_options(&options, desk->workshop, desk->url[0]);
  options.settings = settings;
  CHECK(moonpool_open(&mp, &options, &error) == MOONPOOL_EINVAL);
  CHECK(strstr(error.message, "DB_POOL_MAX") && !strcmp(error.name, "INVALID_ARGUMENT"));
  desk_options(&options, NULL, desk->url[0]);
  CHECK(moonpool_open(&mp, &options, NULL) == MOONPOOL_EINVAL);
  desk_options(&options, desk->workshop, "postgres://:no port/");
  CHECK(moonpool_open(&mp, &options, &error) == MOONPOOL_EINVAL);
  memset(&options, 0, sizeof options);
  CHECK(moonpool_open(&mp, &options, &error) == MOONPOOL_EINVAL && strstr(error.message, "_init"));
  CHECK(mp == NULL);
}

/* A child must not touch its parent's runtime, and may have one of its own. */
static int in_child(const struct desk *desk, struct moonpool *parents) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request("count_rows", NULL);
  const struct moonpool_answer *answer;
  if (moonpool_call_wait(parents, &request, &answer, &error) != MOONPOOL_ECLOSED) return 1;
  if (moonpool_close(parents, NULL, NULL) != MOONPOOL_ECLOSED) return 2;
  if (moonpool_run_once(parents, 0) != MOONPOOL_ECLOSED) return 3;
  struct moonpool *mp = open_one(desk->workshop, desk->url[1]);
  if (moonpool_call_wait(mp, &request, &answer, &error) || !answer->ok) return 4;
  return moonpool_close_wait(mp) ? 5 : 0;
}

static void child(const struct desk *desk) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request("count_rows", NULL);
  const struct moonpool_answer *answer;
  struct moonpool *mp = open_one(desk->workshop, desk->url[0]);
  OK(moonpool_call_wait(mp, &request, &answer, &error));
  CHECK(answer->ok);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) _exit(in_child(desk, mp));
  int status = -1;
  CHECK(waitpid(pid, &status, 0) == pid);
  if (status) fprintf(stderr, "the child ended with %d\n", status);
  CHECK(status == 0);
  OK(moonpool_call_wait(mp, &request, &answer, &error)); /* on the connection from before */
  CHECK(answer->ok);
  CHECK(moonpool_close_wait(mp) == 0);
}

void desk_ends(const struct desk *desk) {
  refuse(desk);
  close_before_ready(desk);
  close_while_running(desk);
  drain(desk);
  faults(desk);
  child(desk);
}
