/* metrics.h: counters, gauges and histograms, and the text in which Prometheus reads them.
 *
 * A registry holds metrics by name; a metric holds one series for each combination of label values
 * that it has seen, up to a limit. Further combinations are counted under the label value "other",
 * so that memory and the page stay bounded whatever labels a script uses. A series is found once
 * and kept: then counting is a plain addition. Series live as long as their registry; nothing is
 * ever removed. Durations are seconds, sizes are bytes (Prometheus' base units). Owner: the
 * runtime. Thread: the loop's. */
#ifndef MP_METRICS_H
#define MP_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/buf.h"
#include "util/err.h"
#include "util/list.h"

struct mp_metrics;
struct mp_metric;

enum mp_metric_kind { MP_COUNTER, MP_GAUGE, MP_HISTOGRAM };

/* What the page shows of a metric that several workers of one host count. */
enum mp_metric_merge {
  MP_MERGE_SUM,
  MP_MERGE_MAX, /* of a counter or a gauge */
  MP_MERGE_OWN, /* the front's value: of what the workers have in common */
};

#define MP_METRIC_LABELS 4        /* label names of one metric */
#define MP_METRIC_BOUNDS 32       /* buckets of one histogram, the last (+Inf) not counted */
#define MP_METRIC_SERIES 100      /* default limit */
#define MP_METRIC_LABEL_BYTES 100 /* longer label values are cut */
#define MP_METRICS_MAX 500        /* metrics of one registry */
#define MP_METRIC_LAST 32         /* observations of a histogram's series that are known exactly */

struct mp_metric_options {
  const char *name; /* "moonpool_transactions_total"; copied, like all strings here */
  const char *help; /* one sentence */
  enum mp_metric_kind kind;
  enum mp_metric_merge merge;
  const char *labels[MP_METRIC_LABELS]; /* names, NULL behind the last */
  size_t max_series;                    /* 0: MP_METRIC_SERIES */
  const double *bounds;                 /* of a histogram, rising; NULL: seconds, 100 µs to 30 s */
  size_t nbounds;
};

/* Exact values, which buckets lose: a percentile must not lie beyond the largest observation. */
struct mp_seen {
  uint64_t n;
  double min, max;
  double last[MP_METRIC_LAST]; /* the n-th, from 0 on, at n % MP_METRIC_LAST */
};

struct mp_series {
  double value;         /* counter, gauge; histogram: the sum of what was observed */
  double others;        /* counter, gauge: what other workers have (mp_metrics_absorb) */
  bool largest;         /* MP_MERGE_MAX */
  uint64_t set_ns;      /* when mp_series_set_last has set `value`; 0: never ... */
  uint64_t others_ns;   /* ... and `others`: the newest of them alone counts */
  uint64_t *buckets;    /* histogram: by bound, the last is +Inf; not cumulative */
  const double *bounds; /* of its metric */
  size_t nbounds;
  struct mp_seen *seen; /* histogram */
  struct mp_series *next;
};

int mp_metrics_new(struct mp_metrics **out, struct mp_err *err) MP_MUST_CHECK;
void mp_metrics_unref(struct mp_metrics *metrics);

/* The metric of that name, made if it is new. MP_EINVAL: the name or a label is not valid
 * in Prometheus, or the name is taken by a metric of another kind, with other labels or other
 * buckets. MP_EBUSY: too many. */
int mp_metrics_add(struct mp_metrics *metrics, const struct mp_metric_options *options,
                   struct mp_metric **out, struct mp_err *err) MP_MUST_CHECK;
struct mp_metric *mp_metrics_find(struct mp_metrics *metrics, const char *name);
const char *mp_metric_name(const struct mp_metric *metric);
/* The names, as many as there are; returns how many. */
size_t mp_metric_labels(const struct mp_metric *metric, const char *names[MP_METRIC_LABELS]);

/* The series with these label values, one value per label name (NULL counts as ""). Never NULL:
 * beyond the limit, or without memory, it is the series whose values are all "other". */
struct mp_series *mp_metric_series(struct mp_metric *metric, const char *const *values);

/* ---- counting ---- */

static inline void mp_series_add(struct mp_series *series, double n) { series->value += n; }
static inline void mp_series_set(struct mp_series *series, double value) { series->value = value; }
/* The same at this time of the monotonic clock: of several workers the last one that did so has the
 * value of the host. */
static inline void mp_series_set_last(struct mp_series *series, double value, uint64_t now_ns) {
  series->value = value;
  series->set_ns = now_ns;
}
void mp_series_observe(struct mp_series *series, double value);
static inline void mp_series_observe_us(struct mp_series *series, uint64_t us) {
  mp_series_observe(series, (double)us / 1e6);
}

/* ---- reading ---- */

/* Of a counter or a gauge, with what other workers have. */
static inline double mp_series_value(const struct mp_series *series) {
  if (series->set_ns || series->others_ns)
    return series->set_ns >= series->others_ns ? series->value : series->others;
  if (!series->largest) return series->value + series->others;
  return series->value > series->others ? series->value : series->others;
}
uint64_t mp_series_count(const struct mp_series *series); /* of a histogram's observations */
/* The q-quantile (0 to 1) of the observations: exact for up to MP_METRIC_LAST of them, else
 * interpolated inside its bucket, but never outside of the smallest and largest observation; 0 if
 * there is none. */
double mp_series_quantile(const struct mp_series *series, double q);

/* A source whose numbers are read when the page is written: its callback brings its series up to
 * date first. It lives in its owner's memory, which must remove it before that memory is freed. */
struct mp_metrics_source {
  struct mp_list node;
  void (*refresh)(struct mp_metrics_source *source);
};
void mp_metrics_join(struct mp_metrics *metrics, struct mp_metrics_source *source);
void mp_metrics_leave(struct mp_metrics_source *source);

/* Brings all series up to date. */
void mp_metrics_refresh(const struct mp_metrics *metrics);
/* The first series of a metric, or NULL; its `next` is the next one. */
const struct mp_series *mp_metric_first(const struct mp_metric *metric);
/* The label values as they are on the page: operation="x",isolation="y" */
const char *mp_series_labels(const struct mp_series *series);

/* A registry with the same values, for another thread to read. NULL: no memory. */
struct mp_metrics *mp_metrics_copy(const struct mp_metrics *metrics);
/* Replaces what worker `worker` (not 0) had counted by what its copy has. */
void mp_metrics_absorb(struct mp_metrics *metrics, const struct mp_metrics *copy, unsigned worker);

/* Writes all series in the text format 0.0.4, in the order in which the metrics were made. A metric
 * without series is listed by its help and kind, so that alert rules and dashboards can be checked
 * against the page. */
void mp_metrics_text(const struct mp_metrics *metrics, struct mp_buf *out);

#endif
