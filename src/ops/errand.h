/* errand.h: a call that the front may hand to another worker, and its answer's way back.
 *
 *              go                     mp_errand_answer
 *   HOME ------------> AWAY ------------------------------> HOME   then `back`
 *                       \--> RECALLED -----------------------> (gone), without `back`
 *                     cancel
 *
 * An errand is one block of memory with copies of all texts. Owner: the front while it is HOME, the
 * worker while it is AWAY. A recall travels behind the call as a letter of its own; the errand is
 * freed when that letter is back, so that it never meets memory that is gone. */
#ifndef MP_ERRAND_H
#define MP_ERRAND_H

#include "ops/crew.h"
#include "ops/order.h"

struct mp_errand;

struct mp_errand_events {
  /* On the worker's thread: starts the call. It is answered once, by mp_errand_answer; also in
   * `recall`, if that comes first. */
  void (*begin)(struct mp_errand *errand);
  void (*recall)(struct mp_errand *errand);
  /* On the front's: HOME again. The answer is valid until it returns. */
  void (*back)(struct mp_errand *errand, const struct mp_invoke_answer *answer);
};

/* Copies the options. `data` is the front's. */
int mp_errand_new(struct mp_errand **out, struct mp_crew *crew,
                  const struct mp_invoke_options *options, const struct mp_errand_events *events,
                  void *data, struct mp_err *err) MP_MUST_CHECK;
/* HOME only. */
void mp_errand_free(struct mp_errand *errand);
void mp_errand_go(struct mp_errand *errand, unsigned worker);
/* Away only: nobody waits for it any more, and `data` may be gone. */
void mp_errand_cancel(struct mp_errand *errand);
void *mp_errand_data(const struct mp_errand *errand);
/* Its holder may change the numbers. */
struct mp_invoke_options *mp_errand_options(struct mp_errand *errand);

/* ---- on the worker's thread ---- */

struct mp_generations *mp_errand_generations(const struct mp_errand *errand);
/* What the worker keeps with it; NULL at first. */
void **mp_errand_work(struct mp_errand *errand);
/* Copies the answer and sends it home. */
void mp_errand_answer(struct mp_errand *errand, const struct mp_invoke_answer *answer);

#endif
