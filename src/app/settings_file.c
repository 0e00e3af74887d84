#include "app/settings_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char blanks[] = " \t\r\n";

static int refuse(struct mp_err *err, unsigned line, const char *fault) {
  return mp_err_set(err, MP_EINVAL,
                    MP_SETTINGS_FILE
                    ":%u: %s; a line is NAME = VALUE, or begins "
                    "with #",
                    line, fault);
}

/* Without blanks at both ends; changes the text. */
static char *trim(char *text) {
  text += strspn(text, blanks);
  size_t len = strlen(text);
  while (len && strchr(blanks, text[len - 1])) text[--len] = '\0';
  return text;
}

/* Takes the value out of its quotes, or a comment from its end; changes the text. NULL: a quote is
 * not closed, or something is behind it. */
static char *bare(char *value) {
  if (*value == '"' || *value == '\'') {
    char *end = strchr(value + 1, *value);
    if (!end || (end[1 + strspn(end + 1, blanks)] && end[1 + strspn(end + 1, blanks)] != '#'))
      return NULL;
    *end = '\0';
    return value + 1;
  }
  for (char *at = value; (at = strchr(at, '#')); at++)
    if (at == value || strchr(blanks, at[-1])) {
      *at = '\0';
      break;
    }
  return trim(value);
}

static int add(struct mp_settings_file *file, const char *name, const char *value, unsigned line,
               struct mp_err *err) {
  size_t size = (file->count + 1) * sizeof *file->lines;
  struct mp_setting_line *lines = realloc(file->lines, size);
  if (!lines) return mp_err_set(err, MP_ENOMEM, "no memory for " MP_SETTINGS_FILE);
  file->lines = lines;
  struct mp_setting_line *added = &lines[file->count++];
  *added = (struct mp_setting_line){strdup(name), strdup(value), line, false};
  if (added->name && added->value) return 0;
  return mp_err_set(err, MP_ENOMEM, "no memory for " MP_SETTINGS_FILE);
}

static int read_line(struct mp_settings_file *file, char *text, unsigned line, struct mp_err *err) {
  text = trim(text);
  if (!*text || *text == '#') return 0;
  char *equals = strchr(text, '=');
  if (!equals) return refuse(err, line, "there is no =");
  *equals = '\0';
  char *name = trim(text), *value = bare(trim(equals + 1));
  if (!*name) return refuse(err, line, "the name is missing");
  if (!value) return refuse(err, line, "a quote is not closed, or something is behind it");
  const struct mp_setting_line *before = mp_settings_file_find(file, name);
  if (before)
    return mp_err_set(err, MP_EINVAL,
                      MP_SETTINGS_FILE ":%u: %.60s is set in line %u already; remove one of them",
                      line, name, before->line);
  return add(file, name, value, line, err);
}

int mp_settings_file_read(struct mp_settings_file *file, const char *app_dir, struct mp_err *err) {
  char path[4200], *text = NULL;
  size_t size = 0;
  int rv = 0;
  *file = (struct mp_settings_file){0};
  snprintf(path, sizeof path, "%s/" MP_SETTINGS_FILE, app_dir);
  FILE *in = fopen(path, "re");
  if (!in && errno == ENOENT) return 0;
  if (!in) return mp_err_set(err, MP_EINVAL, "cannot read %s: %s", path, strerror(errno));
  file->folder = strdup(app_dir);
  if (!file->folder) rv = mp_err_set(err, MP_ENOMEM, "no memory for " MP_SETTINGS_FILE);
  for (unsigned line = 1; !rv && getline(&text, &size, in) >= 0; line++)
    rv = read_line(file, text, line, err);
  if (!rv && ferror(in)) rv = mp_err_set(err, MP_EINVAL, "cannot read %s", path);
  fclose(in);
  free(text);
  return rv;
}

const struct mp_setting_line *mp_settings_file_find(const struct mp_settings_file *file,
                                                    const char *name) {
  for (size_t i = 0; i < file->count; i++)
    if (!strcmp(file->lines[i].name, name)) return &file->lines[i];
  return NULL;
}

void mp_settings_file_fini(struct mp_settings_file *file) {
  for (size_t i = 0; i < file->count; i++) {
    free(file->lines[i].name);
    free(file->lines[i].value);
  }
  free(file->lines);
  free(file->folder);
  *file = (struct mp_settings_file){0};
}
