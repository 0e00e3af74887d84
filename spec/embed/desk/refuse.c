#define _GNU_SOURCE
#include "refuse.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* The allocator behind this one. A sanitizer asks for memory before it can watch functions. */
#define UNWATCHED \
  __attribute__((no_sanitize("address"), no_sanitize("undefined"), no_sanitize("thread")))
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BEHIND(name) __interceptor_##name
#else
#define BEHIND(name) __libc_##name
#endif
void *BEHIND(malloc)(size_t size);
void *BEHIND(calloc)(size_t n, size_t size);
void *BEHIND(realloc)(void *old, size_t size);

/* What the dynamic loader keeps is where LeakSanitizer does not look. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:dl_open_worker_begin"; }

static atomic_int refusing; /* enum desk_refusal + 1; 0: all is granted */
static atomic_long left, refused_count;

/* Not what libuv and libpg-query ask for themselves: they end the process when it is refused; nor
 * what the dynamic loader asks for. */
static int spared(const void *caller) {
  Dl_info info;
  if (!dladdr(caller, &info) || !info.dli_fname) return 0;
  return strstr(info.dli_fname, "libuv") || strstr(info.dli_fname, "ld-linux") ||
         strstr(info.dli_fname, "libpg_query") || strstr(info.dli_fname, "libprotobuf");
}

UNWATCHED static int refused(const void *caller) {
  int refusal = atomic_load(&refusing);
  if (!refusal || spared(caller)) return 0;
  long before = atomic_fetch_sub(&left, 1);
  if (before > 0 || (before < 0 && refusal == DESK_ONE + 1)) return 0;
  atomic_fetch_add(&refused_count, 1);
  return 1;
}

void desk_refuse(long n, enum desk_refusal refusal) {
  atomic_store(&left, n);
  atomic_store(&refused_count, 0);
  atomic_store(&refusing, (int)refusal + 1);
}

long desk_grant(void) {
  atomic_store(&refusing, 0);
  return atomic_load(&refused_count);
}

UNWATCHED void *malloc(size_t size) {
  return refused(__builtin_return_address(0)) ? NULL : BEHIND(malloc)(size);
}
UNWATCHED void *calloc(size_t n, size_t size) {
  return refused(__builtin_return_address(0)) ? NULL : BEHIND(calloc)(n, size);
}
UNWATCHED void *realloc(void *old, size_t size) {
  return refused(__builtin_return_address(0)) ? NULL : BEHIND(realloc)(old, size);
}
