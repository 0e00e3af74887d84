/* account.h: the limits that a task and the tasks it starts share: CPU time and bytes of Lua's
 * memory.
 *
 * Every block of Lua's memory (vm.c) has an owner: the account of the task that made it, or that
 * last made it grow. It counts there until it is freed, so an account lives as long as its last
 * task or its last block. */
#ifndef MP_ACCOUNT_H
#define MP_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/loop.h"
#include "util/list.h"

struct mp_account {
  uint64_t cpu_ns, cpu_limit_ns; /* 0: no limit */
  uint64_t wall_ms;              /* 0: no limit */
  struct mp_timer deadline;      /* of its tasks (sched.c) */
  size_t used, limit;
  size_t line; /* bytes up to which blocks may grow without a check */
  unsigned tasks;
  uint64_t spun_ns;        /* when one of its tasks last used up its slice */
  struct mp_list members;  /* the tasks that have not ended */
  struct mp_task *founder; /* the task whose end also ends the others; NULL: it has ended */
  size_t pending;          /* size of a block that was refused: Lua may collect and ask again */
  size_t collect_at;       /* bytes from which all garbage is to be collected */
  size_t charged; /* bytes outside of Lua since it was (charge.h): finalizers free them, which Lua's
                   * emergency collections leave out */
  unsigned refused,
      narrow; /* blocks that were refused for good; how often a collection freed next to nothing */
  unsigned vain; /* collections that made no room for a charge (charge.h) */
};

struct mp_account *mp_account_new(uint64_t cpu_ms, size_t memory); /* NULL: no memory */
void mp_account_limit(struct mp_account *account, uint64_t cpu_ms, size_t memory);
static inline struct mp_account *mp_account_ref(struct mp_account *account) {
  if (account) account->tasks++;
  return account;
}
void mp_account_unref(struct mp_account *account); /* NULL is fine */
/* A block of the account changes from `old` to `size` bytes; 0: it does not exist before, or after.
 */
void mp_account_free(struct mp_account *account);
static inline void mp_account_change(struct mp_account *account, size_t old, size_t size) {
  account->used = account->used - old + size;
  if (!account->used && !account->tasks) mp_account_free(account);
}
/* May a block of the account grow, past the line? On false the caller refuses it: Lua then collects
 * all garbage and asks once more. */
bool mp_account_grant(struct mp_account *account, size_t old, size_t size);
/* Whether its own limit has refused a block. Lua may still get the last one on its second try. */
static inline bool mp_account_was_refused(const struct mp_account *account) {
  return account->refused || account->pending;
}
/* Whether garbage should be collected now, before Lua must: buffers of Lua's library fail without
 * trying a collection. */
static inline bool mp_account_wants_collection(const struct mp_account *account) {
  return account->limit &&
         (account->used > account->collect_at ||
          (account->charged > account->limit / 8 && account->used > account->limit / 2));
}
void mp_account_collected(
    struct mp_account *account); /* all garbage was collected: computes when to do it again */
static inline bool mp_account_out_of_time(const struct mp_account *account, uint64_t more_ns) {
  return account->cpu_limit_ns && account->cpu_ns + more_ns > account->cpu_limit_ns;
}
/* Whether more than one block was refused: a pcall had its chance to react to the first. */
static inline bool mp_account_out_of_memory(const struct mp_account *account) {
  return account->refused > 1;
}

#endif
