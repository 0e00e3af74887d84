/* metrics_merge.c: the registries of several workers of one host, shown as one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/metrics_priv.h"

/* ---- a copy ---- */

static struct mp_metric *metric_like(struct mp_metrics *in, const struct mp_metric *from) {
  struct mp_metric_options options = {.name = from->name,
                                      .help = from->help,
                                      .kind = from->kind,
                                      .merge = from->merge,
                                      .max_series = from->max_series,
                                      .bounds = from->kind == MP_HISTOGRAM ? from->bounds : NULL,
                                      .nbounds = from->nbounds};
  struct mp_metric *made;
  struct mp_err err;
  for (size_t i = 0; i < from->nlabels; i++) options.labels[i] = from->labels[i];
  return mp_metrics_add(in, &options, &made, &err) ? NULL : made;
}

/* The series of `in` that counts the same as `series` of another registry. */
static struct mp_series *series_like(struct mp_metric *in, const struct mp_series *series) {
  const char *key = mp_series_labels(series);
  if (!strcmp(key, in->other->labels)) return mp_metric_use_other(in);
  return mp_metric_series_of(in, key, strlen(key));
}

static void copy_values(struct mp_series *to, const struct mp_series *from) {
  to->value = from->value;
  to->set_ns = from->set_ns;
  if (!from->buckets) return;
  memcpy(to->buckets, from->buckets, (from->nbounds + 1) * sizeof *from->buckets);
  *to->seen = *from->seen;
}

struct mp_metrics *mp_metrics_copy(const struct mp_metrics *metrics) {
  struct mp_metrics *copy;
  struct mp_err err;
  if (mp_metrics_new(&copy, &err)) return NULL;
  for (const struct mp_metric *it = metrics->first; it; it = it->next) {
    struct mp_metric *made = it->merge == MP_MERGE_OWN ? NULL : metric_like(copy, it);
    for (const struct mp_series *one = made ? it->first : NULL; one; one = one->next)
      copy_values(series_like(made, one), one);
  }
  return copy;
}

/* ---- absorbing it ---- */

static struct metric_part *part_of(struct labeled *of, unsigned worker) {
  if (worker < of->nparts) return &of->parts[worker];
  struct metric_part *parts = realloc(of->parts, (worker + 1) * sizeof *parts);
  if (!parts) return NULL;
  memset(parts + of->nparts, 0, (worker + 1 - of->nparts) * sizeof *parts);
  of->parts = parts;
  of->nparts = worker + 1;
  return &parts[worker];
}

static void absorb_value(struct labeled *into, struct metric_part *part,
                         const struct mp_series *from) {
  const struct metric_part *newest = part;
  struct mp_series *series = &into->series;
  part->value = from->value;
  part->set_ns = from->set_ns;
  series->others = 0;
  for (size_t i = 0; i < into->nparts; i++) {
    const struct metric_part *one = &into->parts[i];
    if (one->set_ns > newest->set_ns) newest = one;
    series->others =
        series->largest ? fmax(series->others, one->value) : series->others + one->value;
  }
  series->others_ns = newest->set_ns;
  if (newest->set_ns) series->others = newest->value;
}

/* What is new in `from`: its observations, as far as it still has them, and the sums. */
static void absorb_histogram(struct labeled *into, struct metric_part *part,
                             const struct mp_series *from) {
  struct mp_series *series = &into->series;
  size_t n = from->nbounds + 1;
  if (!part->buckets) part->buckets = calloc(n, sizeof *part->buckets);
  if (!part->buckets || series->nbounds != from->nbounds || from->seen->n == part->n) return;
  for (size_t i = 0; i < n; i++) {
    series->buckets[i] += from->buckets[i] - part->buckets[i];
    part->buckets[i] = from->buckets[i];
  }
  series->value += from->value - part->value;
  part->value = from->value;
  struct mp_seen *seen = series->seen;
  uint64_t fresh = from->seen->n - part->n;
  seen->min = seen->n ? fmin(seen->min, from->seen->min) : from->seen->min;
  seen->max = seen->n ? fmax(seen->max, from->seen->max) : from->seen->max;
  uint64_t known = fresh < MP_METRIC_LAST ? fresh : MP_METRIC_LAST;
  seen->n += fresh - known;
  for (uint64_t i = known; i > 0; i--)
    seen->last[seen->n++ % MP_METRIC_LAST] = from->seen->last[(from->seen->n - i) % MP_METRIC_LAST];
  part->n = from->seen->n;
}

void mp_metrics_absorb(struct mp_metrics *metrics, const struct mp_metrics *copy, unsigned worker) {
  for (const struct mp_metric *it = copy->first; it; it = it->next) {
    struct mp_metric *into = metric_like(metrics, it);
    for (const struct mp_series *from = into ? it->first : NULL; from; from = from->next) {
      struct labeled *of = (struct labeled *)(void *)series_like(into, from);
      struct metric_part *part = part_of(of, worker);
      if (part && from->buckets)
        absorb_histogram(of, part, from);
      else if (part)
        absorb_value(of, part, from);
    }
  }
}
