#include "pg/conninfo.h"

#include <stdbool.h>
#include <string.h>

const char *mp_conninfo_get(const PQconninfoOption *options, const char *keyword) {
  for (const PQconninfoOption *o = options; o && o->keyword; o++)
    if (!strcmp(o->keyword, keyword)) return o->val && *o->val ? o->val : NULL;
  return NULL;
}

static bool names_some(const PQconninfoOption *options, const char *keyword) {
  const char *value = mp_conninfo_get(options, keyword);
  return value && value[strspn(value, ", ")];
}

/* `postgres://` is valid to libpq, which then takes the user's name for everything. */
static bool says_where(const PQconninfoOption *given) {
  return names_some(given, "host") || names_some(given, "hostaddr") ||
         names_some(given, "dbname") || names_some(given, "service");
}

/* libpq reads the service file only when it connects. An invalid value stops it right after that,
 * when all keywords are known and before anything is looked up. Any other error message came
 * earlier. */
PQconninfoOption *mp_conninfo_read(const char *url, struct mp_err *err) {
  static const char stop[] = "channel_binding";
  const char *keywords[] = {"dbname", stop, NULL}, *values[] = {url, "none of these", NULL};
  char *fault = NULL;
  PQconninfoOption *given = PQconninfoParse(url, &fault), *whole = NULL;
  bool understood = given != NULL, by_service = mp_conninfo_get(given, "service") != NULL;
  bool complete = says_where(given);
  bool no_memory = !understood && (!fault || strstr(fault, "out of memory"));
  PQconninfoFree(given);
  PQfreemem(fault);
  if (no_memory) {
    mp_err_set(err, MP_ENOMEM, "no memory to read the connection string");
    return NULL;
  }
  if (!understood) {
    mp_err_set(err, MP_EINVAL,
               "the connection string cannot be understood; "
               "write postgres://USER:PASSWORD@HOST:PORT/DATABASE or key=value pairs");
    return NULL;
  }
  if (!complete) {
    mp_err_set(err, MP_EINVAL,
               "the connection string names no host, database or service; "
               "write postgres://USER:PASSWORD@HOST:PORT/DATABASE or key=value pairs");
    return NULL;
  }
  PGconn *pg = PQconnectStartParams(keywords, values, 1);
  const char *said = pg ? PQerrorMessage(pg) : "";
  if (by_service && !strstr(said, stop))
    mp_err_set(err, MP_EINVAL, "the connection string's service: %.*s", (int)strcspn(said, "\n"),
               said);
  else if (!pg || !(whole = PQconninfo(pg)))
    mp_err_set(err, MP_ENOMEM, "no memory to connect");
  PQfinish(pg);
  return whole;
}

int mp_conninfo_check(const char *url, struct mp_err *err) {
  PQconninfoOption *whole = mp_conninfo_read(url, err);
  PQconninfoFree(whole);
  return whole ? 0 : -(int)err->code;
}
