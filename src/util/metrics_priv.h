/* metrics_priv.h: a registry inside, for metrics.c and metrics_merge.c. */
#ifndef MP_METRICS_PRIV_H
#define MP_METRICS_PRIV_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "util/metrics.h"

/* What another worker has counted in a series, as it was last absorbed. */
struct metric_part {
  double value;
  uint64_t set_ns;      /* as in its series */
  uint64_t *buckets, n; /* of a histogram */
};

struct labeled {
  struct mp_series series;   /* first: a handle is its series */
  struct metric_part *parts; /* of the other workers, by their number; made when first absorbed */
  size_t nparts;
  UT_hash_handle hh;
  char labels[]; /* as they are written: operation="x",isolation="y"; the key */
};

struct mp_metric {
  struct mp_metric *next;
  char *name, *help;
  enum mp_metric_kind kind;
  enum mp_metric_merge merge;
  char *labels[MP_METRIC_LABELS];
  size_t nlabels, max_series, nseries;
  double bounds[MP_METRIC_BOUNDS];
  char le[MP_METRIC_BOUNDS + 1][24]; /* the bounds as they are written */
  size_t nbounds;
  struct labeled *by_labels;
  struct labeled
      *other;      /* counts all beyond the limit; in a metric without labels the only series */
  bool other_used; /* it is on the page */
  struct mp_series *first, **last;
};

struct mp_metrics {
  struct mp_metric *first, **last;
  size_t count;
  struct mp_list sources;
};

struct labeled *mp_labeled_new(const struct mp_metric *metric, const char *labels, size_t len);
struct mp_series *mp_metric_use_other(struct mp_metric *metric);
/* The series with these labels as they are written; made if it is new. */
struct mp_series *mp_metric_series_of(struct mp_metric *metric, const char *key, size_t len);

#endif
