/* attr.h: the few compiler attributes and helpers that every layer uses. */
#ifndef MP_ATTR_H
#define MP_ATTR_H

#include <stddef.h>

#define MP_MUST_CHECK __attribute__((warn_unused_result))
#define MP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MP_NORETURN __attribute__((noreturn))
#define MP_UNUSED __attribute__((unused))

/* From a pointer to an embedded member back to the struct that holds it. */
#define MP_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define MP_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* free() of an element that was just taken off a list or a hash. clang's analyzer does not see the
 * removal and would report each later use of the list. */
#ifdef __clang_analyzer__
#define MP_FREE_LISTED(ptr) ((void)(ptr))
#else
#define MP_FREE_LISTED(ptr) free(ptr)
#endif

#endif
