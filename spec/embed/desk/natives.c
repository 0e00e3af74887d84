/* natives.c: functions in C that scripts call and wait for. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

struct cards {
  int abandoned;
  struct moonpool_wait *forgotten; /* completed when nobody waits any more */
};

/* add(a, b) */
static void add(struct moonpool_frame *frame, void *data) {
  struct moonpool_value a, b;
  (void)data;
  CHECK(moonpool_argument(frame, 0, &a) == 0 && moonpool_argument(frame, 1, &b) == 0);
  if (moonpool_argument_count(frame) != 2 || a.type != MOONPOOL_INTEGER) {
    moonpool_raise(frame, "NO_SUM", 422, "add needs two integers");
    return;
  }
  a.integer += b.integer;
  CHECK(moonpool_return(frame, &a) == 0);
}

/* echo(value): what came, as JSON if it is a table */
static void echo(struct moonpool_frame *frame, void *data) {
  struct moonpool_value value;
  (void)data;
  int rv = moonpool_argument(frame, 0, &value);
  if (rv)
    moonpool_raise(frame, "NO_JSON", 400, moonpool_code_name(rv));
  else
    CHECK(moonpool_return(frame, &value) == 0);
}

/* spin(): until the call's time is used up */
static void spin(struct moonpool_frame *frame, void *data) {
  (void)data;
  while (moonpool_checkpoint(frame) == 0) {}
}

static void *authorize(void *data) {
  struct moonpool_value value;
  memset(&value, 0, sizeof value);
  value.type = MOONPOOL_JSON;
  value.text = "{\"authorized\": true, \"amount\": 12.50}";
  value.len = strlen(value.text);
  moonpool_complete((struct moonpool_wait *)data, &value);
  return NULL;
}

/* charge(): a thread answers */
static void charge(struct moonpool_frame *frame, void *data) {
  pthread_t thread;
  (void)data;
  struct moonpool_wait *wait = moonpool_wait_begin(frame, NULL, NULL);
  CHECK(wait != NULL && pthread_create(&thread, NULL, authorize, wait) == 0);
  CHECK(pthread_detach(thread) == 0);
}

/* refuse(): answered at once, with an error */
static void refuse(struct moonpool_frame *frame, void *data) {
  (void)data;
  moonpool_complete_error(moonpool_wait_begin(frame, NULL, NULL), "CARD_REFUSED", 402, "refused");
}

static void on_abandoned(struct moonpool_wait *wait, void *data) {
  struct cards *cards = (struct cards *)data;
  cards->abandoned++;
  cards->forgotten = wait;
}

/* forget(): nobody answers in time */
static void forget(struct moonpool_frame *frame, void *data) {
  CHECK(moonpool_wait_begin(frame, on_abandoned, data) != NULL);
}

static const struct moonpool_entry entries[] = {{"add", add, 0},          {"echo", echo, 0},
                                                {"spin", spin, 0},        {"charge", charge, 5000},
                                                {"refuse", refuse, 5000}, {"forget", forget, 20},
                                                {"hang", forget, 600000}, {NULL, NULL, 0}};

static const char *call(struct moonpool *mp, const char *input, const char *code) {
  struct moonpool_error error;
  const struct moonpool_answer *answer;
  struct moonpool_request request = desk_request("native", input);
  OK(moonpool_call_wait(mp, &request, &answer, &error));
  if (strcmp(answer->code, code)) fprintf(stderr, "%s\n%s\n", answer->json, answer->detail);
  CHECK(!strcmp(answer->code, code));
  return answer->json;
}

void desk_natives(const struct desk *desk) {
  struct cards cards = {0, NULL};
  struct moonpool_module module = {"desk.cards", entries, &cards};
  const struct moonpool_module *modules[] = {&module, NULL};
  struct moonpool_options options;
  struct moonpool_error error;
  struct moonpool *mp = NULL;
  desk_options(&options, desk->workshop, desk->url[0]);
  options.modules = modules;
  OK(moonpool_open(&mp, &options, &error));
  OK(moonpool_ready_wait(mp, &error));
  CHECK(!strcmp(call(mp, "{\"fn\":\"add\",\"a\":40,\"b\":2}", ""), "42"));
  call(mp, "{\"fn\":\"add\"}", "NO_SUM");
  CHECK(!strcmp(call(mp, "{\"fn\":\"echo\",\"a\":{\"x\":[1,true]}}", ""), "{\"x\":[1,true]}"));
  CHECK(!strcmp(call(mp, "{\"fn\":\"echo\",\"a\":\"text\"}", ""), "\"text\""));
  call(mp, "{\"fn\":\"function\"}", "NO_JSON");
  call(mp, "{\"fn\":\"spin\"}", "SCRIPT_ERROR");
  CHECK(strstr(call(mp, "{\"fn\":\"charge\"}", ""), "\"authorized\":true"));
  call(mp, "{\"fn\":\"refuse\"}", "CARD_REFUSED");
  call(mp, "{\"fn\":\"forget\"}", "DEADLINE_EXCEEDED");
  CHECK(cards.abandoned == 1);
  moonpool_complete(cards.forgotten, NULL); /* too late, and harmless */

  /* A script waits when the runtime closes; its wait is completed afterwards. */
  struct moonpool_request request = desk_request("native", "{\"fn\":\"hang\"}");
  OK(moonpool_call(mp, &request, NULL, NULL, NULL, &error));
  for (int i = 0; i < 20; i++) moonpool_run_once(mp, 0);
  CHECK(moonpool_close_wait(mp) == 0);
  CHECK(cards.abandoned == 2);
  moonpool_complete_error(cards.forgotten, "LATE", 500, "nobody hears it");

  module.name = "moonpool.cards";
  CHECK(moonpool_open(&mp, &options, &error) == MOONPOOL_EINVAL);
}
