/* wrong_clock.c: preloaded (LD_PRELOAD) into a process, it moves that process's wall clock. The
 * file that WRONG_CLOCK names holds by how many seconds, as eight bytes; whoever writes to it makes
 * the clock jump. The monotonic clock stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *offset_s;
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("WRONG_CLOCK");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
  if (fd < 0) return;
  void *at = mmap(NULL, sizeof *offset_s, PROT_READ, MAP_SHARED, fd, 0);
  if (at != MAP_FAILED) offset_s = at;
  close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  int rv = real_clock(clock, out);
  if (offset_s && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    out->tv_sec += (time_t)*offset_s;
  return rv;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  struct timespec now;
  int rv = clock_gettime(CLOCK_REALTIME, &now);
  (void)zone;
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return rv;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
