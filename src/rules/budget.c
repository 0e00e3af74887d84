#include "rules/budget.h"

#include <string.h>

#include "util/hash.h"

void mp_budget_init(struct mp_budget *budget, double percent, double reserve, double own) {
  *budget = (struct mp_budget){
      .earn = percent / 100, .most = reserve, .own_most = own, .tokens = reserve};
  for (size_t i = 0; i < MP_BUDGET_PURSES; i++) budget->purses[i] = (struct mp_purse){i, own};
}

/* The end of each text counts, and NULL is not "". */
static uint64_t add(uint64_t hash, const char *text) {
  char end = text ? 0 : 1;
  if (text) hash = mp_hash(hash, text, strlen(text));
  return mp_hash(hash, &end, 1);
}

uint64_t mp_budget_key(const char *operation, const char *tenant) {
  return add(add(MP_HASH_START, operation), tenant);
}

static double tokens_of(const struct mp_budget *budget, uint64_t key) {
  const struct mp_purse *purse = &budget->purses[key % MP_BUDGET_PURSES];
  return purse->key == key ? purse->tokens : budget->own_most;
}

static void change(struct mp_budget *budget, uint64_t key, double by) {
  double own = tokens_of(budget, key) + by;
  budget->purses[key % MP_BUDGET_PURSES] =
      (struct mp_purse){key, own > budget->own_most ? budget->own_most : own};
  budget->tokens += by;
  if (budget->tokens > budget->most) budget->tokens = budget->most;
}

void mp_budget_earn(struct mp_budget *budget, uint64_t key) { change(budget, key, budget->earn); }

enum mp_budget_left mp_budget_left(const struct mp_budget *budget, uint64_t key) {
  if (budget->earn <= 0) return MP_BUDGET_LEFT;
  if (tokens_of(budget, key) < 1) return MP_BUDGET_OWN_SPENT;
  return budget->tokens < 1 ? MP_BUDGET_HOST_SPENT : MP_BUDGET_LEFT;
}

void mp_budget_spend(struct mp_budget *budget, uint64_t key) {
  if (budget->earn > 0) change(budget, key, -1);
}

void mp_budget_refund(struct mp_budget *budget, uint64_t key) { change(budget, key, 1); }
