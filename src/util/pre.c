#include "util/pre.h"

#include <stdio.h>
#include <stdlib.h>

void mp_pre_failed(const char *file, int line, const char *function, const char *text) {
  /* No log: what the log stands on may be what is broken. abort() leaves a core for a debugger. */
  (void)fprintf(stderr, "moonpool: fault of the host: %s:%d: %s() was called although not: %s\n",
                file, line, function, text);
  abort();
}
