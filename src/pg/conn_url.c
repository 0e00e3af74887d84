/* conn_url.c: a connection string as keywords, and the servers that it names. */
#include <stdlib.h>
#include <string.h>

#include "pg/conninfo.h"
#include "pg/opening.h"
#include "util/buf.h"

static void drop_target(struct mp_target *target) {
  free(target->host);
  free(target->addr);
  free(target->port);
}

void mp_opening_free(struct mp_opening *o) {
  for (int i = 0; i < o->count; i++) {
    free(o->keywords[i]);
    free(o->values[i]);
  }
  for (int i = 0; i < o->nhosts; i++) drop_target(&o->hosts[i]);
  for (int i = 0; i < o->ntargets; i++) drop_target(&o->targets[i]);
  free(o);
}

char *const *mp_opening_find(const struct mp_opening *o, const char *keyword) {
  for (int i = 0; i < o->count; i++)
    if (!strcmp(o->keywords[i], keyword)) return &o->values[i];
  return NULL;
}

bool mp_opening_put(struct mp_opening *o, const char *keyword, const char *value) {
  char *copy = strdup(value);
  if (!copy) return false;
  char **slot = (char **)(void *)mp_opening_find(o, keyword);
  if (slot) {
    free(*slot);
    *slot = copy;
    return true;
  }
  char *name = strdup(keyword);
  if (!name || o->count == MP_KEYWORDS - 1) {
    free(copy);
    free(name);
    return false;
  }
  o->keywords[o->count] = name;
  o->values[o->count++] = copy;
  return true;
}

/* Splits "a,b,c" into at most MP_HOSTS copies; the number of them, or the error. NULL and "" are
 * none. */
static int split(char *const *list, char **out) {
  int n = 0;
  if (!list || !**list) return 0;
  for (const char *at = *list;;) {
    size_t len = strcspn(at, ",");
    int rv = n == MP_HOSTS ? -MP_EINVAL : (out[n] = strndup(at, len)) ? 0 : -MP_ENOMEM;
    if (rv) {
      while (n) free(out[--n]);
      return rv;
    }
    n++;
    if (!at[len]) return n;
    at += len + 1;
  }
}

static void drop_list(char **list, int n) {
  for (int i = 0; i < n; i++) free(list[i]);
}

/* Hosts, addresses and ports belong together by their places; one port is for all. */
static int read_hosts(struct mp_opening *o, struct mp_err *err) {
  char *hosts[MP_HOSTS], *addrs[MP_HOSTS], *ports[MP_HOSTS];
  int nhosts = split(mp_opening_find(o, "host"), hosts);
  int naddrs = split(mp_opening_find(o, "hostaddr"), addrs);
  int nports = split(mp_opening_find(o, "port"), ports);
  int n = nhosts > naddrs ? nhosts : naddrs;
  int rv = nhosts < 0 ? nhosts : naddrs < 0 ? naddrs : nports < 0 ? nports : 0;
  /* What does not fit together, and empty places, which have meanings of their own, are libpq's to
   * judge. */
  bool plain = !rv && n && (!nhosts || !naddrs || nhosts == naddrs) && (nports <= 1 || nports == n);
  for (int i = 0; plain && i < n; i++) plain = *(naddrs ? addrs[i] : hosts[i]);
  for (int i = 0; plain && i < n; i++) {
    const char *port = nports == 1 ? ports[0] : nports ? ports[i] : "5432";
    o->hosts[i] = (struct mp_target){.host = strdup(nhosts ? hosts[i] : ""),
                                     .addr = naddrs ? strdup(addrs[i]) : NULL,
                                     .port = strdup(*port ? port : "5432")};
    o->nhosts = i + 1;
    if (!o->hosts[i].host || !o->hosts[i].port || (naddrs && !o->hosts[i].addr)) {
      rv = -MP_ENOMEM;
      break;
    }
  }
  drop_list(hosts, nhosts);
  drop_list(addrs, naddrs);
  drop_list(ports, nports);
  if (!rv) return 0;
  if (rv == -MP_ENOMEM) return mp_err_set(err, MP_ENOMEM, "no memory to connect");
  return mp_err_set(err, MP_EINVAL, "more than %d hosts or ports in the connection string",
                    MP_HOSTS);
}

/* Host and server notice a dead link within half a minute; until then the server would hold the
 * transaction's locks. The connection string may say otherwise. */
static const char *const keepalives[][2] = {{"keepalives_idle", "10"},
                                            {"keepalives_interval", "5"},
                                            {"keepalives_count", "3"},
                                            {"tcp_user_timeout", "25000"}};
#define SERVER_KEEPALIVES                                                                \
  "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c " \
  "tcp_user_timeout=25000"

static bool put_own(struct mp_opening *o, const struct mp_conn_options *options) {
  char *const *own = mp_opening_find(o, "options"), *const *name =
                                                        mp_opening_find(o, "application_name");
  struct mp_buf text;
  mp_buf_init(&text, 0);
  mp_buf_addf(&text,
              "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 " SERVER_KEEPALIVES
              " %s %s",
              options->settings ? options->settings : "", own ? *own : "");
  bool ok = !text.failed && mp_opening_put(o, "options", mp_buf_text(&text)) &&
            mp_opening_put(o, "client_encoding", "UTF8");
  mp_buf_clear(&text);
  mp_buf_addf(&text, "%s%s%s", name ? *name : "moonpool", options->purpose ? " " : "",
              options->purpose ? options->purpose : "");
  ok = ok && !text.failed && mp_opening_put(o, "application_name", mp_buf_text(&text));
  mp_buf_fini(&text);
  for (size_t i = 0; ok && i < MP_ARRAY_LEN(keepalives); i++)
    if (!mp_opening_find(o, keepalives[i][0]))
      ok = mp_opening_put(o, keepalives[i][0], keepalives[i][1]);
  /* An attempt at GSS costs a round trip before each connection. */
  return ok && (mp_opening_find(o, "gssencmode") || mp_opening_put(o, "gssencmode", "disable"));
}

int mp_opening_read(struct mp_opening *o, const struct mp_conn_options *options,
                    struct mp_err *err) {
  static const char *const places[] = {"host", "hostaddr", "port", "connect_timeout"};
  PQconninfoOption *whole = mp_conninfo_read(options->url, err);
  PQconninfoOption *given = PQconninfoParse(options->url, NULL);
  bool ok = whole && given;
  for (size_t i = 0; ok && i < MP_ARRAY_LEN(places); i++) {
    const char *value = mp_conninfo_get(whole, places[i]);
    if (value) ok = mp_opening_put(o, places[i], value);
  }
  for (PQconninfoOption *g = given; ok && g && g->keyword; g++)
    if (g->val && *g->val) ok = mp_opening_put(o, g->keyword, g->val);
  PQconninfoFree(given);
  PQconninfoFree(whole);
  if (!ok) return whole ? mp_err_set(err, MP_ENOMEM, "no memory to connect") : -MP_EINVAL;
  char *const *timeout = mp_opening_find(o, "connect_timeout");
  long seconds = timeout ? strtol(*timeout, NULL, 10) : 0;
  if (seconds > 0) o->each_ms = (uint64_t)(seconds < 2 ? 2 : seconds) * 1000; /* as libpq has it */
  int rv = read_hosts(o, err);
  if (!rv && !put_own(o, options)) rv = mp_err_set(err, MP_ENOMEM, "no memory to connect");
  return rv;
}
