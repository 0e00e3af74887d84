/* pre.h: what a public function asks of its caller, checked in every build.
 *
 * PRE is for what only a mistake in C can break: a call in the wrong state, a NULL, an index out of
 * range. It is never for what comes from outside (a script, the network, the server): that is a
 * struct mp_err. */
#ifndef MP_PRE_H
#define MP_PRE_H

#include "util/attr.h"

/* Ends the process if `condition` does not hold, and says where and what on standard error. */
#define PRE(condition) \
  ((condition) ? (void)0 : mp_pre_failed(__FILE__, __LINE__, __func__, #condition))

MP_NORETURN void mp_pre_failed(const char *file, int line, const char *function, const char *text);

#endif
