/* budget.h: how much of the host's work may be retries. Each call earns a part of a token, each
 * retry costs a whole one; an empty purse means that failures are told instead of repeated, so that
 * an outage or a pile-up is not amplified by a host that sends everything several times.
 *
 * Each tenant's calls of an operation have a purse of their own, and the host has one that all pay
 * into and from: who only fails spends his own, long before the host's. There is a bounded number
 * of purses: one that gives way to another begins anew, and the host's still counts.
 *
 * Pure: no clock. A value in its owner's memory (the runtime's). */
#ifndef MP_BUDGET_H
#define MP_BUDGET_H

#include <stdint.h>

enum { MP_BUDGET_PURSES = 1024 };

struct mp_budget {
  double earn;           /* per call */
  double most, own_most; /* the host's purse, and each other, hold no more */
  double tokens;         /* the host's */
  struct mp_purse {
    uint64_t key;
    double tokens;
  } purses[MP_BUDGET_PURSES];
};

enum mp_budget_left { MP_BUDGET_LEFT, MP_BUDGET_OWN_SPENT, MP_BUDGET_HOST_SPENT };

/* `percent`: retries per hundred calls in the long run; 0: no limit. `reserve`, `own`: retries that
 * the host, and each purse, always has at first, and saves up to at most: short bursts of conflicts
 * are normal. */
void mp_budget_init(struct mp_budget *budget, double percent, double reserve, double own);
/* The key of a purse. `tenant` may be NULL. */
uint64_t mp_budget_key(const char *operation, const char *tenant);
void mp_budget_earn(struct mp_budget *budget, uint64_t key); /* a call has come */
enum mp_budget_left mp_budget_left(const struct mp_budget *budget, uint64_t key);
void mp_budget_spend(struct mp_budget *budget, uint64_t key);  /* a retry happens */
void mp_budget_refund(struct mp_budget *budget, uint64_t key); /* one that is not to count */

#endif
