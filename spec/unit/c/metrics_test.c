/* metrics_test.c: what Lua cannot reach of util/metrics.h: quantiles, limits of a registry, the
 * cost of a page. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "util/metrics.h"

static struct mp_metrics *registry(void) {
  struct mp_metrics *metrics = NULL;
  struct mp_err err;
  if (mp_metrics_new(&metrics, &err)) exit(1);
  return metrics;
}

static struct mp_metric *add(struct mp_metrics *metrics, struct mp_metric_options options) {
  struct mp_metric *metric = NULL;
  struct mp_err err;
  if (mp_metrics_add(metrics, &options, &metric, &err)) {
    printf("%s: %s\n", options.name, err.msg);
    exit(1);
  }
  return metric;
}

static void quantiles(void) {
  struct mp_metrics *metrics = registry();
  struct mp_series *s = mp_metric_series(
      add(metrics, (struct mp_metric_options){.name = "h", .help = "H.", .kind = MP_HISTOGRAM}),
      NULL);
  CHECK(mp_series_quantile(s, 0.99) == 0 && mp_series_count(s) == 0);
  for (int i = 0; i < 98; i++) mp_series_observe(s, 0.002);
  mp_series_observe(s, 0.7);
  mp_series_observe(s, 1000);
  CHECK(mp_series_count(s) == 100);
  CHECK(mp_series_quantile(s, 0.5) > 0.001 && mp_series_quantile(s, 0.5) <= 0.0025);
  CHECK(mp_series_quantile(s, 0.99) > 0.5 && mp_series_quantile(s, 0.99) <= 1);
  CHECK(mp_series_quantile(s, 1) == 1000); /* beyond the last bound: the greatest that was seen */
  CHECK(mp_series_quantile(s, 0) == 0.002 && mp_series_quantile(s, 0.01) >= 0.002);
  struct mp_series *few = mp_metric_series(
      add(metrics, (struct mp_metric_options){.name = "few", .help = "F.", .kind = MP_HISTOGRAM}),
      NULL);
  mp_series_observe(few, 1.06);
  CHECK(mp_series_quantile(few, 0.5) == 1.06 && mp_series_quantile(few, 0.99) == 1.06);
  for (int i = 1; i < MP_METRIC_LAST; i++) mp_series_observe(few, 1.06 + i);
  enum { MIDDLE = MP_METRIC_LAST / 2 - 1 };
  CHECK(mp_series_quantile(few, 0.5) == 1.06 + MIDDLE);
  CHECK(mp_series_quantile(few, 1) == 1.06 + MP_METRIC_LAST - 1);
  for (int i = 0; i < 1000; i++) { /* whatever comes, none lies beyond what was seen */
    mp_series_observe(few, 1.5);
    for (int twentieth = 0; twentieth <= 20; twentieth++) {
      double value = mp_series_quantile(few, twentieth / 20.0);
      CHECK(value >= 1.06 && value <= 1.06 + MP_METRIC_LAST - 1);
    }
  }
  mp_metrics_unref(metrics);
}

static void one_series_per_combination(void) {
  struct mp_metrics *metrics = registry();
  struct mp_metric *metric =
      add(metrics, (struct mp_metric_options){
                       .name = "c_total", .help = "C.", .labels = {"a", "b"}, .max_series = 3});
  struct mp_series *xy = mp_metric_series(metric, (const char *[]){"x", "y"});
  /* What would be the same if values were only written behind one another. */
  struct mp_series *odd = mp_metric_series(metric, (const char *[]){"x\",b=\"y", ""});
  CHECK(xy != odd && xy == mp_metric_series(metric, (const char *[]){"x", "y"}));
  struct mp_series *null = mp_metric_series(metric, (const char *[]){NULL, "y"});
  CHECK(null == mp_metric_series(metric, (const char *[]){"", "y"}));
  struct mp_series *other = mp_metric_series(metric, (const char *[]){"too", "many"});
  CHECK(other == mp_metric_series(metric, (const char *[]){"even", "more"}));
  CHECK(other != xy && xy == mp_metric_series(metric, (const char *[]){"x", "y"}));
  mp_metrics_unref(metrics);
}

static void a_registry_has_a_limit(void) {
  struct mp_metrics *metrics = registry();
  struct mp_metric *metric;
  struct mp_err err;
  char name[20];
  for (int i = 0; i < MP_METRICS_MAX; i++) {
    snprintf(name, sizeof name, "m%d", i);
    add(metrics, (struct mp_metric_options){.name = name, .kind = MP_GAUGE});
  }
  struct mp_metric_options more = {.name = "more", .kind = MP_GAUGE};
  CHECK(mp_metrics_add(metrics, &more, &metric, &err) == -MP_EBUSY);
  more.name = "m7"; /* what is there is still had */
  CHECK(!mp_metrics_add(metrics, &more, &metric, &err) && metric == mp_metrics_find(metrics, "m7"));
  mp_metrics_unref(metrics);
}

/* Not asserted: printed for whoever measures. */
static void cost_of_a_page(void) {
  struct mp_metrics *metrics = registry();
  struct mp_metric *metric =
      add(metrics, (struct mp_metric_options){
                       .name = "seconds", .help = "S.", .kind = MP_HISTOGRAM, .labels = {"op"}});
  for (int i = 0; i < 53; i++) { /* 19 lines each and one more: 1,007 */
    char name[20];
    snprintf(name, sizeof name, "operation_%d", i);
    for (int n = 0; n < 100; n++)
      mp_series_observe(mp_metric_series(metric, (const char *[]){name}), n * 0.00123);
  }
  struct mp_buf out;
  struct timespec a, b;
  mp_buf_init(&out, 0);
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (int i = 0; i < 100; i++) {
    mp_buf_clear(&out);
    mp_metrics_text(metrics, &out);
  }
  clock_gettime(CLOCK_MONOTONIC, &b);
  printf("a page of %zu bytes and 1,060 series: %.0f us\n", out.len,
         ((double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3) / 100);
  mp_buf_fini(&out);
  mp_metrics_unref(metrics);
}

int main(void) {
  quantiles();
  one_series_per_combination();
  a_registry_has_a_limit();
  cost_of_a_page();
  return failures != 0;
}
