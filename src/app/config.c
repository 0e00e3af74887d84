#include "app/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "pg/conninfo.h"
#include "util/nearest.h"
#include "util/wrap.h"

extern char **environ;

static const struct number {
  const char *name, *unit, *help;
  uint64_t def, low, high;
  size_t offset;
} numbers[] = {
#define X(field, name, def, low, high, unit, help) \
  {name, unit, help, def, low, high, offsetof(struct mp_config, field)},
    MP_CONFIG_NUMBERS(X)
#undef X
};

static const struct text {
  const char *name, *help, *values; /* values: what it may be, or NULL */
  size_t offset;
  enum { PUBLIC, HAS_PASSWORD, SECRET } shown;
} texts[] = {
    {"DATABASE_URL", "URL of the database as the application role; unset: the embedded database",
     NULL, offsetof(struct mp_config, database_url), HAS_PASSWORD},
    {"MOONPOOL_OWNER_URL",
     "URL of the same database as the owner of its tables, for migrate and token", NULL,
     offsetof(struct mp_config, owner_url), HAS_PASSWORD},
    {"MOONPOOL_ENV",
     "development opens pages for developers, such as /api/db/test; unset: production",
     "development production", offsetof(struct mp_config, env), PUBLIC},
    {"MOONPOOL_LOG", "form of log lines; auto or unset: text on a terminal, json elsewhere",
     "auto text json", offsetof(struct mp_config, log_format), PUBLIC},
    {"MOONPOOL_LOG_LEVEL", "the least important level that is logged", "error warn info debug",
     offsetof(struct mp_config, log_level), PUBLIC},
    {"MOONPOOL_TZ", "time zone of cron lines, such as \"Europe/Berlin\"; unset: UTC", NULL,
     offsetof(struct mp_config, time_zone), PUBLIC},
    {"MOONPOOL_LISTEN", "where serve listens for HTTP: ADDRESS:PORT or off; unset: 127.0.0.1:5000",
     NULL, offsetof(struct mp_config, listen), PUBLIC},
    {"MOONPOOL_CORS_ORIGINS",
     "web origins whose pages may call, separated by commas, or *; unset: none", NULL,
     offsetof(struct mp_config, cors_origins), PUBLIC},
    {"MOONPOOL_HOSTS",
     "host names by which clients may call, separated by commas, *.desk.example, or *; unset: any "
     "if serve listens on loopback only, else this machine's own",
     NULL, offsetof(struct mp_config, hosts), PUBLIC},
    {"MOONPOOL_ALERT_WEBHOOK", "URL to which serve posts each change of an alert; unset: none",
     NULL, offsetof(struct mp_config, alert_webhook), SECRET},
    {"MOONPOOL_OTLP_ENDPOINT",
     "base URL to which serve sends traces (OTLP/HTTP, JSON); unset: none", NULL,
     offsetof(struct mp_config, otlp_endpoint), SECRET},
};

/* Read elsewhere (cluster/env.c, the command line, the spec runner). */
static const char *const others[] = {"MOONPOOL_STATE", "MOONPOOL_PGBIN", "MOONPOOL_APP",
                                     "MOONPOOL_BIN"};

static uint64_t *number_at(const struct mp_config *config, const struct number *n) {
  return (uint64_t *)(void *)((char *)(uintptr_t)config + n->offset);
}

static char **text_at(const struct mp_config *config, const struct text *t) {
  return (char **)(void *)((char *)(uintptr_t)config + t->offset);
}

static bool among(const char *word, const char *list) {
  size_t len = strlen(word);
  for (const char *at = list; len && (at = strstr(at, word)); at += len)
    if ((at == list || at[-1] == ' ') && (at[len] == ' ' || !at[len])) return true;
  return false;
}

static int read_number(struct mp_config *config, const struct number *n, const char *given,
                       struct mp_err *err) {
  char *end;
  errno = 0;
  unsigned long long value = strtoull(given, &end, 10);
  if (!*given || *end || errno || strchr(given, '-') || value < n->low || value > n->high)
    return mp_err_set(err, MP_EINVAL,
                      "%s is \"%.40s\"; it must be a whole number from %llu to %llu%s%s (%s)",
                      n->name, given, (unsigned long long)n->low, (unsigned long long)n->high,
                      *n->unit ? " " : "", n->unit, n->help);
  *number_at(config, n) = value;
  return 0;
}

static bool known(const char *name, size_t len) {
#define SAME(other) (strlen(other) == len && !memcmp(other, name, len))
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers); i++)
    if (SAME(numbers[i].name)) return true;
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++)
    if (SAME(texts[i].name)) return true;
  for (size_t i = 0; i < MP_ARRAY_LEN(others); i++)
    if (SAME(others[i])) return true;
  return false;
#undef SAME
}

/* A prefix does not count as a spelling mistake. */
static const char *without_prefix(const char *name) {
  if (!strncmp(name, "MOONPOOL_", 9)) return name + 9;
  return !strncmp(name, "DB_", 3) ? name + 3 : name;
}

static void try_name(const char *given, const char *name, const char **nearest, size_t *best) {
  size_t d = mp_distance(without_prefix(given), without_prefix(name));
  if (d < *best) *best = d, *nearest = name;
}

static int refuse_unknown(const char *var, size_t len, struct mp_err *err) {
  char given[64];
  const char *near = NULL;
  snprintf(given, sizeof given, "%.*s", (int)len, var);
  size_t best = strlen(without_prefix(given)) / 3 + 1;
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers); i++) try_name(given, numbers[i].name, &near, &best);
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) try_name(given, texts[i].name, &near, &best);
  for (size_t i = 0; i < MP_ARRAY_LEN(others); i++) try_name(given, others[i], &near, &best);
  return mp_err_set(
      err, MP_EINVAL,
      "unknown setting %s%s%s%s: names that begin with DB_ or MOONPOOL_ are moonpool's; "
      "unset it. `moonpool config` lists them all",
      given, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

int mp_config_read(struct mp_config *config, struct mp_err *err) {
  *config = (struct mp_config){0};
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers); i++) {
    const char *given = getenv(numbers[i].name);
    *number_at(config, &numbers[i]) = numbers[i].def;
    int rv = given ? read_number(config, &numbers[i], given, err) : 0;
    if (rv) return rv;
  }
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) {
    const char *given = getenv(texts[i].name);
    /* The variable is set but empty, most likely by mistake: silently using the embedded database
     * would surprise. */
    if (given && !*given && texts[i].shown == HAS_PASSWORD)
      return mp_err_set(err, MP_EINVAL,
                        "%s is empty; unset it for the private database of this machine, or write "
                        "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
                        texts[i].name);
    if (!given || !*given) continue;
    if (texts[i].values && !among(given, texts[i].values))
      return mp_err_set(err, MP_EINVAL, "%s is \"%.40s\"; it must be one of: %s", texts[i].name,
                        given, texts[i].values);
    char *copy = strdup(given);
    if (!copy) return mp_err_set(err, MP_ENOMEM, "no memory for the setting %s", texts[i].name);
    *text_at(config, &texts[i]) = copy;
  }
  for (char **var = environ; *var; var++) {
    size_t len = strcspn(*var, "=");
    if (strncmp(*var, "MOONPOOL_", 9) != 0 && strncmp(*var, "DB_", 3) != 0) continue;
    if (!known(*var, len)) return refuse_unknown(*var, len, err);
  }
  if (config->pool_min > config->pool_max) {
    if (!getenv("DB_POOL_MIN")) /* only the maximum was lowered */
      config->pool_min = config->pool_max;
    else
      return mp_err_set(err, MP_EINVAL, "DB_POOL_MIN (%llu) is greater than DB_POOL_MAX (%llu)",
                        (unsigned long long)config->pool_min, (unsigned long long)config->pool_max);
  }
  return 0;
}

int mp_config_check_urls(const struct mp_config *config, struct mp_err *err) {
  struct mp_err fault;
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) {
    const char *url = *text_at(config, &texts[i]);
    if (url && texts[i].shown == HAS_PASSWORD && mp_conninfo_check(url, &fault))
      return mp_err_set(err, MP_EINVAL, "%s: %s", texts[i].name, fault.msg);
  }
  return 0;
}

void mp_config_fini(struct mp_config *config) {
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) free(*text_at(config, &texts[i]));
  *config = (struct mp_config){0};
}

void mp_config_print(const struct mp_config *config, FILE *out, bool json) {
  const char *comma = "";
  if (json) fputs("{\n", out);
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) {
    char shown[3400] = "", password[1024];
    const char *value = *text_at(config, &texts[i]);
    if (value && texts[i].shown == SECRET) {
      strcpy(shown, "(set)");
    } else if (value && texts[i].shown == HAS_PASSWORD) {
      if (mp_cluster_split_password(value, shown, sizeof shown, password, sizeof password, NULL))
        snprintf(shown, sizeof shown, "(set, and not understood)");
      else if (*password)
        strncat(shown, "  (with a password)", sizeof shown - strlen(shown) - 1);
    } else if (value) {
      snprintf(shown, sizeof shown, "%s", value);
    }
    if (json)
      fprintf(out, "%s  \"%s\": {\"value\": \"%s\", \"origin\": \"%s\"}", comma, texts[i].name,
              shown, value ? "environment" : "default");
    else
      fprintf(out, "%-26s %-14s %-12s %s\n", texts[i].name, *shown ? shown : "-",
              value ? "environment" : "default", texts[i].help);
    comma = ",\n";
  }
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers); i++) {
    const char *origin = getenv(numbers[i].name) ? "environment" : "default";
    char value[40];
    snprintf(value, sizeof value, "%llu", (unsigned long long)*number_at(config, &numbers[i]));
    if (json) {
      fprintf(out, "%s  \"%s\": {\"value\": %s, \"origin\": \"%s\"}", comma, numbers[i].name, value,
              origin);
    } else {
      if (*numbers[i].unit)
        snprintf(value + strlen(value), sizeof value - strlen(value), " %s", numbers[i].unit);
      fprintf(out, "%-26s %-14s %-12s %s\n", numbers[i].name, value, origin, numbers[i].help);
    }
  }
  if (json) fputs("\n}\n", out);
}

void mp_config_document(FILE *out) {
  char head[160];
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) {
    const struct text *t = &texts[i];
    snprintf(head, sizeof head, "- `%s`%s%s%s: ", t->name, t->values ? " (" : "",
             t->values ? t->values : "", t->values ? ")" : "");
    mp_wrap(out, head, "  ", t->help);
  }
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers); i++) {
    const struct number *n = &numbers[i];
    snprintf(head, sizeof head, "- `%s` = %llu%s%s, from %llu to %llu: ", n->name,
             (unsigned long long)n->def, *n->unit ? " " : "", n->unit, (unsigned long long)n->low,
             (unsigned long long)n->high);
    mp_wrap(out, head, "  ", n->help);
  }
}
