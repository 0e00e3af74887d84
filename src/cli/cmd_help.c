/* cmd_help.c: `moonpool help`: the commands, and the texts of lua/moonpool/help/, one file for each
 * topic. A text's first line is "# NAME: what it is about". */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "util/embed.h"
#include "util/nearest.h"

#define FOLDER "moonpool/help/"

/* Copies the topic's name, without folder and ending; false: the file is no topic. */
static bool topic_of(const struct mp_embedded *file, char *name, size_t size) {
  size_t folder = strlen(FOLDER), len = strlen(file->name);
  if (len < folder + 4 || strncmp(file->name, FOLDER, folder) != 0) return false;
  if (strcmp(file->name + len - 3, ".md") != 0) return false;
  return snprintf(name, size, "%.*s", (int)(len - 3 - folder), file->name + folder) < (int)size;
}

static const struct mp_embedded *find_topic(const char *name) {
  char path[80];
  if (snprintf(path, sizeof path, FOLDER "%s.md", name) >= (int)sizeof path) return NULL;
  return mp_embedded_find(path);
}

const struct mp_command *mp_command_find(const struct mp_command *commands, const char *name) {
  for (const struct mp_command *command = commands; command->name; command++)
    if (!strcmp(command->name, name)) return command;
  return NULL;
}

/* How far a misspelled or shortened name is from a name. */
static size_t distance(const char *given, const char *name) {
  size_t len = strlen(given);
  return len > 2 && !strncmp(name, given, len) ? 1 : mp_distance(given, name);
}

int mp_cli_unknown(const struct mp_cli *cli, const char *what, const char *given) {
  char topic[80], near[100] = "";
  size_t best = strlen(given) / 2 + 1, far;
  for (const struct mp_command *command = cli->commands; command->name; command++)
    if ((far = distance(given, command->name)) < best) {
      best = far;
      snprintf(near, sizeof near, "%s", command->name);
    }
  for (const struct mp_embedded *file = mp_embedded_files; file->name; file++)
    if (topic_of(file, topic, sizeof topic) && (far = distance(given, topic)) < best) {
      best = far;
      snprintf(near, sizeof near, "%s%s", strcmp(what, "command") ? "" : "help ", topic);
    }
  fprintf(stderr, "moonpool: there is no %s \"%s\"%s%s%s; see: moonpool --help\n", what, given,
          *near ? "; did you mean \"" : "", near, *near ? "\"?" : "");
  return MP_EXIT_USAGE;
}

static void list_commands(const struct mp_command *commands) {
  for (const struct mp_command *command = commands; command->name; command++) {
    char usage[80];
    snprintf(usage, sizeof usage, "%s %s", command->name, command->arguments);
    printf(strlen(usage) <= 34 ? "  %-34s %s\n" : "  %s\n                                     %s\n",
           usage, command->help);
  }
}

static void list_topics(void) {
  char name[80];
  for (const struct mp_embedded *file = mp_embedded_files; file->name; file++) {
    const char *about = strstr(file->data, ": ");
    if (!topic_of(file, name, sizeof name) || !about) continue;
    printf("  %-14s %.*s\n", name, (int)strcspn(about + 2, "\n"), about + 2);
  }
}

static int overview(const struct mp_cli *cli) {
  puts(
      "moonpool runs operations: Lua scripts that are each one transaction on PostgreSQL.\n"
      "\n"
      "Usage: moonpool [--app DIR] COMMAND [ARGUMENTS]\n"
      "\n"
      "  moonpool migrate up\n"
      "  moonpool call place_order @order.json\n"
      "  moonpool run my_report.lua\n"
      "\n"
      "Commands, each with --help:");
  list_commands(cli->commands);
  puts("\nTopics: moonpool help TOPIC");
  list_topics();
  puts(
      "\n"
      "  --app DIR    the project folder (scripts/, migrations/, spec/);\n"
      "               default: $MOONPOOL_APP or the current folder\n"
      "\n"
      "While DATABASE_URL is unset, a private PostgreSQL is used (moonpool db --help).\n"
      "Exit status: 0 ok, 1 failed, 2 usage, 3 no database.");
  return MP_EXIT_OK;
}

int mp_cmd_help(struct mp_cli *cli, int argc, char **argv) {
  char *help[] = {NULL, "--help", NULL};
  if (argc < 2) return overview(cli);
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("help");
  if (argc > 2) return mp_cli_usage("help", "too many arguments:", argv[2]);
  const struct mp_embedded *topic = find_topic(argv[1]);
  if (topic) return fputs(topic->data, stdout) < 0 ? MP_EXIT_FAILED : MP_EXIT_OK;
  const struct mp_command *command = mp_command_find(cli->commands, argv[1]);
  if (!command || command->run == mp_cmd_help) return mp_cli_unknown(cli, "topic", argv[1]);
  help[0] = argv[1];
  return command->run(cli, 2, help);
}
