#include "admit/budget.h"

void mp_budget_init(struct mp_budget *budget, double percent, double reserve) {
  *budget = (struct mp_budget){.earn = percent / 100, .most = reserve, .tokens = reserve};
}

void mp_budget_earn(struct mp_budget *budget) {
  budget->tokens += budget->earn;
  if (budget->tokens > budget->most) budget->tokens = budget->most;
}

bool mp_budget_left(const struct mp_budget *budget) {
  return budget->earn <= 0 || budget->tokens >= 1;
}

void mp_budget_spend(struct mp_budget *budget) {
  if (budget->earn > 0) budget->tokens -= 1;
}

void mp_budget_refund(struct mp_budget *budget) { budget->tokens += 1; }
