#include "util/nearest.h"

#include <string.h>

size_t mp_distance(const char *a, const char *b) {
  size_t la = strlen(a), lb = strlen(b), row[64];
  if (la > 60 || lb > 60) return 99;
  for (size_t j = 0; j <= lb; j++) row[j] = j;
  for (size_t i = 1; i <= la; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= lb; j++) {
      size_t replace = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      size_t insert = row[j - 1] + 1, drop = row[j] + 1;
      row[j] =
          replace < insert ? (replace < drop ? replace : drop) : (insert < drop ? insert : drop);
    }
  }
  return row[lb];
}
