/* meter.h: what the host counts of HTTP; the names are a contract, as those of watch/metrics.h.
 *
 * Owner: the service. Its registry must outlive it. */
#ifndef MP_METER_H
#define MP_METER_H

#include "http/server.h"
#include "util/metrics.h"

/* Kinds of requests: few, so that the number of series stays small. */
enum mp_route { MP_ROUTE_OPERATION, MP_ROUTE_PAGE };

struct mp_meter;

/* `*server`, once set, gives the numbers that are read when the page is written: connections and
 * malformed requests. */
int mp_meter_new(struct mp_meter **out, struct mp_metrics *metrics,
                 struct mp_http_server *const *server, struct mp_err *err) MP_MUST_CHECK;
void mp_meter_unref(struct mp_meter *meter); /* NULL is harmless */

/* A request was answered, `us` after it had been read. */
void mp_meter_answered(struct mp_meter *meter, enum mp_route route, int status, uint64_t us);
/* A stream has begun; how long it lasts is no latency. */
void mp_meter_streams(struct mp_meter *meter, int status);

#endif
