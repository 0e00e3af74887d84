/* open_files.h: how many clients the system lets this process serve at a time. */
#ifndef MP_OPEN_FILES_H
#define MP_OPEN_FILES_H

#include <stddef.h>

/* Raises the process's soft limit of open files as far as `clients` need it and the hard limit
 * allows. Returns for how many clients that is enough, beside the host's own files; at most
 * `clients`, at least 1. */
size_t mp_open_files_for(size_t clients, unsigned workers);

#endif
