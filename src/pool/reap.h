/* reap.h: ends a backend whose connection was given up or lost without a word of the server's:
 * half-open links are noticed late, and until then its transaction holds its locks. */
#ifndef MP_REAP_H
#define MP_REAP_H

#include "pool/pool.h"

/* $1: its pid, $2: for how many milliseconds our connection to it has existed: a younger one of
 * that pid is another's. Only backends of our own role. */
#define MP_REAP_SQL                                                             \
  "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1::int " \
  "and usename = current_user and pid <> pg_backend_pid() "                     \
  "and backend_start <= clock_timestamp() - make_interval(secs => $2::float8 / 1000)"

struct mp_reap_values {
  char pid[16], age_ms[24];
  const char *values[2];
};
void mp_reap_values(struct mp_reap_values *out, int pid, uint64_t age_ms);

/* By another connection of the pool, when there is one; nobody waits for it, and its failure is no
 * matter. */
void mp_reap(struct mp_pool *pool, struct mp_loop *loop, int pid, uint64_t opened_ms);

#endif
