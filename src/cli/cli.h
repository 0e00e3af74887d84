/* cli.h: what the commands of the executable share. */
#ifndef MP_CLI_H
#define MP_CLI_H

#include <lua.h>
#include <stdbool.h>

#include "app/config.h"
#include "app/runtime.h"
#include "cluster/cluster.h"

/* Exit codes, for all commands. */
enum { MP_EXIT_OK = 0, MP_EXIT_FAILED = 1, MP_EXIT_USAGE = 2, MP_EXIT_NO_DATABASE = 3 };

struct mp_cli;

struct mp_command {
  const char *name, *arguments, *help; /* a NULL name ends the table */
  int (*run)(struct mp_cli *cli, int argc, char **argv);
};
const struct mp_command *mp_command_find(const struct mp_command *commands, const char *name);

struct mp_cli {
  const struct mp_command *commands;
  const char *app_dir;              /* the project folder, absolute */
  struct mp_settings_file settings; /* moonpool.conf */
  struct mp_config config;
  void (*at_end)(void); /* done when the main task has ended, before the host closes; or NULL */
};

/* Each takes its own arguments, argv[0] is the command's name; returns the exit code. */
int mp_cmd_call(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_relay(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_run(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_module(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_migrate(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_check(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_spec(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_bench(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_serve(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_reload(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_repl(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_why(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_errors(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_config(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_help(struct mp_cli *cli, int argc, char **argv);
int mp_cmd_db(int argc, char **argv);

/* Opens a host, runs what `push` pushes (runtime.h) as its main task, closes it. The exit code. */
int mp_cli_host(struct mp_cli *cli, const char *command, const struct mp_runtime_options *given,
                int (*push)(lua_State *L, void *data), void *data);
/* What a command gives to Lua. */
struct mp_cli_arguments {
  const char *module; /* of lua/moonpool/cli: returns function(arguments) -> exit code; or NULL */
  const char *path;   /* a script; "-": stdin */
  const char *code;   /* not NULL: instead of a file */
  int argc;
  char **argv;
};
/* For mp_cli_host: the module's function and the list of arguments. */
int mp_cli_push_module(lua_State *L, void *arguments);
/* The URL of the database, embedded or the user's own; `cluster` holds the memory. 0, or the exit
 * code. */
int mp_cli_database(struct mp_cli *cli, const char *command, struct mp_cluster *cluster,
                    const char **url);
/* Prints "moonpool COMMAND: message" and gives the exit code that fits. */
int mp_cli_fail(const char *command, const struct mp_err *err);
/* "unknown option" and where the help is; MP_EXIT_USAGE. */
int mp_cli_usage(const char *command, const char *fault, const char *arg);
/* "there is no command ...": names the nearest command or topic; MP_EXIT_USAGE. */
int mp_cli_unknown(const struct mp_cli *cli, const char *what, const char *given);
bool mp_cli_wants_help(int argc, char **argv);
/* Prints lua/moonpool/help/commands/COMMAND.txt; MP_EXIT_OK. */
int mp_cli_help(const char *command);

#endif
