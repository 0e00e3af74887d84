/* settings_file.h: moonpool.conf, the settings of a project. Each line is NAME = VALUE with a name
 * of config.c's table, is empty, or begins with #. A value may stand in quotes; outside of quotes a
 * # behind a blank begins a comment. */
#ifndef MP_SETTINGS_FILE_H
#define MP_SETTINGS_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "util/err.h"

#define MP_SETTINGS_FILE "moonpool.conf"

struct mp_setting_line {
  char *name, *value;
  unsigned line; /* from 1 */
  bool in_force; /* false: the environment has this setting, and wins */
};

struct mp_settings_file {
  char *folder; /* the project's; NULL: it has no such file */
  struct mp_setting_line *lines;
  size_t count;
};

/* Reads APP_DIR/moonpool.conf. 0, also if there is none; -MP_EINVAL names file and line. What was
 * read until then is in `file` in any case. Only names are taken apart here, not judged. */
int mp_settings_file_read(struct mp_settings_file *file, const char *app_dir,
                          struct mp_err *err) MP_MUST_CHECK;
/* NULL: the file does not have it. */
const struct mp_setting_line *mp_settings_file_find(const struct mp_settings_file *file,
                                                    const char *name);
void mp_settings_file_fini(struct mp_settings_file *file);

#endif
