/* nearest.h: how far two names are apart, to suggest the right name for a misspelled one. */
#ifndef MP_NEAREST_H
#define MP_NEAREST_H

#include <stddef.h>

/* Edit distance; 99 where one is longer than 60 bytes. */
size_t mp_distance(const char *a, const char *b);

#endif
