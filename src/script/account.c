#include "script/account.h"

#include <stdlib.h>

enum {
  NARROW_LIMIT = 3,    /* collections that free less than an eighth of the limit */
  OVERDRAFT_PART = 32, /* of the limit: what tasks may still take until they are ended */
};

struct mp_account *mp_account_new(uint64_t cpu_ms, size_t memory) {
  struct mp_account *account = calloc(1, sizeof *account);
  if (!account) return NULL;
  account->tasks = 1;
  mp_list_init(&account->members);
  mp_account_limit(account, cpu_ms, memory);
  return account;
}

static void draw_line(struct mp_account *account) {
  account->line = account->limit ? account->collect_at : SIZE_MAX;
  if (account->pending || mp_account_out_of_memory(account)) account->line = 0;
}

void mp_account_collected(struct mp_account *account) {
  account->charged = 0;
  size_t room = account->used < account->limit ? account->limit - account->used : 0;
  size_t quarter = account->limit / 4, half = room / 2;
  account->collect_at = account->limit - (account->used < account->limit / 2 ? quarter : half);
  draw_line(account);
}

void mp_account_limit(struct mp_account *account, uint64_t cpu_ms, size_t memory) {
  account->cpu_limit_ns = cpu_ms * 1000000;
  account->limit = memory;
  mp_account_collected(account);
}

void mp_account_free(struct mp_account *account) { free(account); }

void mp_account_unref(struct mp_account *account) {
  if (!account) return;
  if (--account->tasks == 0) mp_timer_stop(&account->deadline);
  if (!account->used && !account->tasks) mp_account_free(account);
}

static bool grant(struct mp_account *account, size_t old, size_t size) {
  /* The task is being ended: only its <close> variables run, and a refused block would first cost
   * a full collection. */
  if (mp_account_out_of_memory(account) &&
      account->used - old + size <= account->limit + account->limit / OVERDRAFT_PART)
    return true;
  /* Lua asks for the same block again after a collection; the buffers of its library do not. */
  bool again = account->pending == size;
  if (account->pending && !again) account->refused++;
  account->pending = 0;
  size_t used = account->used - old + size;
  if (used <= account->limit) {
    /* A full collection for every few blocks would hold the loop and free almost nothing. */
    if (!again || used < account->limit - account->limit / 8) return true;
    if (account->narrow++ < NARROW_LIMIT) return true;
  } else if (!again) {
    account->pending = size;
    return false;
  }
  account->refused++;
  return false;
}

bool mp_account_grant(struct mp_account *account, size_t old, size_t size) {
  if (!account->limit) return true;
  bool granted = grant(account, old, size);
  draw_line(account);
  return granted;
}
