#include "cli/children.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/buf.h"

#define VARIABLE "MP_SPEC_RUN"

enum { GRACE_MS = 3000, LOOK_MS = 20 };

static char mark[48];

void mp_children_mark(void) {
  const char *outer = getenv(VARIABLE); /* of a run inside a run */
  struct timespec now;
  struct mp_buf value;
  clock_gettime(CLOCK_MONOTONIC, &now);
  snprintf(mark, sizeof mark, "/%ld.%lld.%ld/", (long)getpid(), (long long)now.tv_sec, now.tv_nsec);
  mp_buf_init(&value, 0);
  mp_buf_addf(&value, "%s%s", outer ? outer : "", mark);
  if (!value.failed) setenv(VARIABLE, mp_buf_text(&value), 1);
  mp_buf_fini(&value);
}

/* The file's text in `buf`; false if it cannot be read. */
static bool read_file(const char *pid, const char *name, struct mp_buf *buf) {
  char path[300];
  snprintf(path, sizeof path, "/proc/%.20s/%s", pid, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : 1;
  while (n > 0) {
    char *room = mp_buf_reserve(buf, 4096);
    n = room ? read(fd, room, 4096) : -1;
    if (n > 0) buf->len += (size_t)n;
  }
  if (fd >= 0) close(fd);
  return n == 0;
}

static bool is_ours(const char *pid) {
  struct mp_buf environment;
  mp_buf_init(&environment, 0);
  bool ours = read_file(pid, "environ", &environment) && environment.len &&
              memmem(environment.data, environment.len, mark, strlen(mark));
  mp_buf_fini(&environment);
  return ours;
}

static void name_of(const char *pid, struct mp_buf *out) {
  struct mp_buf line;
  mp_buf_init(&line, 0);
  read_file(pid, "cmdline", &line);
  for (size_t i = 0; i < line.len && i < 80; i++)
    mp_buf_addc(out, line.data[i] ? line.data[i] : ' ');
  mp_buf_fini(&line);
}

/* Sends the signal to all that are left; with `named` they are listed. Gives how many there are. */
static unsigned signal_all(int signal_number, struct mp_buf *named) {
  DIR *dir = opendir("/proc");
  unsigned count = 0;
  for (struct dirent *entry; dir && (entry = readdir(dir));) {
    long pid = strtol(entry->d_name, NULL, 10);
    if (pid <= 1 || pid == (long)getpid() || !is_ours(entry->d_name)) continue;
    count++;
    if (named) {
      mp_buf_addf(named, "%s%ld (", named->len ? ", " : "", pid);
      name_of(entry->d_name, named);
      mp_buf_addc(named, ')');
    }
    if (signal_number) kill((pid_t)pid, signal_number);
  }
  if (dir) closedir(dir);
  return count;
}

void mp_children_end(void) {
  struct mp_buf named;
  if (!*mark) return;
  mp_buf_init(&named, 0);
  unsigned left = signal_all(SIGTERM, &named);
  if (left)
    fprintf(stderr, "moonpool spec: ended what specs left running: %s\n", mp_buf_text(&named));
  mp_buf_fini(&named);
  for (int waited = 0; left && waited < GRACE_MS; waited += LOOK_MS) {
    nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    left = signal_all(0, NULL);
  }
  if (left) signal_all(SIGKILL, NULL);
}
