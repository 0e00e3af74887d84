#include "util/wrap.h"

#include <string.h>

void mp_wrap(FILE *out, const char *first, const char *next, const char *text) {
  size_t column = strlen(first), indent = column;
  fputs(first, out);
  while (*(text += strspn(text, " "))) {
    size_t len = strcspn(text, " ");
    if (column > indent && column + 1 + len > MP_WRAP_COLUMNS) {
      column = indent = strlen(next);
      fprintf(out, "\n%s", next);
    } else if (column > indent) {
      fputc(' ', out);
      column++;
    }
    fprintf(out, "%.*s", (int)len, text);
    column += len;
    text += len;
  }
  fputc('\n', out);
}
