/* cmd_lua.c: the commands that run Lua on a host: call, run, migrate, spec, bench. */
#include <errno.h>
#include <glob.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/runtime.h"
#include "cli/children.h"
#include "cli/cli.h"
#include "script/vm.h"
#include "util/log.h"

static void on_progress(void *ctx, const char *text) {
  fprintf(stderr, "moonpool %s: %s\n", (const char *)ctx, text);
}

int mp_cli_host(struct mp_cli *cli, const char *command, const struct mp_runtime_options *given,
                int (*push)(lua_State *L, void *data), void *data) {
  struct mp_runtime *rt;
  struct mp_err err, close_err;
  struct mp_runtime_options options = *given;
  options.config = &cli->config;
  options.app_dir = cli->app_dir;
  if (mp_runtime_open(&rt, &options, &err)) return mp_cli_fail(command, &err);
  int code = mp_runtime_run(rt, push, data, command, &err);
  if (code == -1) {
    const char *report = mp_runtime_report(rt);
    fprintf(stderr, "moonpool %s: %s\n", command, *report ? report : err.msg);
    code = err.code == MP_ENODB ? MP_EXIT_NO_DATABASE : MP_EXIT_FAILED;
  }
  fflush(stdout);
  if (cli->at_end) cli->at_end();
  if (mp_runtime_close(rt, &close_err)) {
    fprintf(stderr, "moonpool %s: %s\n", command, close_err.msg);
    if (code == MP_EXIT_OK) code = MP_EXIT_FAILED;
  }
  return code;
}

static int with_host(struct mp_cli *cli, const char *command, const char *url, unsigned pool_min,
                     int (*push)(lua_State *L, void *data), void *data) {
  struct mp_runtime_options options = {.database_url = url, .pool_min = pool_min};
  return mp_cli_host(cli, command, &options, push, data);
}

enum as_role { NOBODY, APP, OWNER };

static int find_database(struct mp_cli *cli, const char *command, enum as_role role,
                         struct mp_cluster *cluster, const char **url) {
  struct mp_cluster_options options = {.progress = on_progress,
                                       .progress_ctx = (void *)(uintptr_t)command};
  struct mp_err err;
  if (role == NOBODY) {
    *url = "postgres:///"; /* nothing connects */
    return 0;
  }
  if (cli->config.database_url) {
    *url = role == OWNER ? cli->config.owner_url : cli->config.database_url;
    if (*url) return 0;
    fprintf(
        stderr,
        "moonpool %s: DATABASE_URL is set, so MOONPOOL_OWNER_URL must name the same database as "
        "the owner of its tables (moonpool db roles prints what prepares the roles)\n",
        command);
    return MP_EXIT_USAGE;
  }
  mp_cluster_env_read(&options.env);
  if (mp_cluster_ensure(&options, cluster, &err)) return mp_cli_fail(command, &err);
  *url = role == OWNER ? cluster->owner_url : cluster->app_url;
  return 0;
}

int mp_cli_database(struct mp_cli *cli, const char *command, struct mp_cluster *cluster,
                    const char **url) {
  return find_database(cli, command, APP, cluster, url);
}

/* ---- Lua modules of lua/moonpool/cli: each returns function(arguments) -> exit code ---- */

static void push_require(lua_State *L, const char *module) {
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  lua_call(L, 1, 1);
}

static void push_list(lua_State *L, int argc, char **argv) {
  lua_createtable(L, argc, 0);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

int mp_cli_push_module(lua_State *L, void *data) {
  const struct mp_cli_arguments *a = data;
  push_require(L, a->module);
  push_list(L, a->argc, a->argv);
  return 1;
}

/* A command that is a Lua module. */
static int run_module(struct mp_cli *cli, const char *command, const char *module,
                      enum as_role role, int (*push)(lua_State *L, void *data), int argc,
                      char **argv) {
  static struct mp_cluster cluster;
  const char *url = NULL;
  struct mp_cli_arguments a = {.module = module, .argc = argc - 1, .argv = argv + 1};
  int code = find_database(cli, command, role, &cluster, &url);
  return code ? code : with_host(cli, command, url, 0, push, &a);
}

/* ---- run ---- */

/* What to run: a file; with -e code in the arguments; with - code from stdin. */
static void load_script(lua_State *L, const struct mp_cli_arguments *a) {
  struct mp_err err;
  luaL_Buffer text;
  size_t size;
  if (a->code) {
    if (luaL_loadbufferx(L, a->code, strlen(a->code), "=-e", "t")) lua_error(L);
  } else if (strcmp(a->path, "-") != 0) {
    if (mp_vm_load_file(mp_vm_of(L), L, a->path, a->path, NULL, &err)) luaL_error(L, "%s", err.msg);
  } else {
    luaL_buffinit(L, &text);
    do {
      char *room = luaL_prepbuffsize(&text, BUFSIZ);
      size = fread(room, 1, BUFSIZ, stdin);
      luaL_addsize(&text, size);
    } while (size);
    luaL_pushresult(&text);
    const char *code = lua_tolstring(L, -1, &size);
    if (luaL_loadbufferx(L, code, size, "=stdin", "t")) lua_error(L);
    lua_remove(L, -2);
  }
}

static int push_script(lua_State *L, void *data) {
  const struct mp_cli_arguments *a = data;
  push_require(L, "moonpool.cli.run");
  push_list(L, a->argc, a->argv);
  lua_pushstring(L, a->code ? "-e" : a->path);
  lua_rawseti(L, -2, 0);
  lua_setglobal(L, "arg");
  load_script(L, a);
  luaL_checkstack(L, a->argc, "too many arguments");
  for (int i = 0; i < a->argc; i++) lua_pushstring(L, a->argv[i]);
  return a->argc + 1;
}

int mp_cmd_run(struct mp_cli *cli, int argc, char **argv) {
  static struct mp_cluster cluster;
  const char *url = NULL;
  if (mp_cli_wants_help(argc > 1 ? 2 : argc, argv)) return mp_cli_help("run");
  bool sandbox = argc > 1 && !strcmp(argv[1], "--sandbox");
  if (sandbox) argc--, argv++;
  if (argc < 2) return mp_cli_usage("run", "the script is missing", "");
  bool code_given = !sandbox && !strcmp(argv[1], "-e");
  if (code_given) argc--, argv++;
  if (code_given && argc < 2) return mp_cli_usage("run", "the code behind -e is missing", "");
  bool from_stdin = !sandbox && !code_given && !strcmp(argv[1], "-");
  if (!code_given && !from_stdin && access(argv[1], R_OK)) {
    fprintf(stderr, "moonpool run: cannot read %s: %s\n", argv[1], strerror(errno));
    return MP_EXIT_USAGE;
  }
  int code = find_database(cli, "run", APP, &cluster, &url);
  if (code) return code;
  struct mp_cli_arguments a = {.path = argv[1], .argc = argc - 2, .argv = argv + 2};
  if (code_given) a.code = argv[1];
  if (sandbox) {
    a = (struct mp_cli_arguments){
        .module = "moonpool.cli.sandbox", .argc = argc - 1, .argv = argv + 1};
    return with_host(cli, "run", url, 0, mp_cli_push_module, &a);
  }
  /* A script may run for long, so its pool opens DB_POOL_MIN connections; the other commands, and a
   * line of code, connect when they need to. */
  return with_host(cli, "run", url, a.code ? 0 : (unsigned)cli->config.pool_min, push_script, &a);
}

/* ---- call, explain ---- */

struct command_call {
  const char *module;
  const char *name, *input, *tenant, *as, *key;
  bool pretty;
  bool people; /* a person reads stderr */
  bool why;    /* the steps of the call are wanted */
};

static int push_call(lua_State *L, void *data) {
  const struct command_call *call = data;
  push_require(L, call->module);
  lua_newtable(L);
#define SET(field) (lua_pushstring(L, call->field), lua_setfield(L, -2, #field))
  SET(name), SET(input), SET(tenant), SET(as), SET(key);
#undef SET
#define SET(field) (lua_pushboolean(L, call->field), lua_setfield(L, -2, #field))
  SET(pretty), SET(people), SET(why);
#undef SET
  return 1;
}

int mp_cmd_call(struct mp_cli *cli, int argc, char **argv) {
  static struct mp_cluster cluster;
  const char *command = argv[0], *url = NULL;
  bool explain = !strcmp(command, "explain");
  struct command_call call = {.module = explain ? "moonpool.cli.explain" : "moonpool.cli.call",
                              .pretty = isatty(STDOUT_FILENO),
                              .people = explain || isatty(STDERR_FILENO)};
  bool help = mp_cli_wants_help(argc, argv);
  for (int i = 1; i < argc; i++) {
    const char *arg = argv[i];
    if (help && (!strcmp(arg, "--help") || !strcmp(arg, "-h"))) continue;
    bool option = arg[0] == '-' && arg[1];
    if (!strcmp(arg, "--pretty"))
      call.pretty = true;
    else if (!strcmp(arg, "--json"))
      call.pretty = call.people = false;
    else if (!explain && !strcmp(arg, "--why"))
      call.why = true;
    else if (option && i + 1 < argc && !strcmp(arg, "--tenant"))
      call.tenant = argv[++i];
    else if (option && i + 1 < argc && !strcmp(arg, "--as"))
      call.as = argv[++i];
    else if (!explain && option && i + 1 < argc && !strcmp(arg, "--key"))
      call.key = argv[++i];
    else if (option)
      return mp_cli_usage(command, "unknown option", arg);
    else if (!call.name)
      call.name = arg;
    else if (!call.input)
      call.input = arg;
    else
      return mp_cli_usage(command, "too many arguments:", arg);
  }
  if (help && (explain || !call.name)) return mp_cli_help(command);
  if (!call.name) return mp_cli_usage(command, "the operation's name is missing", "");
  if (help) {
    char *name[] = {argv[0], (char *)(uintptr_t)call.name};
    return run_module(cli, command, "moonpool.cli.describe", NOBODY, mp_cli_push_module, 2, name);
  }
  int code = find_database(cli, command, APP, &cluster, &url);
  if (code) return code;
  if (!cli->config.log_level)
    mp_log_set_level(MP_LOG_INFO); /* what the operation prints and logs */
  return with_host(cli, command, url, 0, push_call, &call);
}

/* ---- commands that are modules ---- */

static int push_host_module(lua_State *L, void *data) {
  push_require(L, "moonpool.cli.run");
  return mp_cli_push_module(L, data) + 1;
}

int mp_cmd_relay(struct mp_cli *cli, int argc, char **argv) {
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("relay");
  return run_module(cli, "relay", "moonpool.cli.relay", APP, push_host_module, argc, argv);
}

/* The commands that are a Lua module and nothing else. */
int mp_cmd_module(struct mp_cli *cli, int argc, char **argv) {
  static const struct {
    const char *command, *module;
    enum as_role role;
  } modules[] = {
      {"new", "moonpool.cli.new", NOBODY},    {"ops", "moonpool.cli.ops", NOBODY},
      {"outbox", "moonpool.cli.outbox", APP}, {"token", "moonpool.cli.token", OWNER},
      {"types", "moonpool.cli.types", APP},
  };
  size_t i = 0;
  while (strcmp(modules[i].command, argv[0]) != 0) i++;
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help(argv[0]);
  return run_module(cli, argv[0], modules[i].module, modules[i].role, mp_cli_push_module, argc,
                    argv);
}

/* ---- migrate ---- */

int mp_cmd_migrate(struct mp_cli *cli, int argc, char **argv) {
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("migrate");
  bool only_files = argc > 1 && !strcmp(argv[1], "new");
  return run_module(cli, "migrate", "moonpool.cli.migrate", only_files ? NOBODY : OWNER,
                    mp_cli_push_module, argc, argv);
}

/* ---- spec ---- */

struct spec {
  struct mp_cli_arguments arguments;
  const struct mp_cluster *cluster;
};

static int push_spec(lua_State *L, void *data) {
  const struct spec *spec = data;
  push_require(L, "moonpool.cli.run");
  push_require(L, "moonpool.host");
#define SET(field) (lua_pushstring(L, spec->cluster->field), lua_setfield(L, -2, #field))
  SET(app_url), SET(owner_url), SET(admin_url), SET(data_dir), SET(bin_dir);
#undef SET
  lua_pop(L, 1);
  push_require(L, "moonpool.test");
  lua_getfield(L, -1, "run_specs");
  lua_remove(L, -2);
  push_list(L, spec->arguments.argc, spec->arguments.argv);
  return 2;
}

/* What `moonpool check` finds in scripts/ is told before the specs run; MOONPOOL_CHECK says whether
 * they run then. */
static int check_before(struct mp_cli *cli, const char *url) {
  char scripts[PATH_MAX + 16], *brief[] = {"--brief"};
  const char *mode = cli->config.check ? cli->config.check : "warn";
  struct mp_cli_arguments check = {.module = "moonpool.cli.check", .argc = 1, .argv = brief};
  snprintf(scripts, sizeof scripts, "%s/scripts", cli->app_dir);
  if (!strcmp(mode, "off") || access(scripts, R_OK)) return MP_EXIT_OK;
  if (!cli->config.log_level) mp_log_set_level(MP_LOG_ERROR); /* findings only */
  int code = with_host(cli, "spec", url, 0, mp_cli_push_module, &check);
  if (!cli->config.log_level) mp_log_set_level(MP_LOG_WARN);
  return strcmp(mode, "refuse") ? MP_EXIT_OK : code;
}

/* With -j other processes run the specs. */
static bool is_split(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (!strcmp(argv[i], "-j") || !strcmp(argv[i], "--jobs")) return true;
  return false;
}

int mp_cmd_spec(struct mp_cli *cli, int argc, char **argv) {
  static struct mp_cluster cluster;
  static char self[PATH_MAX];
  ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
  if (len > 0 && !getenv("MOONPOOL_BIN")) setenv("MOONPOOL_BIN", self, 1);
  char *up[] = {"up", "--quiet"};
  struct mp_cli_arguments migrate = {.module = "moonpool.cli.migrate", .argc = 2, .argv = up};
  struct spec spec = {{.argc = argc - 1, .argv = argv + 1}, &cluster};
  struct mp_cluster_options options = {.throwaway = true};
  struct mp_err err;
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("spec");
  if (is_split(argc, argv))
    return run_module(cli, "spec", "moonpool.test.shares", NOBODY, mp_cli_push_module, argc, argv);
  mp_cluster_env_read(&options.env);
  if (mp_cluster_ensure(&options, &cluster, &err)) return mp_cli_fail("spec", &err);
  /* Processes that a spec starts use the same throw-away database, never the user's. */
  setenv("DATABASE_URL", cluster.app_url, 1);
  setenv("MOONPOOL_OWNER_URL", cluster.owner_url, 1);
  int code = MP_EXIT_OK;
  char migrations[PATH_MAX + 16];
  snprintf(migrations, sizeof migrations, "%s/migrations", cli->app_dir);
  if (!access(migrations, R_OK))
    code = with_host(cli, "spec", cluster.owner_url, 0, mp_cli_push_module, &migrate);
  if (!code) code = check_before(cli, cluster.app_url);
  mp_children_mark();
  cli->at_end = mp_children_end;
  if (!code) code = with_host(cli, "spec", cluster.app_url, 0, push_spec, &spec);
  if (mp_cluster_stop(&cluster, &err)) {
    fprintf(stderr, "moonpool spec: the throw-away database did not stop: %s\n", err.msg);
    if (!code) code = MP_EXIT_FAILED;
  }
  return code;
}

/* ---- bench ---- */

/* A benchmark's help is the comment that its file begins with. */
static void print_head(const char *path, const char *name) {
  char line[1000];
  FILE *file = fopen(path, "r");
  printf("Usage: moonpool bench %s [--db URL] [ARGS...]\n\n", name);
  while (file && fgets(line, sizeof line, file) && !strncmp(line, "--", 2))
    fputs(line + (line[2] == ' ' ? 3 : 2), stdout);
  if (file) fclose(file);
}

static void print_benchmarks(const char *app_dir) {
  char pattern[PATH_MAX + 40];
  glob_t found;
  mp_cli_help("bench");
  snprintf(pattern, sizeof pattern, "%s/spec/bench/*.lua", app_dir);
  if (glob(pattern, 0, NULL, &found)) return;
  for (size_t i = 0; i < found.gl_pathc; i++) {
    const char *file = strrchr(found.gl_pathv[i], '/') + 1;
    printf("  %.*s\n", (int)strlen(file) - 4, file);
  }
  globfree(&found);
}

int mp_cmd_bench(struct mp_cli *cli, int argc, char **argv) {
  static char path[PATH_MAX + 300];
  const char *name = argc > 1 && argv[1][0] != '-' ? argv[1] : "compare";
  int first = argc > 1 && argv[1][0] != '-' ? 2 : 1;
  const char *url = "postgres:///"; /* nothing connects unless the script asks */
  if (first == 1 && mp_cli_wants_help(argc, argv)) {
    print_benchmarks(cli->app_dir);
    return MP_EXIT_OK;
  }
  for (int i = first; i + 1 < argc; i++)
    if (!strcmp(argv[i], "--db")) url = argv[i + 1];
  snprintf(path, sizeof path, "%s/spec/bench/%s.lua", cli->app_dir, name);
  if (access(path, R_OK)) return mp_cli_usage("bench", "no such benchmark:", path);
  if (mp_cli_wants_help(argc, argv)) {
    print_head(path, name);
    return MP_EXIT_OK;
  }
  struct mp_cli_arguments a = {.path = path, .argc = argc - first, .argv = argv + first};
  return with_host(cli, "bench", url, 0, push_script, &a);
}
