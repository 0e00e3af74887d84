/* metrics_priv.h: the meters inside, for metrics.c and peers.c. */
#ifndef MP_METERS_PRIV_H
#define MP_METERS_PRIV_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "watch/failed_calls.h"
#include "watch/meter_map.h"
#include "watch/metrics.h"

#define MP_TX_RETRIES_KINDS (MP_TX_HOST_RETRIES_SPENT + 1)

struct mp_op_counts {
  uint64_t failed, retried;
};

struct mp_op_meters { /* what an operation counts in */
  UT_hash_handle hh;
  char name[64];
  struct mp_series *queries, *slow, *round_trips, *retries[MP_RETRY_COUNT];
  struct mp_series *refused[MP_TX_RETRIES_KINDS];
  struct {
    struct mp_series *duration, *ends[MP_TX_END_COUNT];
    struct mp_op_counts own, others; /* others: of the other workers */
  } at[MP_SERIALIZABLE + 1];         /* by isolation */
};

struct mp_meters {
  struct mp_metrics *metrics;
#define X(field, name, kind, help, ...) struct mp_metric *field;
  MP_METER_MAP(X)
#undef X
  struct mp_op_meters *ops, other; /* `other`: beyond the limit */
  struct mp_totals totals;
  struct mp_list binds; /* of the runtime's VMs */
  struct mp_failed_calls *failed;
  char *alerts;
  struct mp_watch_report *peers[MP_WATCH_PEERS]; /* the last of each other worker */
};

/* The operation's meters; made if it is new. */
struct mp_op_meters *mp_meters_op(struct mp_meters *meters, const char *name);
/* Finds the series of an operation's durations and ends at that isolation level. */
void mp_meters_op_series(struct mp_meters *meters, struct mp_op_meters *op,
                         enum mp_isolation isolation);

#endif
