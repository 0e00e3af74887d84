/* cmd_serve.c: `moonpool serve`, the host that stays, and `moonpool reload`, which speaks to it. */
#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <yajl/yajl_tree.h>

#include "app/control.h"
#include "cli/cli.h"
#include "util/buf.h"
#include "util/log.h"

/* ---- serve ---- */

static int push_serve(lua_State *L, void *data) {
  const struct mp_config *config = data;
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonpool.cli.serve");
  lua_call(L, 1, 1);
  lua_createtable(L, 0, 2);
  lua_pushnumber(L, (double)config->watch_ms / 1000);
  lua_setfield(L, -2, "watch");
  lua_pushstring(L, config->listen ? config->listen : "127.0.0.1:5000");
  lua_setfield(L, -2, "listen");
  return 1;
}

/* Schedules count in this zone, and so does os.date. libc takes an unknown name for UTC without a word. */
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
  const char *url = NULL;
  if (mp_cli_wants_help(argc, argv)) {
    puts(
        "Usage: moonpool serve [--listen ADDRESS:PORT | --listen off]\n\n"
        "Loads scripts/ and serves its operations over HTTP (127.0.0.1:5000) until SIGTERM, which lets work in progress end\n"
        "(MOONPOOL_DRAIN_TIMEOUT; a second signal does not wait). Operations with `every` run on their schedule.\n\n"
        "A changed file in scripts/, SIGHUP or `moonpool reload` loads all of scripts/ anew. Calls under way end on what\n"
        "they began with; if anything is wrong with the new files they are refused, all faults are told, and the old\n"
        "ones stay. If scripts/smoke.lua exists it has the last word: it raises when the new files must not serve.\n\n"
        "  POST /api/ops/NAME          call an operation: JSON in, {\"result\"} or {\"error\"} out\n"
        "  GET  /api/ops, /openapi.json, /health, /metrics, /api/db/...\n"
        "All but the health checks need a token: moonpool token create. Another address than this machine's own needs one\n"
        "to exist. TLS is a reverse proxy's business.\n\n"
        "  MOONPOOL_LISTEN             as --listen\n"
        "  MOONPOOL_WATCH              how often serve looks for changes, ms (500; 0: never)\n"
        "  MOONPOOL_SETTLE             how long files must have stayed the same, ms (100)\n"
        "  MOONPOOL_LOAD_TIMEOUT       for loading and smoke.lua, ms (10000)\n"
        "  MOONPOOL_GENERATION_DRAIN   calls older than a reload are ended after it, ms (60000)\n"
        "  MOONPOOL_TZ                 time zone of cron lines (UTC)\n\n"
        "Exit status: 0 stopped, 1 failed (scripts/ is broken at the start), 2 usage, 3 no database.");
    return MP_EXIT_OK;
  }
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--listen") != 0) return mp_cli_usage("serve", "unknown argument", argv[i]);
    if (++i == argc) return mp_cli_usage("serve", "ADDRESS:PORT is missing behind", "--listen");
    free(cli->config.listen);
    cli->config.listen = strdup(argv[i]);
  }
  signal(SIGPIPE, SIG_IGN); /* a client that is gone is no reason to go */
  int code = set_time_zone(cli->config.time_zone);
  if (!code) code = mp_cli_database(cli, "serve", &cluster, &url);
  if (code) return code;
  if (!cli->config.log_level) mp_log_set_level(MP_LOG_INFO);
  struct mp_runtime_options options = {
      .database_url = url, .pool_min = (unsigned)cli->config.pool_min, .serving = true};
  return mp_cli_host(cli, "serve", &options, push_serve, &cli->config);
}

/* ---- reload ---- */

/* Sends the line, reads the answer's. 0, or errno. */
static int ask(const char *path, const char *line, struct mp_buf *answer) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), sys = 0;
  size_t len = strlen(path);
  if (len < sizeof address.sun_path) memcpy(address.sun_path, path, len + 1);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) {
    sys = errno;
  } else if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0) {
    sys = errno;
  }
  while (!sys && (!answer->len || answer->data[answer->len - 1] != '\n')) {
    char *room = mp_buf_reserve(answer, 4096);
    ssize_t n = room ? recv(fd, room, 4096, 0) : -1;
    if (n > 0)
      answer->len += (size_t)n;
    else if (n == 0)
      sys = ECONNRESET;
    else if (errno != EINTR)
      sys = room ? errno : ENOMEM;
  }
  if (fd >= 0) close(fd);
  return sys;
}

/* What a person reads of the answer; whether the reload was good. */
static bool tell(const char *pid, const char *text) {
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
    fprintf(stderr, "moonpool reload: process %s keeps what it has:\n%s\n", pid, said);
  yajl_tree_free(tree);
  return good;
}

int mp_cmd_reload(struct mp_cli *cli, int argc, char **argv) {
  char prefix[200], path[600];
  struct mp_err err;
  bool json = argc == 2 && !strcmp(argv[1], "--json");
  if (mp_cli_wants_help(argc, argv)) {
    puts(
        "Usage: moonpool reload [--json]\n\n"
        "Lets every `moonpool serve` of this project on this machine load scripts/ anew, and waits for its verdict.\n"
        "Broken files are told as file:line: message, and the host goes on with what it has.\n\n"
        "Exit status: 0 all have reloaded, 1 one has not, or none runs, 2 usage.");
    return MP_EXIT_OK;
  }
  if (argc > 1 && !json) return mp_cli_usage("reload", "unknown argument", argv[1]);
  if (mp_control_path(cli->app_dir, 0, prefix, sizeof prefix, &err))
    return mp_cli_fail("reload", &err);
  char *name = strrchr(prefix, '/');
  *name++ = '\0';
  DIR *dir = opendir(prefix);
  int code = MP_EXIT_OK, hosts = 0;
  for (struct dirent *entry; dir && (entry = readdir(dir));) {
    if (strncmp(entry->d_name, name, strlen(name)) != 0) continue;
    struct mp_buf answer;
    char pid[32];
    snprintf(pid, sizeof pid, "%.*s", (int)strcspn(entry->d_name + strlen(name), "."),
             entry->d_name + strlen(name));
    snprintf(path, sizeof path, "%s/%s", prefix, entry->d_name);
    mp_buf_init(&answer, 0);
    int sys = ask(path, "{\"do\":\"reload\"}\n", &answer);
    if (sys == ECONNREFUSED) {
      unlink(path); /* of a process that was killed */
    } else if (sys) {
      fprintf(stderr, "moonpool reload: process %s gave no answer: %s\n", pid, strerror(sys));
      code = MP_EXIT_FAILED;
      hosts++;
    } else {
      hosts++;
      if (json) fputs(mp_buf_text(&answer), stdout);
      if (json ? !strstr(mp_buf_text(&answer), "\"ok\":true") : !tell(pid, mp_buf_text(&answer)))
        code = MP_EXIT_FAILED;
    }
    mp_buf_fini(&answer);
  }
  if (dir) closedir(dir);
  if (hosts) return code;
  fprintf(stderr, "moonpool reload: no `moonpool serve` of %s runs (looked into %s)\n",
          cli->app_dir, prefix);
  return MP_EXIT_FAILED;
}
