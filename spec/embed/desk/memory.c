/* memory.c: a program's memory may be used up at any of the library's requests for it. A function
 * then returns an error, and the program goes on. */
#include "check.h"
#include "refuse.h"

/* ---- opening ---- */

/* Requests that an open makes until it succeeds. */
static void open_with_little(const struct desk *desk) {
  struct moonpool_error error;
  struct moonpool_options options;
  struct moonpool *mp = NULL;
  desk_options(&options, desk->workshop, desk->url[0]);
  for (long n = 0; !mp; n += n < 40 ? 1 : 5) {
    desk_refuse(n, DESK_ONE);
    int rv = moonpool_open(&mp, &options, &error);
    desk_grant();
    CHECK(mp ? rv == 0 : rv < 0 && *error.message);
  }
  CHECK(moonpool_close_wait(mp) == 0);
}

/* ---- calling ---- */

static void on_answer(struct moonpool *mp, const struct moonpool_answer *answer, void *data) {
  (void)mp;
  CHECK(answer->ok || answer->status >= 500);
  ++*(int *)data;
}

/* What a function has begun ends; what it has refused was not begun. */
static void call_with_little(const struct desk *desk) {
  struct moonpool_error error;
  struct moonpool_options options;
  struct moonpool_request request = desk_request("greet", "{}");
  struct moonpool *mp = NULL;
  int begun = 0, answered = 0;
  desk_options(&options, desk->workshop, desk->url[0]);
  OK(moonpool_open(&mp, &options, &error));
  for (int ready = 0; ready < 2; ready++) { /* held; begun at once */
    int succeeded = 0;
    for (long n = 0; !succeeded; n++) {
      desk_refuse(n, DESK_ONE);
      int rv = moonpool_call(mp, &request, on_answer, &answered, NULL, &error);
      desk_grant();
      succeeded = !rv;
      begun += succeeded;
      CHECK(!rv || rv == MOONPOOL_ENOMEM || rv == MOONPOOL_EBUSY);
    }
    while (answered < begun) moonpool_run_once(mp, 1);
  }
  CHECK(moonpool_close_wait(mp) == 0);
}

void desk_memory(const struct desk *desk) {
  open_with_little(desk);
  call_with_little(desk);
}
