#include "rules/isolation.h"

#include <string.h>

#include "util/attr.h"

static const char *const level_names[] = {"read committed", "repeatable read", "serializable"};

const char *mp_isolation_name(enum mp_isolation level) { return level_names[level]; }

bool mp_isolation_parse(const char *text, enum mp_isolation *out) {
  for (unsigned i = 0; i < MP_ARRAY_LEN(level_names); i++) {
    if (text && strcmp(text, level_names[i]) != 0) continue;
    *out = (enum mp_isolation)i;
    return true;
  }
  return false;
}
