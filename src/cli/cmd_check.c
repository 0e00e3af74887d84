/* cmd_check.c: `moonpool check`. Without DATABASE_URL it works on a database of its own in the
 * embedded server, which has the project's migrations and no data
 * (lua/moonpool/check/database.lua).
 */
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/log.h"

enum { MADE = 10 }; /* database.lua has made the database: migrations must run */

struct urls {
  char name[40];
  char app[MP_CLUSTER_URL], owner[MP_CLUSTER_URL], admin[MP_CLUSTER_URL], postgres[MP_CLUSTER_URL];
};

/* The same URL for another database: "postgresql://role@host/NAME?options". */
static void rename_database(char *out, const char *url, const char *name) {
  const char *host = strstr(url, "://"), *path = host ? strchr(host + 3, '/') : NULL;
  const char *rest = path ? path + strcspn(path, "?") : "";
  int len = path ? (int)(path - url) : (int)strlen(url);
  snprintf(out, MP_CLUSTER_URL, "%.*s/%s%s", len, url, name, rest);
}

/* Each project has a database, named after its folder. */
static void name_urls(struct urls *urls, const struct mp_cluster *cluster, const char *app_dir) {
  unsigned char hash[crypto_generichash_BYTES_MIN];
  char hex[2 * sizeof hash + 1];
  crypto_generichash(hash, sizeof hash, (const unsigned char *)app_dir, strlen(app_dir), NULL, 0);
  sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
  snprintf(urls->name, sizeof urls->name, "check_%.16s", hex);
  rename_database(urls->app, cluster->app_url, urls->name);
  rename_database(urls->owner, cluster->owner_url, urls->name);
  rename_database(urls->admin, cluster->admin_url, urls->name);
  rename_database(urls->postgres, cluster->admin_url, "postgres");
}

static int run(struct mp_cli *cli, const char *url, const char *module, int argc, char **argv) {
  struct mp_runtime_options options = {.database_url = url};
  struct mp_cli_arguments arguments = {.module = module, .argc = argc, .argv = argv};
  return mp_cli_host(cli, "check", &options, mp_cli_push_module, &arguments);
}

static int migrate(struct mp_cli *cli, const struct urls *urls) {
  char folder[PATH_MAX + 16];
  char *up[] = {"up", "--quiet"};
  snprintf(folder, sizeof folder, "%s/migrations", cli->app_dir);
  return access(folder, R_OK) ? MP_EXIT_OK : run(cli, urls->owner, "moonpool.cli.migrate", 2, up);
}

/* Makes sure that the project's own database for checks is there and up to date. */
static int prepare(struct mp_cli *cli, struct urls *urls) {
  char *first[] = {"prepare", urls->name, urls->admin}, *last[] = {"keep", urls->name};
  int code = run(cli, urls->postgres, "moonpool.check.database", 3, first);
  if (code != MADE) return code;
  code = migrate(cli, urls);
  return code ? code : run(cli, urls->postgres, "moonpool.check.database", 2, last);
}

int mp_cmd_check(struct mp_cli *cli, int argc, char **argv) {
  static struct mp_cluster cluster;
  static struct urls urls;
  const char *url = NULL;
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("check");
  /* What the host notices about itself, such as a slow machine, is no finding. */
  if (!cli->config.log_level) mp_log_set_level(MP_LOG_ERROR);
  int code = mp_cli_database(cli, "check", &cluster, &url);
  if (code) return code;
  if (!cli->config.database_url) {
    name_urls(&urls, &cluster, cli->app_dir);
    if ((code = prepare(cli, &urls))) return code;
    url = urls.app;
  }
  return run(cli, url, "moonpool.cli.check", argc - 1, argv + 1);
}
