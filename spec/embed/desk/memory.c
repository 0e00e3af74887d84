/* memory.c: a program's memory may be used up at any of the library's requests for it. A function
 * then returns an error, and the program goes on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

/* The sanitizer has an allocator of its own. */
void desk_memory(const struct desk *desk) { (void)desk; }

#else

/* The program's own allocator, in front of glibc's: the n-th request of this thread fails. Not one
 * of libuv's own: it ends the process when it cannot note another file descriptor. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

static _Thread_local long left = -1;

static int refused(const void *caller) {
  Dl_info info;
  if (left < 0) return 0;
  if (dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "libuv")) return 0;
  return left-- == 0;
}

void *malloc(size_t size) {
  return refused(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
  return refused(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}
void *realloc(void *old, size_t size) {
  return refused(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

/* ---- opening ---- */

/* Requests that an open makes until it succeeds. */
static void open_with_little(const struct desk *desk) {
  struct moonpool_error error;
  struct moonpool_options options;
  struct moonpool *mp = NULL;
  desk_options(&options, desk->workshop, desk->url[0]);
  for (long n = 0; !mp; n += n < 40 ? 1 : 5) {
    left = n;
    int rv = moonpool_open(&mp, &options, &error);
    left = -1;
    CHECK(mp ? rv == 0 : rv < 0 && *error.message);
  }
  CHECK(moonpool_close_wait(mp) == 0);
}

/* ---- calling ---- */

static void on_answer(struct moonpool *mp, const struct moonpool_answer *answer, void *data) {
  (void)mp;
  CHECK(answer->ok || answer->status >= 500);
  ++*(int *)data;
}

/* What a function has begun ends; what it has refused was not begun. */
static void call_with_little(const struct desk *desk) {
  struct moonpool_error error;
  struct moonpool_options options;
  struct moonpool_request request = desk_request("greet", "{}");
  struct moonpool *mp = NULL;
  int begun = 0, answered = 0;
  desk_options(&options, desk->workshop, desk->url[0]);
  OK(moonpool_open(&mp, &options, &error));
  for (int ready = 0; ready < 2; ready++) { /* held; begun at once */
    int succeeded = 0;
    for (long n = 0; !succeeded; n++) {
      left = n;
      int rv = moonpool_call(mp, &request, on_answer, &answered, NULL, &error);
      left = -1;
      succeeded = !rv;
      begun += succeeded;
      CHECK(!rv || rv == MOONPOOL_ENOMEM || rv == MOONPOOL_EBUSY);
    }
    while (answered < begun) moonpool_run_once(mp, 1);
  }
  CHECK(moonpool_close_wait(mp) == 0);
}

void desk_memory(const struct desk *desk) {
  open_with_little(desk);
  call_with_little(desk);
}

#endif
