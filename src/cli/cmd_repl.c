/* cmd_repl.c: `moonpool repl`: a host for a person who types (lua/moonpool/cli/repl.lua). */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/prompt.h"
#include "script/vm.h"
#include "util/log.h"

static int push_repl(lua_State *L, void *data) {
  mp_vm_preload(mp_vm_of(L), "moonpool.prompt", mp_open_prompt);
  return mp_cli_push_module(L, data);
}

int mp_cmd_repl(struct mp_cli *cli, int argc, char **argv) {
  static struct mp_cluster cluster;
  const char *url = NULL;
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("repl");
  int code = mp_cli_database(cli, "repl", &cluster, &url);
  if (code) return code;
  if (!cli->config.log_level) mp_log_set_level(MP_LOG_INFO); /* what operations print and log */
  struct mp_runtime_options options = {.database_url = url, .interactive = true};
  struct mp_cli_arguments arguments = {
      .module = "moonpool.cli.repl", .argc = argc - 1, .argv = argv + 1};
  return mp_cli_host(cli, "repl", &options, push_repl, &arguments);
}
