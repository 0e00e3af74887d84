/* cmd_db.c: `moonpool db`: the embedded database for people and shell scripts.
 *
 * stdout carries data only, so that psql "$(moonpool db url)" works; all else goes to stderr. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NODB = 3 };

enum role { ROLE_APP, ROLE_OWNER, ROLE_ADMIN };

struct args {
  const char *command;
  enum role role;
  bool json, yes;
  int rest; /* index of psql's first own argument */
};

static int usage(const char *fault, const char *arg) {
  fprintf(stderr, "moonpool db: %s%s%s%s; see: moonpool db --help\n", fault, *arg ? " \"" : "", arg,
          *arg ? "\"" : "");
  return EXIT_USAGE;
}

static int failed(const struct mp_err *err) {
  fprintf(stderr, "moonpool db: %s\n", err->msg);
  return err->code == MP_ENODB || err->code == MP_ECONN ? EXIT_NODB : EXIT_FAILED;
}

static void progress(void *ctx, const char *text) {
  (void)ctx;
  fprintf(stderr, "moonpool: %s\n", text);
}

static void print_json(const char *name, const char *value, bool more) {
  printf("\"%s\":\"", name);
  for (const char *p = value; *p; p++) {
    unsigned char ch = (unsigned char)*p;
    if (ch == '"' || ch == '\\') {
      printf("\\%c", ch);
    } else if (ch < 0x20) {
      printf("\\u%04x", (unsigned)ch);
    } else {
      putchar(ch);
    }
  }
  fputs(more ? "\"," : "\"", stdout);
}

static bool has_external(const struct mp_cluster_options *opts) {
  return opts->env.database_url && *opts->env.database_url;
}

static void note_external(const struct mp_cluster_options *opts) {
  if (!has_external(opts)) return;
  fputs(
      "moonpool: DATABASE_URL is set, so moonpool uses that server; this command acts on the "
      "embedded database all the same\n",
      stderr);
}

static int db_start(const struct mp_cluster_options *opts) {
  struct mp_cluster c;
  struct mp_err err;
  note_external(opts);
  if (mp_cluster_ensure(opts, &c, &err) != 0) return failed(&err);
  fprintf(stderr, "PostgreSQL %d %s, data in %s\nconnect with: moonpool db psql\n", c.version,
          c.started_here ? "is running" : "was already running", c.data_dir);
  return EXIT_OK;
}

static int db_stop(const struct mp_cluster_options *opts) {
  struct mp_cluster c;
  struct mp_err err;
  note_external(opts);
  if (mp_cluster_status(opts, &c, &err) != 0) return failed(&err);
  bool ran = c.pid != 0;
  if (mp_cluster_stop(&c, &err) != 0) return failed(&err);
  if (ran) {
    fprintf(stderr, "PostgreSQL stopped; the data stays in %s\nstart it with: moonpool db start\n",
            c.data_dir);
  } else {
    fprintf(stderr, "PostgreSQL was not running (state directory %s)\n", c.dir);
  }
  return EXIT_OK;
}

static int db_reset(const struct mp_cluster_options *opts, bool yes) {
  struct mp_cluster c;
  struct mp_err err;
  note_external(opts);
  if (mp_cluster_status(opts, &c, &err) != 0) return failed(&err);
  if (!yes) {
    fprintf(stderr,
            "moonpool db: reset throws away all data in %s; nothing was done\n"
            "if you want that: moonpool db reset --yes\n",
            c.data_dir);
    return EXIT_USAGE;
  }
  if (mp_cluster_reset(opts, &c, &err) != 0) return failed(&err);
  fprintf(stderr,
          "the embedded database is empty; PostgreSQL %d is running, data in %s\n"
          "make the tables with: moonpool migrate\n",
          c.version, c.data_dir);
  return EXIT_OK;
}

static int db_status(const struct mp_cluster_options *opts, bool json) {
  struct mp_cluster c;
  struct mp_err err;
  if (mp_cluster_status(opts, &c, &err) != 0) return failed(&err);
  const char *state = c.running       ? "running"
                      : c.pid         ? "starting or stopping"
                      : c.initialised ? "stopped"
                                      : "not made yet";
  if (json) {
    fputs("{", stdout);
    print_json("state", state, true);
    printf("\"running\":%s,\"initialised\":%s,\"pid\":", c.running ? "true" : "false",
           c.initialised ? "true" : "false");
    if (c.pid) {
      printf("%ld,\"version\":", (long)c.pid);
    } else {
      fputs("null,\"version\":", stdout);
    }
    if (c.version) {
      printf("%d,", c.version);
    } else {
      fputs("null,", stdout);
    }
    print_json("stateDir", c.dir, true);
    print_json("dataDir", c.data_dir, true);
    print_json("socketDir", c.socket_dir, true);
    print_json("log", c.log_path, true);
    print_json("binDir", c.bin_dir, true);
    printf("\"databaseUrlSet\":%s}\n", has_external(opts) ? "true" : "false");
  } else {
    printf("state     %s\n", state);
    if (c.version) printf("version   PostgreSQL %d\n", c.version);
    if (c.pid) printf("pid       %ld\n", (long)c.pid);
    printf("data      %s\nsocket    %s\nlog       %s\nprograms  %s\n", c.data_dir, c.socket_dir,
           c.log_path, c.bin_dir[0] ? c.bin_dir : "no PostgreSQL found");
    if (has_external(opts)) {
      puts("note      DATABASE_URL is set: moonpool uses that server, not this one");
    } else if (!c.running) {
      puts("next      moonpool db start");
    }
  }
  return c.running ? EXIT_OK : EXIT_NODB;
}

struct target {
  char url[MP_CLUSTER_URL];
  char password[512];
};

/* The URL of a role: of the server that the environment names, else of the embedded database, which
 * is started. The password stays apart: it belongs in no output and on no command line. */
static int find_target(const struct mp_cluster_options *opts, enum role role, struct target *out) {
  struct mp_err err;
  out->password[0] = '\0';
  if (has_external(opts)) {
    const char *url = role == ROLE_APP ? opts->env.database_url : opts->env.owner_url;
    if (role == ROLE_ADMIN) {
      fputs(
          "moonpool db: DATABASE_URL is set, and moonpool does not know a superuser of that "
          "server; connect to it with psql, or unset DATABASE_URL\n",
          stderr);
      return EXIT_FAILED;
    }
    if (!url || !*url) {
      fputs(
          "moonpool db: DATABASE_URL is set, but MOONPOOL_OWNER_URL, which names the owner's "
          "connection to that server, is not\n",
          stderr);
      return EXIT_FAILED;
    }
    if (mp_cluster_split_password(url, out->url, sizeof out->url, out->password,
                                  sizeof out->password, &err) != 0) {
      fprintf(stderr, "moonpool db: %s: %s\n",
              role == ROLE_APP ? "DATABASE_URL" : "MOONPOOL_OWNER_URL", err.msg);
      return EXIT_FAILED;
    }
    return EXIT_OK;
  }
  struct mp_cluster c;
  if (mp_cluster_ensure(opts, &c, &err) != 0) return failed(&err);
  const char *url = role == ROLE_APP ? c.app_url : role == ROLE_OWNER ? c.owner_url : c.admin_url;
  snprintf(out->url, sizeof out->url, "%s", url);
  return EXIT_OK;
}

static int db_url(const struct mp_cluster_options *opts, enum role role, bool json) {
  struct target t;
  int code = find_target(opts, role, &t);
  if (code != EXIT_OK) return code;
  if (t.password[0]) fputs("moonpool: the password is left out\n", stderr);
  if (json) {
    fputs("{", stdout);
    print_json("url", t.url, true);
    print_json("role", role == ROLE_APP ? "app" : role == ROLE_OWNER ? "owner" : "admin", false);
    puts("}");
  } else {
    puts(t.url);
  }
  return EXIT_OK;
}

static int db_psql(const struct mp_cluster_options *opts, enum role role, int argc, char **argv) {
  struct target t;
  int code = find_target(opts, role, &t);
  if (code != EXIT_OK) return code;
  char program[MP_CLUSTER_PATH + 8];
  mp_cluster_psql_path(opts, program, sizeof program);
  char **args = calloc((size_t)argc + 4, sizeof *args);
  if (!args || (t.password[0] && setenv("PGPASSWORD", t.password, 1) != 0)) {
    fputs("moonpool db: out of memory\n", stderr);
    free(args);
    return EXIT_FAILED;
  }
  char dbname[] = "--dbname";
  int n = 0;
  args[n++] = program;
  args[n++] = dbname;
  args[n++] = t.url;
  for (int i = 0; i < argc; i++) args[n++] = argv[i];
  execvp(program, args);
  fprintf(stderr,
          "moonpool db: cannot run %s: %s; install it with: apt-get install "
          "postgresql-client-15\n",
          program, strerror(errno));
  free(args);
  return EXIT_FAILED;
}

static int db_roles(void) {
  const char *sql;
  size_t size;
  struct mp_err err;
  if (mp_cluster_roles_sql(&sql, &size, &err) != 0) return failed(&err);
  fwrite(sql, 1, size, stdout);
  return EXIT_OK;
}

static bool is_help(const char *arg) {
  return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

/* Fills `args`; EXIT_USAGE after a message. -1: help was asked for. */
static int parse(int argc, char **argv, struct args *args) {
  *args = (struct args){.rest = argc};
  if (argc < 2) return usage("a command is missing", "");
  args->command = argv[1];
  if (is_help(argv[1]) || strcmp(argv[1], "help") == 0) return -1;
  bool psql = strcmp(argv[1], "psql") == 0, url = strcmp(argv[1], "url") == 0;
  for (int i = 2; i < argc; i++) {
    if ((psql || url) && strcmp(argv[i], "--owner") == 0) {
      args->role = ROLE_OWNER;
    } else if ((psql || url) && strcmp(argv[i], "--admin") == 0) {
      args->role = ROLE_ADMIN;
    } else if (psql) {
      if (i == 2 && strcmp(argv[i], "--help") == 0) return -1;
      args->rest = strcmp(argv[i], "--") == 0 ? i + 1 : i;
      break;
    } else if (is_help(argv[i])) {
      return -1;
    } else if ((url || strcmp(argv[1], "status") == 0) && strcmp(argv[i], "--json") == 0) {
      args->json = true;
    } else if (strcmp(argv[1], "reset") == 0 && strcmp(argv[i], "--yes") == 0) {
      args->yes = true;
    } else {
      return usage("this command does not know", argv[i]);
    }
  }
  return EXIT_OK;
}

static int finish(int code) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return code;
  fprintf(stderr, "moonpool db: cannot write the output: %s\n", strerror(errno));
  return EXIT_FAILED;
}

/* main dispatches to it; argv[0] is "db". */

int mp_cmd_db(int argc, char **argv) {
  struct args args;
  int code = parse(argc, argv, &args);
  if (code < 0) return finish(mp_cli_help("db"));
  if (code != EXIT_OK) return code;
  struct mp_cluster_options opts = {.progress = progress};
  mp_cluster_env_read(&opts.env);
  if (strcmp(args.command, "start") == 0) return db_start(&opts);
  if (strcmp(args.command, "stop") == 0) return db_stop(&opts);
  if (strcmp(args.command, "reset") == 0) return db_reset(&opts, args.yes);
  if (strcmp(args.command, "status") == 0) return finish(db_status(&opts, args.json));
  if (strcmp(args.command, "url") == 0) return finish(db_url(&opts, args.role, args.json));
  if (strcmp(args.command, "roles") == 0) return finish(db_roles());
  if (strcmp(args.command, "psql") == 0) {
    return db_psql(&opts, args.role, argc - args.rest, argv + args.rest);
  }
  return usage("there is no command", args.command);
}
