/* main.c: moonpool COMMAND [ARGUMENTS]: the table of commands, the options that all share. */
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "pg/cancel.h"
#include "util/log.h"

enum { CANCELS_MS = 1000 }; /* at the end, for requests to cancel that are on their way */

static int cmd_version(struct mp_cli *cli, int argc, char **argv) {
  (void)cli;
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("version");
  puts("moonpool " MOONPOOL_VERSION);
  return MP_EXIT_OK;
}

static int cmd_db(struct mp_cli *cli, int argc, char **argv) {
  (void)cli;
  return mp_cmd_db(argc, argv);
}

static const struct mp_command commands[] = {
    {"new", "PROJECT | op NAME | migration NAME", "make a project, an operation or a migration",
     mp_cmd_module},
    {"ops", "[--json]", "list the operations of scripts/", mp_cmd_module},
    {"call", "NAME [JSON | @FILE | -]", "run one operation, its result as JSON on stdout",
     mp_cmd_call},
    {"explain", "NAME [JSON | @FILE | -]", "show what a call costs: round trips, plans, locks",
     mp_cmd_call},
    {"run", "SCRIPT | -e CODE | - [ARGS...]", "run a Lua script with the host's modules",
     mp_cmd_run},
    {"repl", "[--tenant ID] [--as USER]", "try Lua and SQL line by line", mp_cmd_repl},
    {"serve", "[--listen ADDRESS:PORT] [--workers N]", "serve operations over HTTP until SIGTERM",
     mp_cmd_serve},
    {"reload", "[--json]", "tell the running hosts of this project to load scripts/ again",
     mp_cmd_reload},
    {"why", "[CALL_ID]", "show what a call did, step by step", mp_cmd_why},
    {"errors", "[CODE | SQLSTATE]", "explain a code: whose fault it is, and what to do",
     mp_cmd_errors},
    {"relay", "[--once]", "deliver published messages to their subscribers", mp_cmd_relay},
    {"outbox", "[list | subscribers | retry | drop | forget NAME]",
     "list and decide about failed messages", mp_cmd_module},
    {"token", "create | list | revoke", "manage the tokens of HTTP clients", mp_cmd_module},
    {"migrate", "[up | down | status | verify | new NAME]", "apply migrations/ to the database",
     mp_cmd_migrate},
    {"check", "[PATHS] [--json | --sarif]", "find mistakes in scripts/ before they run",
     mp_cmd_check},
    {"types", "[DIR]", "write definitions of tables and operations for editors", mp_cmd_module},
    {"spec", "[PATHS] [-j N] [busted options]",
     "run busted specs inside the host, on a throw-away database", mp_cmd_spec},
    {"bench", "[NAME] [ARGS...]", "run spec/bench/NAME.lua (default: compare)", mp_cmd_bench},
    {"db", "start | stop | reset | status | url | psql | roles", "manage the embedded database",
     cmd_db},
    {"config", "[--json | --markdown]", "print all settings and their values", mp_cmd_config},
    {"version", "", "print the version", cmd_version},
    {"help", "[COMMAND | TOPIC]", "print this, a command's help, or a text about a topic",
     mp_cmd_help},
    {NULL, NULL, NULL, NULL},
};

static void set_up_log(const struct mp_config *config) {
  static const char *const levels[] = {"error", "warn", "info", "debug"};
  const char *format = config->log_format ? config->log_format : "auto";
  bool for_people = strcmp(format, "auto") ? !strcmp(format, "text") : isatty(STDERR_FILENO);
  mp_log_set_json(!for_people);
  for (size_t i = 0; config->log_level && i < MP_ARRAY_LEN(levels); i++)
    if (!strcmp(config->log_level, levels[i])) mp_log_set_level((enum mp_log_level)i);
}

/* Descriptors 0 to 2 must be open, or a socket would become standard output. And libpq sends PGTZ
 * and similar variables as start-up parameters, which would override the UTC and ISO 8601 that the
 * host relies on. */
static void clean_environment(void) {
  int fd;
  do fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
  unsetenv("PGTZ");
  unsetenv("PGDATESTYLE");
  unsetenv("PGGEQO");
}

/* The settings: those of moonpool.conf become variables of the environment. */
static int read_settings(struct mp_cli *cli, struct mp_err *err) {
  struct mp_err more;
  int rv = mp_config_apply_file(&cli->settings, cli->app_dir, err);
  if (!getenv("DATABASE_URL")) {
    unsetenv("PGSERVICE"); /* the embedded database is not in a service file */
    unsetenv("PGSERVICEFILE");
    unsetenv("PGHOSTADDR");
  }
  int wrong = mp_config_read(&cli->config, &cli->settings, rv ? &more : err);
  return rv ? rv : wrong;
}

static bool same_folder(const char *a, const char *b) {
  struct stat one, other;
  return !stat(a, &one) && !stat(b, &other) && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

/* One more component of a path: `..` is above where a link leads. */
static bool descend(char *path, size_t size, const char *name, size_t len) {
  static char real[PATH_MAX];
  size_t at = strlen(path);
  if (!len || (len == 1 && *name == '.')) return true;
  if (len == 2 && !strncmp(name, "..", 2)) {
    if (!realpath(at ? path : "/", real)) return false;
    *strrchr(real, '/') = '\0';
    return snprintf(path, size, "%s", real) < (int)size;
  }
  return snprintf(path + at, size - at, "/%.*s", (int)len, name) < (int)(size - at);
}

/* The project folder as an absolute path that keeps symbolic links: a link that is switched while
 * the host runs, as with releases, is followed at each load. */
static bool find_project(const char *app, char *out, size_t size) {
  static char here[PATH_MAX];
  const char *pwd = getenv("PWD");
  if (!realpath(".", here)) return false;
  if (pwd && *pwd == '/' && same_folder(pwd, here)) snprintf(here, sizeof here, "%s", pwd);
  const char *parts[] = {app && *app == '/' ? "" : here, app ? app : ""};
  *out = '\0';
  for (size_t i = 0; i < MP_ARRAY_LEN(parts); i++)
    for (const char *at = parts[i]; *at; at += strspn(at, "/")) {
      size_t len = strcspn(at, "/");
      if (!descend(out, size, at, len)) return false;
      at += len;
    }
  if (!*out) snprintf(out, size, "/");
  return same_folder(out, out);
}

/* Texts are printed whatever the settings are. */
static bool needs_settings(const struct mp_command *command) {
  return command->run != mp_cmd_help && command->run != mp_cmd_errors &&
         command->run != cmd_version;
}

int main(int argc, char **argv) {
  static char app_dir[PATH_MAX];
  struct mp_cli cli = {.commands = commands};
  struct mp_err err;
  const char *app = getenv("MOONPOOL_APP");
  int at = 1;
  /* Freed memory is soon used again: returning it to the kernel each time would cost page faults.
   */
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
  mallopt(M_TOP_PAD, 4 << 20);
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  clean_environment();
  if (sodium_init() < 0) {
    fputs("moonpool: the system provides no random numbers\n", stderr);
    return MP_EXIT_FAILED;
  }
  while (at < argc && argv[at][0] == '-') {
    if (!strcmp(argv[at], "--app") && at + 1 < argc) {
      app = argv[at + 1];
      at += 2;
    } else if (!strcmp(argv[at], "--help") || !strcmp(argv[at], "-h")) {
      return mp_cmd_help(&cli, 0, NULL);
    } else if (!strcmp(argv[at], "--version")) {
      return cmd_version(&cli, 0, NULL);
    } else {
      return mp_cli_usage("", "unknown option", argv[at]);
    }
  }
  if (at == argc) {
    mp_cmd_help(&cli, 0, NULL);
    return MP_EXIT_USAGE;
  }
  if (!find_project(app, app_dir, sizeof app_dir)) {
    fprintf(stderr, "moonpool: the project folder %s does not exist\n", app ? app : ".");
    return MP_EXIT_USAGE;
  }
  cli.app_dir = app_dir;
  const struct mp_command *command = mp_command_find(commands, argv[at]);
  if (!command) return mp_cli_unknown(&cli, "command", argv[at]);
  bool refused = read_settings(&cli, &err) && needs_settings(command);
  set_up_log(&cli.config);
  if (needs_settings(command)) mp_config_tell_strangers();
  int code = MP_EXIT_OK;
  /* `moonpool config` shows them all the same. */
  if (!refused || command->run == mp_cmd_config) code = command->run(&cli, argc - at, argv + at);
  if (refused) {
    fprintf(stderr, "moonpool %s: %s\n", command->name, err.msg);
    code = MP_EXIT_USAGE;
  }
  mp_cancels_wait(CANCELS_MS);
  mp_config_fini(&cli.config);
  mp_settings_file_fini(&cli.settings);
  if ((fflush(stdout) || ferror(stdout)) && code == MP_EXIT_OK) {
    fputs("moonpool: the command was carried out, but its output could not be written\n", stderr);
    code = MP_EXIT_FAILED;
  }
  return code;
}
