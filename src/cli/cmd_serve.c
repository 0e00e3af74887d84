/* cmd_serve.c: `moonpool serve`, the host that stays, and `moonpool reload` and `moonpool why`,
 * which speak to it. */
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yajl/yajl_tree.h>

#include "cli/cli.h"
#include "cli/hosts.h"
#include "util/log.h"

/* ---- serve ---- */

struct serve {
  const struct mp_config *config;
  bool require_migrated;
};

static int push_serve(lua_State *L, void *data) {
  const struct serve *serve = data;
  const struct mp_config *config = serve->config;
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonpool.cli.serve");
  lua_call(L, 1, 1);
  lua_createtable(L, 0, 4);
  lua_pushnumber(L, (double)config->watch_ms / 1000);
  lua_setfield(L, -2, "watch");
  lua_pushstring(L, config->listen ? config->listen : "127.0.0.1:5000");
  lua_setfield(L, -2, "listen");
  lua_pushstring(L, config->alert_webhook);
  lua_setfield(L, -2, "alert_webhook");
  lua_pushstring(L, config->otlp_endpoint);
  lua_setfield(L, -2, "otlp_endpoint");
  lua_pushboolean(L, serve->require_migrated);
  lua_setfield(L, -2, "require_migrated");
  return 1;
}

/* The time zone of schedules and of os.date. libc silently treats an unknown name as UTC. */
static int set_time_zone(const char *name) {
  char path[300];
  const char *zone = name ? name : "UTC";
  snprintf(path, sizeof path, "/usr/share/zoneinfo/%.250s", zone);
  if (name && (strstr(name, "..") || *name == '/' || *name == ':' || access(path, R_OK))) {
    fprintf(stderr, "moonpool serve: MOONPOOL_TZ is \"%.40s\", which /usr/share/zoneinfo has not\n",
            name);
    return MP_EXIT_USAGE;
  }
  setenv("TZ", zone, 1);
  return 0;
}

int mp_cmd_serve(struct mp_cli *cli, int argc, char **argv) {
  static struct mp_cluster cluster;
  struct serve serve = {.config = &cli->config};
  const char *url = NULL;
  if (mp_cli_wants_help(argc, argv)) {
    puts(
        "Usage: moonpool serve [--listen ADDRESS:PORT | --listen off] [--require-migrated]\n\n"
        "Loads scripts/ and serves its operations over HTTP (127.0.0.1:5000) until SIGTERM,\n"
        "which lets work in progress end (MOONPOOL_DRAIN_TIMEOUT; a second signal does not\n"
        "wait). Operations with `every` run on their schedule.\n\n"
        "A changed file in scripts/, SIGHUP or `moonpool reload` loads all of scripts/ anew.\n"
        "Calls under way end on what they began with; if anything is wrong with the new files\n"
        "they are refused, all faults are told, and the old ones stay. If scripts/smoke.lua\n"
        "exists it has the last word: it raises when the new files must not serve.\n\n"
        "Migrations that are not applied, or were changed, are told in the log and on the\n"
        "dashboard; with --require-migrated nothing is served then.\n\n"
        "  POST /api/ops/NAME          call an operation: JSON in, {\"result\"} or {\"error\"} "
        "out\n"
        "  GET  /api/ops, /openapi.json, /health, /metrics, /api/db/...\n"
        "All but the health checks need a token: moonpool token create. Another address than\n"
        "this machine's own needs one to exist. TLS is a reverse proxy's business.\n\n"
        "  MOONPOOL_LISTEN             as --listen\n"
        "  MOONPOOL_WATCH              how often serve looks for changes, ms (500; 0: never)\n"
        "  MOONPOOL_SETTLE             how long files must have stayed the same, ms (100)\n"
        "  MOONPOOL_LOAD_TIMEOUT       for loading and smoke.lua, ms (10000)\n"
        "  MOONPOOL_GENERATION_DRAIN   calls older than a reload are ended after it, ms (60000)\n"
        "  MOONPOOL_TZ                 time zone of cron lines (UTC)\n"
        "  MOONPOOL_ALERT_WEBHOOK      http or https URL that each change of an alert is posted\n"
        "                              to, as JSON (none)\n"
        "  MOONPOOL_OTLP_ENDPOINT      http or https URL; traces of calls go to its /v1/traces,\n"
        "                              as JSON (none)\n\n"
        "Exit status: 0 stopped, 1 failed (scripts/ is broken at the start), 2 usage, 3 no\n"
        "database.");
    return MP_EXIT_OK;
  }
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--require-migrated")) {
      serve.require_migrated = true;
      continue;
    }
    if (strcmp(argv[i], "--listen") != 0) return mp_cli_usage("serve", "unknown argument", argv[i]);
    if (++i == argc) return mp_cli_usage("serve", "ADDRESS:PORT is missing behind", "--listen");
    free(cli->config.listen);
    if (!(cli->config.listen = strdup(argv[i]))) {
      fputs("moonpool serve: out of memory\n", stderr);
      return MP_EXIT_FAILED;
    }
  }
  signal(SIGPIPE, SIG_IGN); /* a write to a closed client must not end the process */
  int code = set_time_zone(cli->config.time_zone);
  if (!code) code = mp_cli_database(cli, "serve", &cluster, &url);
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
    fprintf(stderr, "moonpool %s: process %s gave no answer: %s\n", question->command, pid,
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
  fprintf(stderr, "moonpool %s: no `moonpool serve` of %s runs here\n", question->command,
          cli->app_dir);
  return MP_EXIT_FAILED;
}

int mp_cmd_reload(struct mp_cli *cli, int argc, char **argv) {
  struct control_question question = {.command = "reload", .refused = " keeps what it has"};
  question.json = argc == 2 && !strcmp(argv[1], "--json");
  if (mp_cli_wants_help(argc, argv)) {
    puts(
        "Usage: moonpool reload [--json]\n\n"
        "Lets every `moonpool serve` of this project on this machine load scripts/ anew, and\n"
        "waits for its verdict. Broken files are told as file:line: message, and the host goes\n"
        "on with what it has.\n\n"
        "Exit status: 0 all have reloaded, 1 one has not, or none runs, 2 usage.");
    return MP_EXIT_OK;
  }
  if (argc > 1 && !question.json) return mp_cli_usage("reload", "unknown argument", argv[1]);
  return ask_all(cli, &question, "{\"do\":\"reload\"}\n", false);
}

/* ---- why ---- */

int mp_cmd_why(struct mp_cli *cli, int argc, char **argv) {
  char line[120];
  const char *id = NULL;
  bool notable = false;
  struct control_question question = {.command = "why", .refused = ""};
  if (mp_cli_wants_help(argc, argv)) {
    puts(
        "Usage: moonpool why [CALL_ID | --notable] [--json]\n\n"
        "Tells what a call of a running `moonpool serve` did, step by step: its waits, attempts\n"
        "and round trips, and the statements that travelled in each. The id is in the error and\n"
        "in the answer of the call. Without an id the last calls are listed; with --notable\n"
        "those that failed, were retried or were slow, which are kept longer.\n\n"
        "Exit status: 0 ok, 1 not known or none runs, 2 usage.");
    return MP_EXIT_OK;
  }
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--json"))
      question.json = true;
    else if (!strcmp(argv[i], "--notable"))
      notable = true;
    else if (!id && strlen(argv[i]) <= 40 &&
             strspn(argv[i], "0123456789abcdefABCDEF-") == strlen(argv[i]) && argv[i][0] != '-')
      id = argv[i];
    else
      return mp_cli_usage("why", "this is no call's id", argv[i]);
  }
  if (id)
    snprintf(line, sizeof line, "{\"do\":\"why\",\"id\":\"%s\"}\n", id);
  else
    snprintf(line, sizeof line, "{\"do\":\"why\",\"notable\":%s}\n", notable ? "true" : "false");
  return ask_all(cli, &question, line, true);
}
