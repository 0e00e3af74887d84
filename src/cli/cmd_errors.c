/* cmd_errors.c: `moonpool errors`: what each code of an error means (util/codes.h). Needs no
 * database. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"
#include "util/codes.h"
#include "util/wrap.h"

static void print_whole(const struct mp_code_info *info) {
  printf("%s: status %d, fault of the %s%s%s%s\n", info->name, info->status,
         info->blame == MP_BLAME_TRANSIENT ? "moment" : mp_blame_name(info->blame),
         info->again == MP_AGAIN_NO     ? ""
         : info->again == MP_AGAIN_HOST ? "; the host has tried again, callers may too"
                                        : "; callers may try again",
         *info->sqlstates ? "; SQLSTATE " : "", info->sqlstates);
  printf("  callers get   %s\n", info->told ? info->told : "the message");
  printf("  cause         %s\n  what to do    %s\n", info->cause, info->remedy);
}

static void print_json(const struct mp_code_info *info, bool first) {
  printf(
      "%s  {\"code\": \"%s\", \"sqlstates\": \"%s\", \"status\": %d, \"fault\": \"%s\", "
      "\"again\": \"%s\", ",
      first ? "" : ",\n", info->name, info->sqlstates, info->status, mp_blame_name(info->blame),
      mp_again_name(info->again));
  if (info->told) printf("\"told\": \"%s\", ", info->told);
  printf("\"cause\": \"%s\", \"remedy\": \"%s\"}", info->cause, info->remedy);
}

static void print_item(const struct mp_code_info *info) {
  printf("- `%s`: %d, %s%s%s%s\n", info->name, info->status, mp_blame_name(info->blame),
         info->again == MP_AGAIN_NO ? "" : ", may be retried",
         *info->sqlstates ? ", SQLSTATE " : "", info->sqlstates);
  mp_wrap(stdout, "  Cause: ", "  ", info->cause);
  mp_wrap(stdout, "  To do: ", "  ", info->remedy);
}

static void print_line(const struct mp_code_info *info) {
  printf("%-26s %3d  %-9s  %s\n", info->name, info->status, mp_blame_name(info->blame),
         info->cause);
}

static int print_one(const char *asked) {
  const struct mp_code_info *info;
  for (size_t i = 0; (info = mp_code_at(i)); i++) {
    if (strcasecmp(info->name, asked) != 0) continue;
    print_whole(info);
    return MP_EXIT_OK;
  }
  info = strlen(asked) == 5 ? mp_code_of_sqlstate(asked) : NULL;
  if (!info && strlen(asked) == 5 && strspn(asked, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5)
    info = mp_code_find("DATABASE_ERROR");
  if (!info)
    return mp_cli_usage("errors", "not a code of the host (it may be a script's own):", asked);
  print_whole(info);
  return MP_EXIT_OK;
}

int mp_cmd_errors(struct mp_cli *cli, int argc, char **argv) {
  const struct mp_code_info *info;
  (void)cli;
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("errors");
  bool json = argc > 1 && !strcmp(argv[1], "--json");
  bool markdown = argc > 1 && !strcmp(argv[1], "--markdown");
  if (argc > 2) return mp_cli_usage("errors", "too many arguments:", argv[2]);
  if (argc > 1 && argv[1][0] == '-' && !json && !markdown)
    return mp_cli_usage("errors", "unknown option", argv[1]);
  if (argc > 1 && !json && !markdown) return print_one(argv[1]);
  if (json) puts("[");
  for (size_t i = 0; (info = mp_code_at(i)); i++) {
    if (json)
      print_json(info, !i);
    else if (markdown)
      print_item(info);
    else
      print_line(info);
  }
  if (json) puts("\n]");
  return MP_EXIT_OK;
}
