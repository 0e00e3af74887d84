#include "script/account.h"

#include <stdlib.h>

enum { NARROW_LIMIT = 3 }; /* collections that free less than an eighth of the limit */

struct mp_account *mp_account_new(uint64_t cpu_ms, size_t memory) {
  struct mp_account *account = calloc(1, sizeof *account);
  if (!account) return NULL;
  account->tasks = 1;
  account->cpu_limit_ns = cpu_ms * 1000000;
  account->limit = memory;
  return account;
}

static void free_if_unused(struct mp_account *account) {
  if (!account->tasks && !account->used) free(account);
}

void mp_account_unref(struct mp_account *account) {
  if (!account) return;
  account->tasks--;
  free_if_unused(account);
}

void mp_account_change(struct mp_account *account, size_t old, size_t size) {
  account->used = account->used - old + size;
  if (!size) free_if_unused(account);
}

bool mp_account_grant(struct mp_account *account, size_t old, size_t size) {
  bool fits = !account->limit || account->used - old + size <= account->limit;
  if (fits && !account->collecting) return true;
  if (fits) {
    account->collecting = false;
    if (account->used - old + size < account->limit - account->limit / 8) return true;
    /* A collection for every few blocks would keep the loop busy and get nowhere. */
    if (account->narrow++ < NARROW_LIMIT) return true;
  } else if (!account->collecting) {
    account->collecting = true;
    return false;
  }
  account->collecting = false;
  account->refused++;
  return false;
}
