/* opening.h: what it takes to open a connection, for conn_url.c (the string), conn_open.c (names,
 * servers, libpq). */
#ifndef MP_OPENING_H
#define MP_OPENING_H

#include <uv.h>

#include "pg/conn_internal.h"

enum { MP_KEYWORDS = 64, MP_HOSTS = 16, MP_TARGETS = 64 };

struct mp_target {
  char *host, *addr, *port; /* addr NULL: a socket's path, or a name that is not looked up yet */
  bool silent;              /* did not answer this opening: it is not asked again */
};

struct mp_opening {
  uv_getaddrinfo_t req;
  struct mp_conn *conn; /* NULL: the connection has ended while a name was looked up */
  bool looking;         /* a look-up is under way: its callback frees what nobody else does */
  char *keywords[MP_KEYWORDS], *values[MP_KEYWORDS];
  int count;
  struct mp_target hosts[MP_HOSTS]; /* as the string names them */
  int nhosts, at;                   /* at: the host that is being looked up */
  /* where to connect, in the string's order; none: libpq's default */
  struct mp_target targets[MP_TARGETS];
  int ntargets;
  const struct mp_target *order[MP_TARGETS]; /* as libpq has them now */
  int norder;
  uint64_t each_ms;      /* connect_timeout: for one server; 0: none */
  struct mp_timer share; /* the time of the one that is being tried */
  char trying[MP_SERVER_KEY];
  char failure[160];
};

/* The string's keywords; for what it leaves open, libpq's defaults (environment, service file). */
int mp_opening_read(struct mp_opening *o, const struct mp_conn_options *options,
                    struct mp_err *err) MP_MUST_CHECK;
char *const *mp_opening_find(const struct mp_opening *o, const char *keyword);
bool mp_opening_put(struct mp_opening *o, const char *keyword, const char *value);
void mp_opening_free(struct mp_opening *o);

#endif
