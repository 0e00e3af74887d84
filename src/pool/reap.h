/* reap.h: ends the backend of a connection that was given up or lost without a message from the
 * server. The server notices a half-open link late, and until then the transaction holds its locks.
 */
#ifndef MP_REAP_H
#define MP_REAP_H

#include "pool/pool.h"

/* $1: its pid. $2: the age of our connection in ms: a younger backend with that pid is another one.
 * Only backends of our own role. */
#define MP_REAP_SQL                                                             \
  "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1::int " \
  "and usename = current_user and pid <> pg_backend_pid() "                     \
  "and backend_start <= clock_timestamp() - make_interval(secs => $2::float8 / 1000)"

struct mp_reap_values {
  char pid[16], age_ms[24];
  const char *values[2];
};
void mp_reap_values(struct mp_reap_values *out, int pid, uint64_t age_ms);

/* Does so over another connection of the pool, when one is free. The caller does not wait for it; a
 * failure is ignored. */
void mp_reap(struct mp_pool *pool, struct mp_loop *loop, int pid, uint64_t opened_ms);

#endif
