#include "svc/meter.h"

#include <stdlib.h>

#include "util/buf.h"
#include "watch/metrics.h"

struct mp_meter {
  struct mp_metrics_source source;
  struct mp_http_server *const *server;
  struct mp_metric *requests;
  struct mp_series *duration[2]; /* by route */
  struct mp_series *connections, *active;
  struct mp_series *malformed, *slow, *too_many, *dismissed;
};

static const char *const routes[] = {
    [MP_ROUTE_OPERATION] = "operation",
    [MP_ROUTE_PAGE] = "page",
};

static void refresh(struct mp_metrics_source *source) {
  struct mp_meter *meter = MP_CONTAINER_OF(source, struct mp_meter, source);
  struct mp_http_stats stats;
  if (!*meter->server) return;
  mp_http_server_stats(*meter->server, &stats);
  mp_series_set(meter->connections, (double)stats.connections);
  mp_series_set(meter->active, (double)stats.requests);
  mp_series_set(meter->malformed, (double)stats.malformed);
  mp_series_set(meter->slow, (double)stats.timed_out);
  mp_series_set(meter->too_many, (double)stats.refused_connections);
  mp_series_set(meter->dismissed, (double)stats.dismissed);
}

static struct mp_series *one(struct mp_metric *metric, const char *label) {
  return mp_metric_series(metric, (const char *[MP_METRIC_LABELS]){label});
}

int mp_meter_new(struct mp_meter **out, struct mp_metrics *metrics,
                 struct mp_http_server *const *server, struct mp_err *err) {
  static const struct mp_metric_options
      requests = {.name = "moonpool_http_requests_total",
                  .help = "HTTP requests answered, by what was asked for and the status code.",
                  .kind = MP_COUNTER,
                  .labels = {"route", "code"}},
      duration = {.name = "moonpool_http_request_duration_seconds",
                  .help = "Time from a request's last byte to its answer.",
                  .kind = MP_HISTOGRAM,
                  .labels = {"route"}},
      connections = {.name = "moonpool_http_connections",
                     .help = "HTTP connections that are open.",
                     .kind = MP_GAUGE},
      active = {.name = "moonpool_http_requests_active",
                .help = "HTTP requests that wait for their answer.",
                .kind = MP_GAUGE},
      refused = {
          .name = "moonpool_http_refused_total",
          .help = "Clients that were disconnected, by reason; room: to make room for others.",
          .kind = MP_COUNTER,
          .labels = {"reason"}};
  struct mp_metric *durations, *open, *under_way, *dismissed;
  struct mp_meter *meter = calloc(1, sizeof *meter);
  if (!meter) return mp_err_set(err, MP_ENOMEM, "no memory for the metrics of HTTP");
  int rv = mp_metrics_add(metrics, &requests, &meter->requests, err);
  if (!rv) rv = mp_metrics_add(metrics, &duration, &durations, err);
  if (!rv) rv = mp_metrics_add(metrics, &connections, &open, err);
  if (!rv) rv = mp_metrics_add(metrics, &active, &under_way, err);
  if (!rv) rv = mp_metrics_add(metrics, &refused, &dismissed, err);
  if (rv) {
    free(meter);
    return rv;
  }
  meter->server = server;
  for (size_t i = 0; i < MP_ARRAY_LEN(routes); i++) meter->duration[i] = one(durations, routes[i]);
  meter->connections = one(open, NULL);
  meter->active = one(under_way, NULL);
  meter->malformed = one(dismissed, "malformed");
  meter->slow = one(dismissed, "slow");
  meter->too_many = one(dismissed, "connections");
  meter->dismissed = one(dismissed, "room");
  meter->source.refresh = refresh;
  mp_metrics_join(metrics, &meter->source);
  *out = meter;
  return 0;
}

void mp_meter_unref(struct mp_meter *meter) {
  if (!meter) return;
  mp_metrics_leave(&meter->source);
  free(meter);
}

static void count(struct mp_meter *meter, enum mp_route route, int status) {
  char code[24];
  code[mp_format_int(code, status)] = '\0';
  mp_series_add(mp_metric_series(meter->requests, (const char *[]){routes[route], code}), 1);
}

void mp_meter_answered(struct mp_meter *meter, enum mp_route route, int status, uint64_t us) {
  count(meter, route, status);
  mp_series_observe_us(meter->duration[route], us);
}

void mp_meter_streams(struct mp_meter *meter, int status) { count(meter, MP_ROUTE_PAGE, status); }
