/* cmd_serve.c: `moonpool serve`, the host that stays, and `moonpool reload` and `moonpool why`,
 * which speak to it. */
#include <lauxlib.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_tree.h>

#include "app/judge.h"
#include "cli/cli.h"
#include "cli/hosts.h"
#include "ops/crew.h"
#include "util/log.h"

/* ---- serve ---- */

struct serve {
  const struct mp_config *config;
  char address[64]; /* "": HTTP is off */
  int port;
  bool require_migrated;
  char supervisor[128]; /* NOTIFY_SOCKET; "": nobody wants to know */
};

static int push_serve(lua_State *L, void *data) {
  const struct serve *serve = data;
  const struct mp_config *config = serve->config;
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonpool.cli.serve");
  lua_call(L, 1, 1);
  lua_createtable(L, 0, 7);
  lua_pushnumber(L, (double)config->watch_ms / 1000);
  lua_setfield(L, -2, "watch");
  if (*serve->address) {
    lua_pushstring(L, serve->address);
    lua_setfield(L, -2, "address");
    lua_pushinteger(L, serve->port);
    lua_setfield(L, -2, "port");
  }
  lua_pushstring(L, config->alert_webhook);
  lua_setfield(L, -2, "alert_webhook");
  lua_pushstring(L, config->otlp_endpoint);
  lua_setfield(L, -2, "otlp_endpoint");
  lua_pushnumber(L, (double)config->worker_timeout_ms / 1000);
  lua_setfield(L, -2, "worker_timeout");
  lua_pushboolean(L, serve->require_migrated);
  lua_setfield(L, -2, "require_migrated");
  if (*serve->supervisor) lua_pushstring(L, serve->supervisor);
  if (*serve->supervisor) lua_setfield(L, -2, "supervisor");
  return 1;
}

/* A whole number of threads; 0: one for each core that this process may use. Connections are lent
 * once a second only: a thread that has few makes calls wait while others have idle ones. Nobody
 * has asked for that who asked for no number. */
enum { LEAST_SHARE = 4 };

static bool read_workers(struct mp_config *config, const char *given) {
  if (given) {
    if (!*given || strlen(given) > 2 || given[strspn(given, "0123456789")]) return false;
    config->workers = strtoul(given, NULL, 10);
    if (config->workers > MP_WORKERS_MAX) return false;
  }
  if (!config->workers) {
    cpu_set_t cores;
    config->workers = sched_getaffinity(0, sizeof cores, &cores) ? 1 : (uint64_t)CPU_COUNT(&cores);
    if (config->workers > MP_WORKERS_MAX) config->workers = MP_WORKERS_MAX;
    if (config->workers > config->pool_max / LEAST_SHARE)
      config->workers = config->pool_max / LEAST_SHARE;
  }
  /* The front needs two connections: the relay has one while it delivers over another. */
  uint64_t wanted = config->workers, most = config->pool_max / 2;
  if (wanted > most) config->workers = most;
  if (!config->workers) config->workers = 1;
  if (wanted > config->workers)
    fprintf(stderr,
            "moonpool serve: %llu workers instead of %llu: each needs two connections, and "
            "DB_POOL_MAX is %llu\n",
            (unsigned long long)config->workers, (unsigned long long)wanted,
            (unsigned long long)config->pool_max);
  return true;
}

/* Taken out of the environment: a PostgreSQL that this process starts would speak for it. */
static void take_supervisor(struct serve *serve) {
  const char *address = getenv("NOTIFY_SOCKET");
  if (address) snprintf(serve->supervisor, sizeof serve->supervisor, "%s", address);
  unsetenv("NOTIFY_SOCKET");
}

int mp_cmd_serve(struct mp_cli *cli, int argc, char **argv) {
  static struct mp_cluster cluster;
  struct serve serve = {.config = &cli->config};
  const char *url = NULL, *workers = NULL;
  const char *listen = cli->config.listen ? cli->config.listen : "127.0.0.1:5000";
  struct mp_err err;
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("serve");
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--require-migrated")) {
      serve.require_migrated = true;
      continue;
    }
    if (!strcmp(argv[i], "--workers")) {
      if (++i == argc) return mp_cli_usage("serve", "a number is missing behind", "--workers");
      workers = argv[i];
      continue;
    }
    if (strcmp(argv[i], "--listen") != 0) return mp_cli_usage("serve", "unknown argument", argv[i]);
    if (++i == argc) return mp_cli_usage("serve", "ADDRESS:PORT is missing behind", "--listen");
    listen = argv[i];
  }
  if (mp_listen_read(listen, serve.address, &serve.port, &err)) {
    fprintf(stderr, "moonpool serve: %s\n", err.msg);
    return MP_EXIT_USAGE;
  }
  if (!read_workers(&cli->config, workers))
    return mp_cli_usage("serve", "not a number from 0 to 64:", workers);
  signal(SIGPIPE, SIG_IGN); /* a write to a closed client must not end the process */
  take_supervisor(&serve);
  /* The time zone of schedules and of os.date. */
  setenv("TZ", cli->config.time_zone ? cli->config.time_zone : "UTC", 1);
  int code = mp_cli_database(cli, "serve", &cluster, &url);
  if (code) return code;
  if (!cli->config.log_level) mp_log_set_level(MP_LOG_INFO);
  struct mp_runtime_options options = {
      .database_url = url, .pool_min = (unsigned)cli->config.pool_min, .serving = true};
  return mp_cli_host(cli, "serve", &options, push_serve, &serve);
}

/* ---- reload ---- */

/* A question to every `moonpool serve` of the project, and the answers. */
struct control_question {
  const char *command;
  const char *refused; /* the text for a host that answered with a failure */
  bool json;
  int good;
};

/* What a person reads of the answer; whether it was good. */
static bool tell(const struct control_question *question, const char *pid, const char *text) {
  static const char *ok_path[] = {"ok", NULL}, *report_path[] = {"report", NULL};
  static const char *error_path[] = {"error", "message", NULL};
  yajl_val tree = yajl_tree_parse(text, NULL, 0);
  yajl_val ok = tree ? yajl_tree_get(tree, ok_path, yajl_t_any) : NULL;
  yajl_val report = tree ? yajl_tree_get(tree, report_path, yajl_t_string) : NULL;
  yajl_val error = tree ? yajl_tree_get(tree, error_path, yajl_t_string) : NULL;
  bool good = YAJL_IS_TRUE(ok);
  const char *said = YAJL_IS_STRING(report)  ? YAJL_GET_STRING(report)
                     : YAJL_IS_STRING(error) ? YAJL_GET_STRING(error)
                                             : text;
  if (good)
    printf("process %s: %s\n", pid, said);
  else
    fprintf(stderr, "moonpool %s: process %s%s:\n%s\n", question->command, pid, question->refused,
            said);
  yajl_tree_free(tree);
  return good;
}

static void on_answer(void *data, const char *pid, const char *answer, int sys) {
  struct control_question *question = data;
  if (!answer) {
    fprintf(stderr, "moonpool %s: process %s did not answer: %s\n", question->command, pid,
            strerror(sys));
  } else if (question->json) {
    fputs(answer, stdout);
    question->good += strstr(answer, "\"ok\":true") != NULL;
  } else {
    question->good += tell(question, pid, answer);
  }
}

/* `any`: one good answer is enough. */
static int ask_all(struct mp_cli *cli, struct control_question *question, const char *line,
                   bool any) {
  struct mp_err err;
  int hosts = mp_hosts_ask(cli->app_dir, line, on_answer, question, &err);
  if (hosts < 0) return mp_cli_fail(question->command, &err);
  if (hosts > 0)
    return (any ? question->good > 0 : question->good == hosts) ? MP_EXIT_OK : MP_EXIT_FAILED;
  fprintf(stderr, "moonpool %s: no `moonpool serve` of %s runs on this machine\n",
          question->command, cli->app_dir);
  return MP_EXIT_FAILED;
}

int mp_cmd_reload(struct mp_cli *cli, int argc, char **argv) {
  struct control_question question = {.command = "reload", .refused = " keeps its files"};
  question.json = argc == 2 && !strcmp(argv[1], "--json");
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("reload");
  if (argc > 1 && !question.json) return mp_cli_usage("reload", "unknown argument", argv[1]);
  return ask_all(cli, &question, "{\"do\":\"reload\"}\n", false);
}

/* ---- why ---- */

int mp_cmd_why(struct mp_cli *cli, int argc, char **argv) {
  char line[120];
  const char *id = NULL;
  bool notable = false;
  struct control_question question = {.command = "why", .refused = ""};
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("why");
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--json"))
      question.json = true;
    else if (!strcmp(argv[i], "--notable"))
      notable = true;
    else if (!id && strlen(argv[i]) <= 40 &&
             strspn(argv[i], "0123456789abcdefABCDEF-") == strlen(argv[i]) && argv[i][0] != '-')
      id = argv[i];
    else
      return mp_cli_usage("why", "not the id of a call:", argv[i]);
  }
  if (id)
    snprintf(line, sizeof line, "{\"do\":\"why\",\"id\":\"%s\"}\n", id);
  else
    snprintf(line, sizeof line, "{\"do\":\"why\",\"notable\":%s}\n", notable ? "true" : "false");
  return ask_all(cli, &question, line, true);
}
