/* budget.h: how much of the host's work may be retries. Each call earns a part of a token, each
 * retry costs a whole one. When the purse is empty, failures are reported instead of retried, so
 * that the host does not amplify an outage by sending everything several times. The calls of one
 * operation by one tenant share a purse, and all calls share the host's purse. A tenant whose calls
 * only fail empties its own purse long before the host's. The number of purses is bounded: a purse
 * that is evicted starts full again, but the host's purse still counts.
 *
 * Pure: no clock. A value in its owner's memory (the runtime's). */
#ifndef MP_BUDGET_H
#define MP_BUDGET_H

#include <stdint.h>

enum { MP_BUDGET_PURSES = 1024 };

struct mp_budget {
  double earn;           /* per call */
  double most, own_most; /* the most that the host's purse, and each other purse, can hold */
  double tokens;         /* the host's */
  struct mp_purse {
    uint64_t key;
    double tokens;
  } purses[MP_BUDGET_PURSES];
};

enum mp_budget_left { MP_BUDGET_LEFT, MP_BUDGET_OWN_SPENT, MP_BUDGET_HOST_SPENT };

/* `percent`: retries per hundred calls in the long run; 0: no limit. `reserve`, `own`: what the
 * host's purse, and each other purse, holds at the start and at most; it pays for short bursts of
 * conflicts, which are normal. */
void mp_budget_init(struct mp_budget *budget, double percent, double reserve, double own);
/* The key of a purse. `tenant` may be NULL. */
uint64_t mp_budget_key(const char *operation, const char *tenant);
void mp_budget_earn(struct mp_budget *budget, uint64_t key); /* a call has come */
enum mp_budget_left mp_budget_left(const struct mp_budget *budget, uint64_t key);
void mp_budget_spend(struct mp_budget *budget, uint64_t key);  /* a retry happens */
void mp_budget_refund(struct mp_budget *budget, uint64_t key); /* gives back one retry */

#endif
