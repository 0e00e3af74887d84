#include "util/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/metrics_priv.h"
#include "util/utf8.h"

/* 1, 2.5, 5: each about twice the one before, and typical limits are among them. */
static const double seconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                 0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30};

/* ---- names ---- */

static bool name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool good_name(const char *name, bool colon) {
  if (!name || !name_start(*name) || strlen(name) > 120) return false;
  for (; *name; name++)
    if (!name_start(*name) && !(*name >= '0' && *name <= '9') && !(colon && *name == ':'))
      return false;
  return true;
}

static int check(const struct mp_metric_options *o, struct mp_err *err) {
  if (!good_name(o->name, true))
    return mp_err_set(
        err, MP_EINVAL,
        "\"%.60s\" cannot be a metric's name: letters, digits and _, such as orders_total",
        o->name ? o->name : "");
  for (size_t i = 0; i < MP_METRIC_LABELS && o->labels[i]; i++)
    if (!good_name(o->labels[i], false) || !strncmp(o->labels[i], "__", 2) ||
        !strcmp(o->labels[i], "le"))
      return mp_err_set(err, MP_EINVAL, "%s: \"%.60s\" cannot be a label's name", o->name,
                        o->labels[i]);
  if (o->nbounds > MP_METRIC_BOUNDS)
    return mp_err_set(err, MP_EINVAL, "%s: at most %d buckets", o->name, MP_METRIC_BOUNDS);
  for (size_t i = 0; i < o->nbounds; i++)
    if (!isfinite(o->bounds[i]) || (i && o->bounds[i] <= o->bounds[i - 1]))
      return mp_err_set(err, MP_EINVAL, "%s: buckets are finite numbers, each above the last",
                        o->name);
  return 0;
}

/* ---- metrics ---- */

static void write_number(struct mp_buf *out, double value) {
  if (value == floor(value) && fabs(value) < 1e15) {
    mp_buf_addi(out, (long long)value);
  } else if (isnan(value)) {
    mp_buf_adds(out, "NaN");
  } else if (isinf(value)) {
    mp_buf_adds(out, value > 0 ? "+Inf" : "-Inf");
  } else {
    char text[32];
    snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value) snprintf(text, sizeof text, "%.17g", value);
    mp_buf_adds(out, text);
  }
}

static void labeled_free(struct labeled *one) {
  for (size_t i = 0; i < one->nparts; i++) free(one->parts[i].buckets);
  free(one->parts);
  free(one->series.buckets);
  free(one->series.seen);
  MP_FREE_LISTED(one);
}

static void metric_free(struct mp_metric *metric) {
  struct labeled *it, *next;
  HASH_ITER(hh, metric->by_labels, it, next) {
    HASH_DEL(metric->by_labels, it);
    labeled_free(it);
  }
  if (metric->other) labeled_free(metric->other);
  for (size_t i = 0; i < MP_METRIC_LABELS; i++) free(metric->labels[i]);
  free(metric->name);
  free(metric->help);
  free(metric);
}

static bool same(const struct mp_metric *metric, const struct mp_metric_options *o) {
  const double *bounds = o->bounds ? o->bounds : seconds;
  size_t nbounds = o->bounds ? o->nbounds : MP_ARRAY_LEN(seconds);
  if (metric->kind != o->kind) return false;
  for (size_t i = 0; i < MP_METRIC_LABELS; i++) {
    const char *a = metric->labels[i], *b = o->labels[i];
    if (!a != !b || (a && strcmp(a, b) != 0)) return false;
  }
  if (metric->kind != MP_HISTOGRAM) return true;
  return metric->nbounds == nbounds && !memcmp(metric->bounds, bounds, nbounds * sizeof *bounds);
}

struct labeled *mp_labeled_new(const struct mp_metric *metric, const char *labels, size_t len) {
  struct labeled *made = calloc(1, sizeof *made + len + 1);
  if (!made) return NULL;
  memcpy(made->labels, labels, len);
  made->series.bounds = metric->bounds;
  made->series.nbounds = metric->nbounds;
  made->series.largest = metric->merge == MP_MERGE_MAX;
  if (metric->kind != MP_HISTOGRAM) return made;
  made->series.buckets = calloc(metric->nbounds + 1, sizeof *made->series.buckets);
  made->series.seen = calloc(1, sizeof *made->series.seen);
  if (made->series.buckets && made->series.seen) return made;
  free(made->series.buckets);
  free(made->series.seen);
  free(made);
  return NULL;
}

static void link_series(struct mp_metric *metric, struct labeled *made) {
  *metric->last = &made->series;
  metric->last = &made->series.next;
}

static void write_bounds(struct mp_metric *metric) {
  for (size_t i = 0; i < metric->nbounds; i++) {
    struct mp_buf text;
    mp_buf_init(&text, 0);
    write_number(&text, metric->bounds[i]);
    snprintf(metric->le[i], sizeof metric->le[i], "%s", mp_buf_text(&text));
    mp_buf_fini(&text);
  }
  strcpy(metric->le[metric->nbounds], "+Inf");
}

static char *without_breaks(const char *text) {
  char *copy = strdup(text ? text : "");
  for (char *at = copy; copy && *at; at++)
    if (*at == '\n' || *at == '\\' || *at == '\r') *at = ' ';
  return copy;
}

static struct mp_metric *metric_new(const struct mp_metric_options *o) {
  struct mp_metric *metric = calloc(1, sizeof *metric);
  if (!metric) return NULL;
  metric->kind = o->kind;
  metric->merge = o->merge;
  metric->max_series = o->max_series ? o->max_series : MP_METRIC_SERIES;
  metric->last = &metric->first;
  metric->name = strdup(o->name);
  metric->help = without_breaks(o->help);
  bool whole = metric->name && metric->help;
  for (; metric->nlabels < MP_METRIC_LABELS && o->labels[metric->nlabels]; metric->nlabels++)
    whole = (metric->labels[metric->nlabels] = strdup(o->labels[metric->nlabels])) && whole;
  if (o->kind == MP_HISTOGRAM) {
    metric->nbounds = o->bounds ? o->nbounds : MP_ARRAY_LEN(seconds);
    memcpy(metric->bounds, o->bounds ? o->bounds : seconds, metric->nbounds * sizeof(double));
    write_bounds(metric);
  }
  struct mp_buf others;
  mp_buf_init(&others, 0);
  for (size_t i = 0; whole && i < metric->nlabels; i++)
    mp_buf_addf(&others, "%s%s=\"other\"", i ? "," : "", metric->labels[i]);
  if (whole) metric->other = mp_labeled_new(metric, mp_buf_text(&others), others.len);
  mp_buf_fini(&others);
  if (metric->other) {
    if (!metric->nlabels) (void)mp_metric_series(metric, NULL); /* shown as 0 from the start */
    return metric;
  }
  metric_free(metric);
  return NULL;
}

int mp_metrics_add(struct mp_metrics *metrics, const struct mp_metric_options *options,
                   struct mp_metric **out, struct mp_err *err) {
  int rv = check(options, err);
  if (rv) return rv;
  struct mp_metric *metric = mp_metrics_find(metrics, options->name);
  if (metric && !same(metric, options))
    return mp_err_set(err, MP_EINVAL,
                      "%s is there already, as another kind of metric or with other labels or "
                      "buckets: choose another name",
                      options->name);
  if (!metric) {
    if (metrics->count == MP_METRICS_MAX)
      return mp_err_set(err, MP_EBUSY,
                        "there are %d metrics already: put what varies into a label, not a name",
                        MP_METRICS_MAX);
    metric = metric_new(options);
    if (!metric) return mp_err_set(err, MP_ENOMEM, "no memory for a metric");
    *metrics->last = metric;
    metrics->last = &metric->next;
    metrics->count++;
  }
  *out = metric;
  return 0;
}

struct mp_metric *mp_metrics_find(struct mp_metrics *metrics, const char *name) {
  for (struct mp_metric *it = metrics->first; it; it = it->next)
    if (!strcmp(it->name, name)) return it;
  return NULL;
}

const char *mp_metric_name(const struct mp_metric *metric) { return metric->name; }

size_t mp_metric_labels(const struct mp_metric *metric, const char *names[MP_METRIC_LABELS]) {
  for (size_t i = 0; i < metric->nlabels; i++) names[i] = metric->labels[i];
  return metric->nlabels;
}

int mp_metrics_new(struct mp_metrics **out, struct mp_err *err) {
  struct mp_metrics *metrics = calloc(1, sizeof *metrics);
  if (!metrics) return mp_err_set(err, MP_ENOMEM, "no memory for metrics");
  metrics->last = &metrics->first;
  mp_list_init(&metrics->sources);
  *out = metrics;
  return 0;
}

void mp_metrics_unref(struct mp_metrics *metrics) {
  if (!metrics) return;
  while (metrics->first) {
    struct mp_metric *metric = metrics->first;
    metrics->first = metric->next;
    metric_free(metric);
  }
  free(metrics);
}

/* ---- series ---- */

static char *write_value(char *out, const char *at) {
  const char *begin = out;
  while (*at && out - begin < MP_METRIC_LABEL_BYTES) {
    size_t n = mp_utf8_len(at);
    if (*at == '"' || *at == '\\') {
      *out++ = '\\';
      *out++ = *at++;
    } else if (n == 0 || (n == 1 && *at < ' ')) {
      *out++ = *at == '\n' ? ' ' : '?';
      at++;
    } else {
      memcpy(out, at, n);
      out += n;
      at += n;
    }
  }
  return out;
}

struct mp_series *mp_metric_use_other(struct mp_metric *metric) {
  if (!metric->other_used) link_series(metric, metric->other);
  metric->other_used = true;
  return &metric->other->series;
}

struct mp_series *mp_metric_series(struct mp_metric *metric, const char *const *values) {
  if (!metric->nlabels) return mp_metric_use_other(metric);
  char key[MP_METRIC_LABELS * (MP_METRIC_LABEL_BYTES + 130)], *end = key;
  for (size_t i = 0; i < metric->nlabels; i++) {
    if (i) *end++ = ',';
    end = stpcpy(end, metric->labels[i]);
    *end++ = '=';
    *end++ = '"';
    end = write_value(end, values[i] ? values[i] : "");
    *end++ = '"';
  }
  return mp_metric_series_of(metric, key, (size_t)(end - key));
}

struct mp_series *mp_metric_series_of(struct mp_metric *metric, const char *key, size_t len) {
  struct labeled *found;
  HASH_FIND(hh, metric->by_labels, key, len, found);
  if (found) return &found->series;
  if (metric->nseries < metric->max_series) found = mp_labeled_new(metric, key, len);
  if (!found) return mp_metric_use_other(metric);
  HASH_ADD_KEYPTR(hh, metric->by_labels, found->labels, len, found);
  if (!found->hh.tbl) { /* no memory for the table */
    labeled_free(found);
    return mp_metric_use_other(metric);
  }
  metric->nseries++;
  link_series(metric, found);
  return &found->series;
}

static void see(struct mp_series *series, double value) {
  struct mp_seen *seen = series->seen;
  seen->min = seen->n ? fmin(seen->min, value) : value;
  seen->max = seen->n ? fmax(seen->max, value) : value;
  seen->last[seen->n++ % MP_METRIC_LAST] = value;
}

void mp_series_observe(struct mp_series *series, double value) {
  size_t i = 0;
  if (isnan(value)) return;
  see(series, value);
  while (i < series->nbounds && value > series->bounds[i]) i++;
  series->buckets[i]++;
  series->value += value;
}

uint64_t mp_series_count(const struct mp_series *series) { return series->seen->n; }

static int rising(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* All observations are known: take the one of that rank. */
static double exact(const struct mp_series *series, size_t n, double rank) {
  double sorted[MP_METRIC_LAST];
  memcpy(sorted, series->seen->last, n * sizeof *sorted);
  qsort(sorted, n, sizeof *sorted, rising);
  size_t at = (size_t)ceil(rank);
  return sorted[(at < 1 ? 1 : at > n ? n : at) - 1];
}

double mp_series_quantile(const struct mp_series *series, double q) {
  uint64_t n = mp_series_count(series);
  double rank = q * (double)n, below = 0;
  if (!n || !series->nbounds) return 0;
  if (n <= MP_METRIC_LAST) return exact(series, (size_t)n, rank);
  const struct mp_seen *seen = series->seen;
  for (size_t i = 0; i < series->nbounds && rank > 0; i++) {
    double here = (double)series->buckets[i];
    if (here > 0 && below + here >= rank) {
      double low = i ? fmax(series->bounds[i - 1], seen->min) : seen->min;
      double high = fmin(series->bounds[i], seen->max);
      return low + (high - low) * (rank - below) / here;
    }
    below += here;
  }
  return rank > 0 ? seen->max : seen->min;
}

/* ---- the page ---- */

static void write_line(struct mp_buf *out, const struct mp_metric *metric, const char *suffix,
                       const char *labels, const char *le) {
  mp_buf_adds(out, metric->name);
  mp_buf_adds(out, suffix);
  if (*labels || le) {
    mp_buf_addc(out, '{');
    mp_buf_adds(out, labels);
    if (le) {
      mp_buf_adds(out, *labels ? ",le=\"" : "le=\"");
      mp_buf_adds(out, le);
      mp_buf_addc(out, '"');
    }
    mp_buf_addc(out, '}');
  }
  mp_buf_addc(out, ' ');
}

static void write_histogram(struct mp_buf *out, const struct mp_metric *metric,
                            const struct mp_series *series, const char *labels) {
  uint64_t below = 0;
  for (size_t i = 0; i <= metric->nbounds; i++) {
    below += series->buckets[i];
    write_line(out, metric, "_bucket", labels, metric->le[i]);
    mp_buf_addi(out, (long long)below);
    mp_buf_addc(out, '\n');
  }
  write_line(out, metric, "_sum", labels, NULL);
  write_number(out, series->value);
  mp_buf_addc(out, '\n');
  write_line(out, metric, "_count", labels, NULL);
  mp_buf_addi(out, (long long)below);
  mp_buf_addc(out, '\n');
}

void mp_metrics_join(struct mp_metrics *metrics, struct mp_metrics_source *source) {
  mp_list_push_back(&metrics->sources, &source->node);
}

void mp_metrics_leave(struct mp_metrics_source *source) { mp_list_remove(&source->node); }

void mp_metrics_refresh(const struct mp_metrics *metrics) {
  MP_LIST_EACH(node, &metrics->sources) {
    struct mp_metrics_source *source = MP_LIST_ENTRY(node, struct mp_metrics_source, node);
    source->refresh(source);
  }
}

const struct mp_series *mp_metric_first(const struct mp_metric *metric) { return metric->first; }

const char *mp_series_labels(const struct mp_series *series) {
  return ((const struct labeled *)(const void *)series)->labels;
}

void mp_metrics_text(const struct mp_metrics *metrics, struct mp_buf *out) {
  static const char *const kinds[] = {"counter", "gauge", "histogram"};
  mp_metrics_refresh(metrics);
  for (const struct mp_metric *metric = metrics->first; metric; metric = metric->next) {
    mp_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name,
                kinds[metric->kind]);
    for (const struct mp_series *it = metric->first; it; it = it->next) {
      const char *labels = mp_series_labels(it);
      if (metric->kind == MP_HISTOGRAM) {
        write_histogram(out, metric, it, labels);
      } else {
        write_line(out, metric, "", labels, NULL);
        write_number(out, mp_series_value(it));
        mp_buf_addc(out, '\n');
      }
    }
  }
}
