/* loops.c: two runtimes on two databases, on one loop of the program's: calls, reloads meanwhile,
 * cancels. */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "check.h"

enum { CALLS = 40 };

struct side {
  struct moonpool *mp;
  const char *deal;
  int ready, begun, committed, reloads, verdicts, closed;
  unsigned long long waits; /* the id of the call that only a cancel ends */
  int canceled;
};

static void on_closed(void *data) { ((struct side *)data)->closed++; }

static void on_canceled(struct moonpool *mp, const struct moonpool_answer *answer, void *data) {
  struct side *side = (struct side *)data;
  CHECK(!answer->ok && !strcmp(answer->code, "CANCELED"));
  CHECK(moonpool_cancel(mp, side->waits) == MOONPOOL_EINVAL); /* it is answered */
  side->canceled++;
  CHECK(moonpool_close(mp, on_closed, side) == 0);
  CHECK(moonpool_close(mp, on_closed, side) == MOONPOOL_ECLOSED);
  CHECK(moonpool_call(mp, NULL, NULL, NULL, NULL, NULL) == MOONPOOL_ECLOSED);
}

/* When all is answered: a call that is canceled, whose callback closes. */
static void end(struct side *side) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request("no_such_operation", NULL);
  uint64_t id;
  if (side->committed < CALLS || side->verdicts < side->reloads) return;
  OK(moonpool_call(side->mp, &request, on_canceled, side, &id, &error));
  side->waits = id;
  OK(moonpool_cancel(side->mp, id));
}

static void on_verdict(struct moonpool *mp, const struct moonpool_verdict *verdict, void *data) {
  struct side *side = (struct side *)data;
  CHECK(mp == side->mp);
  CHECK(verdict->ok && verdict->files > 0 && verdict->changed == 0 && verdict->generation > 1);
  side->verdicts++;
  end(side);
}

static void on_deal(struct moonpool *mp, const struct moonpool_answer *answer, void *data);

static void begin_call(struct side *side) {
  struct moonpool_error error;
  struct moonpool_request request = desk_request("create_deal", side->deal);
  uint64_t id = 0;
  side->begun++;
  OK(moonpool_call(side->mp, &request, on_deal, side, &id, &error));
  CHECK(id != 0);
}

/* The next call from the callback of the last; a reload among them. */
static void on_deal(struct moonpool *mp, const struct moonpool_answer *answer, void *data) {
  struct side *side = (struct side *)data;
  struct moonpool_error error;
  if (!answer->ok) fprintf(stderr, "create_deal: %s\n%s\n", answer->json, answer->detail);
  CHECK(answer->status == 200 && strlen(answer->json) == answer->json_len);
  CHECK(strstr(answer->json, "\"deal\":{") && strlen(answer->call_id) == 36);
  side->committed++;
  if (side->committed % 10 == 0) {
    OK(moonpool_reload(mp, on_verdict, side, &error));
    side->reloads++;
  }
  if (side->begun < CALLS)
    begin_call(side);
  else
    end(side);
}

static void on_ready(struct moonpool *mp, const struct moonpool_verdict *verdict, void *data) {
  struct side *side = (struct side *)data;
  CHECK(mp == side->mp && verdict->ok && verdict->generation == 1);
  side->ready++;
}

void desk_loops(const struct desk *desk) {
  struct side sides[2];
  struct moonpool_error error;
  uv_loop_t loop;
  memset(sides, 0, sizeof sides);
  CHECK(uv_loop_init(&loop) == 0);
  for (int i = 0; i < 2; i++) {
    struct moonpool_options options;
    desk_options(&options, desk->app, desk->url[i]);
    options.loop = &loop;
    options.on_ready = on_ready;
    options.data = &sides[i];
    OK(moonpool_open(&sides[i].mp, &options, &error));
    CHECK(moonpool_close_wait(sides[i].mp) == MOONPOOL_EINVAL); /* the loop is ours */
    sides[i].deal = desk->deal[i];
    for (int n = 0; n < 4; n++) begin_call(&sides[i]); /* held until the files are loaded */
  }
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0); /* ends because both are closed */
  for (int i = 0; i < 2; i++) {
    CHECK(sides[i].ready == 1 && sides[i].closed == 1 && sides[i].canceled == 1);
    CHECK(sides[i].committed == CALLS && sides[i].verdicts > 0);
  }
  CHECK(uv_loop_close(&loop) == 0);
}
