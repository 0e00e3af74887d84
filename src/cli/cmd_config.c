/* cmd_config.c: `moonpool config`. */
#include <string.h>

#include "cli/cli.h"

int mp_cmd_config(struct mp_cli *cli, int argc, char **argv) {
  if (mp_cli_wants_help(argc, argv)) {
    puts(
        "Usage: moonpool config [--json]\n\nPrints every setting, its value and whether it comes from the environment; "
        "passwords are left out.");
    return MP_EXIT_OK;
  }
  bool json = argc == 2 && !strcmp(argv[1], "--json");
  if (argc > 1 && !json) return mp_cli_usage("config", "unknown argument", argv[1]);
  mp_config_print(&cli->config, stdout, json);
  return MP_EXIT_OK;
}
