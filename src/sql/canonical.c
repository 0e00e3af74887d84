#include "sql/canonical.h"

#include <string.h>

bool mp_canonical_integer(const char *text) {
  const char *at = text + (*text == '-');
  bool zero = *at == '0';
  return *at && strspn(at, "0123456789") == strlen(at) && (!zero || (at == text && !at[1]));
}

bool mp_canonical_uuid(const char *text) {
  return strlen(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' &&
         text[23] == '-';
}
