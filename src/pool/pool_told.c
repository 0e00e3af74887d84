/* pool_told.c: the pool's reports: who holds which connection, statistics, errors of waiters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/redact.h"
#include "pool/pool_internal.h"
#include "util/buf.h"
#include "util/log.h"

enum {
  HOLDERS_TOLD = 3,  /* in one message */
  HOLDER_SIZE = 180, /* bytes for one holder at most */
  SQL_TOLD = 60,     /* bytes of a running statement in messages */
};

/* Without its values, cut between characters. */
static void add_sql(struct mp_buf *buf, const char *sql) {
  char *shown = mp_sql_redacted(sql);
  size_t n = shown ? strlen(shown) : 0, end = n < SQL_TOLD ? n : SQL_TOLD;
  while (end < n && end && ((unsigned char)shown[end] & 0xC0) == 0x80) end--;
  if (shown) mp_buf_add(buf, shown, end);
  if (end < n) mp_buf_adds(buf, "...");
  free(shown);
}

/* The holder and for how long. The statement goes to the log only. */
static void add_holder(struct mp_pool *pool, struct mp_buf *buf, const struct mp_lease *lease,
                       bool with_sql) {
  uint64_t held_ms = mp_pool_now_ms(pool) - lease->since_ms;
  const char *sql = lease->conn ? mp_conn_running_sql(lease->conn) : NULL;
  mp_buf_addf(buf, "%.60s for %u.%u s, %s", lease->where[0] ? lease->where : "(unnamed)",
              (unsigned)(held_ms / 1000), (unsigned)(held_ms % 1000 / 100),
              sql ? "a statement running" : "no statement running");
  if (!sql || !with_sql) return;
  mp_buf_adds(buf, ": \"");
  add_sql(buf, sql);
  mp_buf_addc(buf, '"');
}

static void add_holders(struct mp_pool *pool, struct mp_buf *buf, const char *before) {
  unsigned told = 0;
  MP_LIST_EACH(it, &pool->holders) {
    if (told == HOLDERS_TOLD || buf->len + HOLDER_SIZE > buf->max) break;
    mp_buf_adds(buf, told++ ? "; " : before);
    add_holder(pool, buf, MP_LIST_ENTRY(it, struct mp_lease, node), false);
  }
}

void mp_pool_holders(struct mp_pool *pool, char *out, size_t size) {
  struct mp_buf buf;
  mp_buf_init(&buf, size - 1);
  add_holders(pool, &buf, "");
  snprintf(out, size, "%s", mp_buf_text(&buf));
  mp_buf_fini(&buf);
}

void mp_pool_timeout_error(struct mp_pool *pool, const struct mp_lease *lease, struct mp_err *err) {
  struct mp_policy_counts counts;
  mp_policy_counts(pool->policy, &counts);
  struct mp_buf buf;
  mp_buf_init(&buf, sizeof err->msg - 1);
  uint64_t waited_ms = mp_pool_now_ms(pool) - lease->since_ms;
  mp_buf_addf(&buf,
              "no database connection became free within %u.%03u s (%u of %u in use, %u more wait)",
              (unsigned)(waited_ms / 1000), (unsigned)(waited_ms % 1000),
              counts.slots[MP_SLOT_BUSY], counts.max, counts.waiting);
  if (pool->outage_told) mp_buf_addf(&buf, "; last connect failed: %.110s", pool->last_error);
  add_holders(pool, &buf, "; held by ");
  mp_err_set(err, MP_ETIMEOUT, "%s", mp_buf_text(&buf));
  mp_buf_fini(&buf);
}

void mp_pool_tell_leak(struct pool_slot *slot) {
  struct mp_lease *lease = slot->lease;
  if (!lease || lease->leak_told) return;
  lease->leak_told = true;
  struct mp_buf buf;
  mp_buf_init(&buf, 400);
  add_holder(slot->pool, &buf, lease, true);
  mp_log(MP_LOG_WARN, "pool",
         "a database connection is held for longer than MOONPOOL_LEAK_THRESHOLD: %s",
         mp_buf_text(&buf));
  mp_buf_fini(&buf);
}

void mp_pool_stats(const struct mp_pool *pool, struct mp_pool_stats *out) {
  struct mp_policy_counts counts;
  const struct mp_lease *oldest = mp_policy_oldest(pool->policy);
  uint64_t now = mp_pool_now_ms(pool);
  mp_policy_counts(pool->policy, &counts);
  *out = (struct mp_pool_stats){
      .total = counts.total,
      .idle = counts.slots[MP_SLOT_IDLE] + counts.slots[MP_SLOT_PINGING],
      .active = counts.slots[MP_SLOT_BUSY],
      .waiting = counts.waiting,
      .connecting = counts.slots[MP_SLOT_CONNECTING],
      .parked = counts.slots[MP_SLOT_PARKED],
      .max = counts.max,
      .min = counts.min,
      .acquires = counts.acquires,
      .timeouts = counts.timeouts,
      .refused = counts.refused,
      .connects = counts.connects,
      .connect_failures = counts.connect_failures,
      .lost = counts.lost,
      .leaks = counts.leaks,
      .started_ms = pool->started_ms,
      .healthy = counts.healthy,
      .full_ms = counts.full_since_ms == MP_POLICY_NEVER ? 0 : now - counts.full_since_ms,
      .waited_ms = oldest ? now - oldest->since_ms : 0,
  };
  memcpy(out->last_sqlstate, pool->last_sqlstate, sizeof out->last_sqlstate);
  memcpy(out->last_error, pool->last_error, sizeof out->last_error);
}
