/* budget.h: how much of the host's work may be retries. Each call earns a part of a token, each retry costs a
 * whole one; an empty purse means that failures are told instead of repeated, so that an outage or a pile-up is
 * not amplified by a host that sends everything several times.
 *
 * Pure: no clock. A value in its owner's memory (the runtime's). */
#ifndef MP_BUDGET_H
#define MP_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct mp_budget {
  double earn, most; /* per call; the purse holds no more */
  double tokens;
};

/* `percent`: retries per hundred calls in the long run; 0: no limit. `reserve`: retries that are always
 * allowed at first, and saved up to at most: short bursts of conflicts are normal. */
void mp_budget_init(struct mp_budget *budget, double percent, double reserve);
void mp_budget_earn(struct mp_budget *budget);       /* a call has come */
bool mp_budget_left(const struct mp_budget *budget); /* a retry would be allowed */
void mp_budget_spend(struct mp_budget *budget);      /* a retry happens */
void mp_budget_refund(struct mp_budget *budget);     /* one that is not to count */

#endif
