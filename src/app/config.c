#include "app/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "app/judge.h"
#include "cluster/cluster.h"
#include "util/hash.h"
#include "util/log.h"
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
  mp_judge_fn *judge; /* NULL: `values` says it all */
} texts[] = {
    {"DATABASE_URL", "URL of the database as the application role; unset: the embedded database",
     NULL, offsetof(struct mp_config, database_url), HAS_PASSWORD, mp_judge_database},
    {"MOONPOOL_OWNER_URL",
     "URL of the same database as the owner of its tables, for migrate and token", NULL,
     offsetof(struct mp_config, owner_url), HAS_PASSWORD, mp_judge_database},
    {"MOONPOOL_ENV",
     "development opens pages for developers, such as /api/db/test; unset: production",
     "development production", offsetof(struct mp_config, env), PUBLIC, NULL},
    {"MOONPOOL_CHECK",
     "what serve, reload and spec do with what moonpool check finds: nothing, a warning in the "
     "log, or refuse these scripts; unset: warn",
     "off warn refuse", offsetof(struct mp_config, check), PUBLIC, NULL},
    {"MOONPOOL_FLUSH",
     "shared: the COMMITs of all calls share one flush of the server's disk; unset: own",
     "own shared", offsetof(struct mp_config, flush), PUBLIC, NULL},
    {"MOONPOOL_LOG", "form of log lines; auto or unset: text on a terminal, json elsewhere",
     "auto text json", offsetof(struct mp_config, log_format), PUBLIC, NULL},
    {"MOONPOOL_LOG_LEVEL", "the least important level that is logged", "error warn info debug",
     offsetof(struct mp_config, log_level), PUBLIC, NULL},
    {"MOONPOOL_TZ", "time zone of cron lines, such as \"Europe/Berlin\"; unset: UTC", NULL,
     offsetof(struct mp_config, time_zone), PUBLIC, mp_judge_zone},
    {"MOONPOOL_LISTEN", "where serve listens for HTTP: ADDRESS:PORT or off; unset: 127.0.0.1:5000",
     NULL, offsetof(struct mp_config, listen), PUBLIC, mp_judge_listen},
    {"MOONPOOL_CORS_ORIGINS",
     "web origins whose pages may call, separated by commas, or *; unset: none", NULL,
     offsetof(struct mp_config, cors_origins), PUBLIC, mp_judge_origins},
    {"MOONPOOL_MCP",
     "on: serve has operations as tools of the Model Context Protocol at /mcp; unset: off",
     "off on", offsetof(struct mp_config, mcp), PUBLIC, NULL},
    {"MOONPOOL_HOSTS",
     "host names by which clients may call, separated by commas, *.desk.example, or *; unset: any "
     "if serve listens on loopback only, else this machine's own",
     NULL, offsetof(struct mp_config, hosts), PUBLIC, mp_judge_hosts},
    {"MOONPOOL_ALERT_WEBHOOK", "URL to which serve posts each change of an alert; unset: none",
     NULL, offsetof(struct mp_config, alert_webhook), SECRET, mp_judge_url},
    {"MOONPOOL_OTLP_ENDPOINT",
     "base URL to which serve sends traces (OTLP/HTTP, JSON); unset: none", NULL,
     offsetof(struct mp_config, otlp_endpoint), SECRET, mp_judge_url},
};

/* Read elsewhere (cluster/env.c, the command line, the spec runner), judged here. */
static const struct other {
  const char *name;
  bool embedded; /* only the embedded database uses it */
  mp_judge_fn *judge;
} others[] = {{"MOONPOOL_STATE", false, mp_judge_folder},
              {"MOONPOOL_PGBIN", true, mp_judge_programs},
              {"MOONPOOL_APP", false, mp_judge_folder},
              {"MOONPOOL_BIN", false, NULL}};

static uint64_t *number_at(const struct mp_config *config, const struct number *n) {
  return (uint64_t *)(void *)((char *)(uintptr_t)config + n->offset);
}

static char **text_at(const struct mp_config *config, const struct text *t) {
  return (char **)(void *)((char *)(uintptr_t)config + t->offset);
}

/* The value in a list of "NAME=value", or NULL. */
static const char *given_in(const char *const *list, const char *name) {
  size_t len = strlen(name);
  for (; list && *list; list++)
    if (!strncmp(*list, name, len) && (*list)[len] == '=') return *list + len + 1;
  return NULL;
}

static bool among(const char *word, const char *list) {
  size_t len = strlen(word);
  for (const char *at = list; len && (at = strstr(at, word)); at += len)
    if ((at == list || at[-1] == ' ') && (at[len] == ' ' || !at[len])) return true;
  return false;
}

static int read_number(struct mp_config *config, const struct number *n, const char *given,
                       struct mp_err *err) {
  errno = 0;
  unsigned long long value = strtoull(given, NULL, 10);
  bool digits = *given && !given[strspn(given, "0123456789")];
  if (!digits || errno || value < n->low || value > n->high)
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
    if (SAME(others[i].name)) return true;
  return false;
#undef SAME
}

/* Without the prefix that settings have in common. */
static const char *own_part(const char *name) {
  if (!strncmp(name, "MOONPOOL_", 9)) return name + 9;
  return !strncmp(name, "DB_", 3) ? name + 3 : name;
}

static const char *whole(const char *name) { return name; }

/* The nearest setting by what `part` takes of both names, at most `changes` away; or NULL. */
static const char *nearest_to(const char *given, const char *(*part)(const char *),
                              size_t changes) {
  const char *near = NULL,
             *names[MP_ARRAY_LEN(numbers) + MP_ARRAY_LEN(texts) + MP_ARRAY_LEN(others)];
  size_t count = 0, best = changes;
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers); i++) names[count++] = numbers[i].name;
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) names[count++] = texts[i].name;
  for (size_t i = 0; i < MP_ARRAY_LEN(others); i++) names[count++] = others[i].name;
  for (size_t i = 0; i < count; i++) {
    size_t distance = mp_distance(part(given), part(names[i]));
    if (distance > changes || (near && distance >= best)) continue;
    near = names[i];
    best = distance;
  }
  return near;
}

/* The name of a variable in the case of settings; false: it is longer than any of them. */
static bool folded_name(const char *var, size_t len, char out[64]) {
  if (len >= 64) return false;
  for (size_t i = 0; i < len; i++) out[i] = (char)toupper((unsigned char)var[i]);
  out[len] = '\0';
  return true;
}

/* Names with these beginnings are no other program's. */
static bool is_ours(const char *var) {
  return !strncasecmp(var, "MOONPOOL_", 9) || !strncmp(var, "DB_", 3);
}

static int refuse_unknown(const char *var, struct mp_err *err) {
  char folded[64];
  size_t len = strcspn(var, "=");
  if (!is_ours(var) || known(var, len)) return 0;
  const char *near = folded_name(var, len, folded)
                         ? nearest_to(folded, own_part, strlen(own_part(folded)) / 3)
                         : NULL;
  return mp_err_set(
      err, MP_EINVAL,
      "unknown setting %.*s%s%s%s: names that begin with DB_ or MOONPOOL_ are moonpool's; "
      "unset it. `moonpool config` lists them all",
      (int)(len < 64 ? len : 64), var, near ? " (did you mean " : "", near ? near : "",
      near ? "?)" : "");
}

void mp_config_tell_strangers(void) {
  enum { CHANGES = 2 };
  char folded[64];
  for (char **var = environ; *var; var++) {
    size_t len = strcspn(*var, "=");
    if (is_ours(*var) || known(*var, len) || !folded_name(*var, len, folded)) continue;
    const char *near = nearest_to(folded, whole, CHANGES);
    if (!near || getenv(near)) continue;
    mp_log(MP_LOG_WARN, "config",
           "the variable %.*s is not a setting, but is named much like %s, which is not set; if "
           "%s is meant, rename it",
           (int)len, *var, near, near);
  }
}

static int judge_text(const struct mp_config *config, const char *const *list, const struct text *t,
                      struct mp_err *err) {
  const char *given = given_in(list, t->name);
  if (!given) return 0;
  /* The variable is set but empty, most likely by mistake: silently using the embedded database
   * would surprise. */
  if (!given[strspn(given, " \t\r\n")] && (*given || t->shown == HAS_PASSWORD))
    return mp_err_set(err, MP_EINVAL, "%s is %s; unset it%s", t->name, *given ? "blank" : "empty",
                      t->shown == HAS_PASSWORD
                          ? " for the private database of this machine, or write "
                            "postgres://USER:PASSWORD@HOST:PORT/DATABASE"
                          : ", or give it a value");
  if (!*given) return 0;
  if (t->values && !among(given, t->values))
    return mp_err_set(err, MP_EINVAL, "%s is \"%.40s\"; it must be one of: %s", t->name, given,
                      t->values);
  if (!*text_at(config, t))
    return mp_err_set(err, MP_ENOMEM, "no memory for the setting %s", t->name);
  return t->judge ? t->judge(t->name, given, err) : 0;
}

/* The fault of a value, behind the line of moonpool.conf that has it. */
static int told_by_line(const struct mp_settings_file *file, const char *name, int rv,
                        struct mp_err *err) {
  const struct mp_setting_line *line = rv ? mp_settings_file_find(file, name) : NULL;
  if (!line || !line->in_force) return rv;
  struct mp_err fault = *err;
  return mp_err_set(err, fault.code, MP_SETTINGS_FILE ":%u: %s", line->line, fault.msg);
}

static int judge_other(const char *const *list, const struct other *o, struct mp_err *err) {
  const char *given = given_in(list, o->name);
  if (!given || !*given || !o->judge || (o->embedded && given_in(list, "DATABASE_URL"))) return 0;
  return o->judge(o->name, given, err);
}

/* An empty text is as good as none. */
static void read_texts(struct mp_config *config, const char *const *list) {
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) {
    const char *given = given_in(list, texts[i].name);
    if (given && *given) *text_at(config, &texts[i]) = strdup(given);
  }
}

static int judge_minimum(struct mp_config *config, const char *const *list, struct mp_err *err) {
  if (config->pool_min <= config->pool_max) return 0;
  if (given_in(list, "DB_POOL_MIN"))
    return mp_err_set(err, MP_EINVAL, "DB_POOL_MIN (%llu) is greater than DB_POOL_MAX (%llu)",
                      (unsigned long long)config->pool_min, (unsigned long long)config->pool_max);
  config->pool_min = config->pool_max; /* only the maximum was lowered */
  return 0;
}

int mp_config_read_list(struct mp_config *config, const char *const *list,
                        const struct mp_settings_file *file, struct mp_err *err) {
  int rv = 0;
  *config = (struct mp_config){0};
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers); i++)
    *number_at(config, &numbers[i]) = numbers[i].def;
  read_texts(config, list);
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers) && !rv; i++) {
    const char *given = given_in(list, numbers[i].name);
    if (given)
      rv = told_by_line(file, numbers[i].name, read_number(config, &numbers[i], given, err), err);
  }
  for (size_t i = 0; i < MP_ARRAY_LEN(texts) && !rv; i++)
    rv = told_by_line(file, texts[i].name, judge_text(config, list, &texts[i], err), err);
  for (size_t i = 0; i < MP_ARRAY_LEN(others) && !rv; i++)
    rv = told_by_line(file, others[i].name, judge_other(list, &others[i], err), err);
  for (const char *const *var = list; var && *var && !rv; var++) rv = refuse_unknown(*var, err);
  return rv ? rv : judge_minimum(config, list, err);
}

int mp_config_read(struct mp_config *config, const struct mp_settings_file *file,
                   struct mp_err *err) {
  return mp_config_read_list(config, (const char *const *)environ, file, err);
}

/* ---- moonpool.conf ---- */

static int judge_name(const struct mp_setting_line *line, struct mp_err *err) {
  const char *name = line->name;
  char folded[64];
  if (!strcmp(name, "MOONPOOL_APP") || !strcmp(name, "MOONPOOL_BIN"))
    return mp_err_set(err, MP_EINVAL,
                      MP_SETTINGS_FILE ":%u: %s is for the environment only; remove the line",
                      line->line, name);
  if (known(name, strlen(name))) return 0;
  const char *near = folded_name(name, strlen(name), folded)
                         ? nearest_to(folded, own_part, strlen(own_part(folded)) / 3)
                         : NULL;
  return mp_err_set(err, MP_EINVAL,
                    MP_SETTINGS_FILE
                    ":%u: there is no setting %.60s%s%s%s; `moonpool help "
                    "settings` lists them all",
                    line->line, name, near ? "; did you mean " : "", near ? near : "",
                    near ? "?" : "");
}

/* A folder that the file names is relative to the file. */
static void set_variable(const struct mp_settings_file *file, struct mp_setting_line *line) {
  char path[4200];
  const char *value = line->value;
  const char *name = line->name;
  bool folder = !strcmp(name, "MOONPOOL_STATE") || !strcmp(name, "MOONPOOL_PGBIN");
  if (folder && *value && *value != '/' &&
      snprintf(path, sizeof path, "%s/%s", file->folder, value) < (int)sizeof path)
    value = path;
  line->in_force = !getenv(name) && !setenv(name, value, 1);
}

/* The embedded database of this project alone: a folder of the state directory that is named after
 * the project, and told apart by its path. */
static void own_state(const char *folder) {
  enum { NAME = 16 }; /* a socket's path is at most 107 bytes long */
  char state[MP_CLUSTER_PATH], own[MP_CLUSTER_PATH + 40];
  struct mp_cluster_env env;
  struct mp_err err;
  if (getenv("MOONPOOL_STATE") || getenv("DATABASE_URL")) return;
  mp_cluster_env_read(&env);
  /* A command that needs the database tells why there is no place for it. */
  if (mp_cluster_default_dir(&env, state, sizeof state, &err)) return;
  const char *slash = strrchr(folder, '/'), *name = slash ? slash + 1 : folder;
  uint64_t hash = mp_hash(MP_HASH_START, folder, strlen(folder));
  snprintf(own, sizeof own, "%s/%.*s-%08x", state, NAME, *name ? name : "project",
           (unsigned)(hash >> 32));
  setenv("MOONPOOL_STATE", own, 1);
}

int mp_config_apply_file(struct mp_settings_file *file, const char *app_dir, struct mp_err *err) {
  int rv = mp_settings_file_read(file, app_dir, err);
  for (size_t i = 0; i < file->count && !rv; i++) rv = judge_name(&file->lines[i], err);
  if (rv || !file->folder) return rv;
  for (size_t i = 0; i < file->count; i++) set_variable(file, &file->lines[i]);
  own_state(file->folder);
  return 0;
}

void mp_config_fini(struct mp_config *config) {
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) free(*text_at(config, &texts[i]));
  *config = (struct mp_config){0};
}

/* Where a value comes from. */
static const char *origin_of(const struct mp_settings_file *file, const char *name, bool set,
                             char out[40]) {
  const struct mp_setting_line *line = mp_settings_file_find(file, name);
  if (!set) return "default";
  if (!line || !line->in_force) return "environment";
  snprintf(out, 40, MP_SETTINGS_FILE ":%u", line->line);
  return out;
}

void mp_config_print(const struct mp_config *config, const struct mp_settings_file *file, FILE *out,
                     bool json) {
  char from[40];
  const char *comma = "";
  if (json) fputs("{\n", out);
  for (size_t i = 0; i < MP_ARRAY_LEN(texts); i++) {
    char shown[3400] = "", password[1024];
    const char *value = *text_at(config, &texts[i]);
    const char *origin = origin_of(file, texts[i].name, value != NULL, from);
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
              shown, origin);
    else
      fprintf(out, "%-26s %-14s %-16s %s\n", texts[i].name, *shown ? shown : "-", origin,
              texts[i].help);
    comma = ",\n";
  }
  for (size_t i = 0; i < MP_ARRAY_LEN(numbers); i++) {
    const char *origin = origin_of(file, numbers[i].name, getenv(numbers[i].name) != NULL, from);
    char value[40];
    snprintf(value, sizeof value, "%llu", (unsigned long long)*number_at(config, &numbers[i]));
    if (json) {
      fprintf(out, "%s  \"%s\": {\"value\": %s, \"origin\": \"%s\"}", comma, numbers[i].name, value,
              origin);
    } else {
      if (*numbers[i].unit)
        snprintf(value + strlen(value), sizeof value - strlen(value), " %s", numbers[i].unit);
      fprintf(out, "%-26s %-14s %-16s %s\n", numbers[i].name, value, origin, numbers[i].help);
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
