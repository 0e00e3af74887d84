/* usage.c: how every command says how it is called, that it was called wrongly, or that it failed.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "util/embed.h"

int mp_cli_usage(const char *command, const char *fault, const char *arg) {
  fprintf(stderr, "moonpool%s%s: %s%s%s%s; see: moonpool %s%s--help\n", *command ? " " : "",
          command, fault, *arg ? " \"" : "", arg, *arg ? "\"" : "", command, *command ? " " : "");
  return MP_EXIT_USAGE;
}

int mp_cli_fail(const char *command, const struct mp_err *err) {
  fprintf(stderr, "moonpool %s: %s\n", command, err->msg);
  return err->code == MP_ENODB ? MP_EXIT_NO_DATABASE : MP_EXIT_FAILED;
}

bool mp_cli_wants_help(int argc, char **argv) {
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
    if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
  return false;
}

int mp_cli_help(const char *command) {
  char path[80];
  snprintf(path, sizeof path, "moonpool/help/commands/%s.txt", command);
  const struct mp_embedded *text = mp_embedded_find(path);
  if (!text || fputs(text->data, stdout) < 0) return MP_EXIT_FAILED;
  return MP_EXIT_OK;
}
