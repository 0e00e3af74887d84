/* preload.c: preloaded into a process (LD_PRELOAD), it changes what the process sees of the system,
 * for specs that could not change it otherwise. Each environment variable is one change:
 *
 *   WRONG_CLOCK=FILE            the wall clock is wrong by so many seconds: eight bytes, which may
 *                               be written at any time; the monotonic clock stays as it is
 *   NAME_OF_SEVERAL=NAME,A,B..  the name has these addresses, in this order
 *   SOCKET_OPTIONS=FILE         each setsockopt is a line of it: level, option, value
 *   HANGING_THREAD=NAME,FILE    the thread of this name never returns from its wait for events once
 *                               the file is there */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
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
  if (!real_clock) *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
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

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict out) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  char list[256], *next = list;
  snprintf(list, sizeof list, "%s", getenv("NAME_OF_SEVERAL") ? getenv("NAME_OF_SEVERAL") : "");
  const char *known = strsep(&next, ",");
  if (!name || !*known || strcmp(name, known) != 0) return real(name, service, hints, out);
  for (const char *address; (address = strsep(&next, ","));) {
    int rv = real(address, service, hints, out);
    if (rv) return rv;
    while (*out) out = &(*out)->ai_next; /* libc frees them one by one */
  }
  return 0;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t size) {
  int (*real)(int, int, int, const void *, socklen_t);
  const char *path = getenv("SOCKET_OPTIONS");
  FILE *file = path && size == sizeof(int) ? fopen(path, "a") : NULL;
  *(void **)&real = dlsym(RTLD_NEXT, "setsockopt");
  if (file) {
    fprintf(file, "%d %d %d\n", level, option, *(const int *)value);
    fclose(file);
  }
  return real(fd, level, option, value, size);
}

static void hang_if_told(void) {
  char name[16], told[300], *file = told;
  snprintf(told, sizeof told, "%s", getenv("HANGING_THREAD") ? getenv("HANGING_THREAD") : "");
  const char *thread = strsep(&file, ",");
  if (!file || pthread_getname_np(pthread_self(), name, sizeof name) || strcmp(name, thread) != 0)
    return;
  while (access(file, F_OK) == 0) pause();
}

int epoll_pwait(int fd, struct epoll_event *events, int size, int ms, const sigset_t *set) {
  int (*real)(int, struct epoll_event *, int, int, const sigset_t *);
  *(void **)&real = dlsym(RTLD_NEXT, "epoll_pwait");
  hang_if_told();
  return real(fd, events, size, ms, set);
}

int epoll_wait(int fd, struct epoll_event *events, int size, int ms) {
  return epoll_pwait(fd, events, size, ms, NULL);
}
