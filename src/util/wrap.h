/* wrap.h: prose for a terminal, broken at spaces. */
#ifndef MP_WRAP_H
#define MP_WRAP_H

#include <stdio.h>

enum { MP_WRAP_COLUMNS = 96 };

/* Prints `text` and a newline. The first line begins with `first`, further ones with `next`; a line
 * has at most MP_WRAP_COLUMNS bytes, unless one word is longer. */
void mp_wrap(FILE *out, const char *first, const char *next, const char *text);

#endif
