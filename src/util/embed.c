#include "util/embed.h"

#include <string.h>

const struct mp_embedded *mp_embedded_find(const char *name) {
  for (const struct mp_embedded *file = mp_embedded_files; file->name; file++)
    if (strcmp(file->name, name) == 0) return file;
  return NULL;
}
