/* cmd_config.c: `moonpool config`: the settings, and what the hosts of this project run with. */
#include <stdio.h>
#include <string.h>
#include <yajl/yajl_tree.h>

#include "cli/cli.h"
#include "cli/hosts.h"

static const char *text_at(yajl_val node, const char *name) {
  const char *path[] = {name, NULL};
  yajl_val value = yajl_tree_get(node, path, yajl_t_any);
  return YAJL_IS_STRING(value)   ? YAJL_GET_STRING(value)
         : YAJL_IS_NUMBER(value) ? YAJL_GET_NUMBER(value)
                                 : "?";
}

static void print_generation(yajl_val gen) {
  static const char *files_path[] = {"files", NULL};
  yajl_val files = yajl_tree_get(gen, files_path, yajl_t_object);
  printf("  generation %s, %s, since %s (%s s), %s calls\n", text_at(gen, "number"),
         text_at(gen, "state"), text_at(gen, "opened_at"), text_at(gen, "age"),
         text_at(gen, "calls"));
  for (size_t i = 0; YAJL_IS_OBJECT(files) && i < YAJL_GET_OBJECT(files)->len; i++)
    printf("    %s %s\n", YAJL_GET_STRING(YAJL_GET_OBJECT(files)->values[i]),
           YAJL_GET_OBJECT(files)->keys[i]);
}

static void on_host(void *data, const char *pid, const char *answer, int sys) {
  static const char *list_path[] = {"generations", NULL};
  yajl_val tree = answer ? yajl_tree_parse(answer, NULL, 0) : NULL;
  yajl_val list = tree ? yajl_tree_get(tree, list_path, yajl_t_array) : NULL;
  (void)data;
  printf("\nserved by process %s%s%s\n", pid,
         answer ? "" : ": no answer: ", answer ? "" : strerror(sys));
  for (size_t i = 0; YAJL_IS_ARRAY(list) && i < YAJL_GET_ARRAY(list)->len; i++)
    print_generation(YAJL_GET_ARRAY(list)->values[i]);
  yajl_tree_free(tree);
}

int mp_cmd_config(struct mp_cli *cli, int argc, char **argv) {
  if (mp_cli_wants_help(argc, argv)) return mp_cli_help("config");
  bool json = argc == 2 && !strcmp(argv[1], "--json");
  bool markdown = argc == 2 && !strcmp(argv[1], "--markdown");
  if (argc > 1 && !json && !markdown) return mp_cli_usage("config", "unknown argument", argv[1]);
  if (markdown) {
    mp_config_document(stdout);
    return MP_EXIT_OK;
  }
  mp_config_print(&cli->config, &cli->settings, stdout, json);
  /* A state directory that cannot be used is no fault of the settings. */
  if (!json) (void)!mp_hosts_ask(cli->app_dir, "{\"do\":\"generations\"}\n", on_host, NULL, NULL);
  return MP_EXIT_OK;
}
