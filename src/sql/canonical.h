/* canonical.h: values of which equal ones have equal texts, however the server writes them. */
#ifndef MP_CANONICAL_H
#define MP_CANONICAL_H

#include <stdbool.h>

bool mp_canonical_integer(const char *text);
bool mp_canonical_uuid(const char *text); /* but for the case of its letters */
static inline bool mp_canonical(const char *text) {
  return mp_canonical_integer(text) || mp_canonical_uuid(text);
}

#endif
