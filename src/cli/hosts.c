/* hosts.c: plain blocking sockets: a command has nothing else to do. */
#include "cli/hosts.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/control.h"
#include "util/buf.h"

/* Sends the line, reads the answer's. 0, or errno. */
static int ask(const char *path, const char *line, struct mp_buf *answer) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), sys = 0;
  size_t len = strlen(path);
  if (len < sizeof address.sun_path) memcpy(address.sun_path, path, len + 1);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) ||
      send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
    sys = errno;
  while (!sys && (!answer->len || answer->data[answer->len - 1] != '\n')) {
    char *room = mp_buf_reserve(answer, 4096);
    ssize_t n = room ? recv(fd, room, 4096, 0) : -1;
    if (n > 0)
      answer->len += (size_t)n;
    else if (n == 0)
      sys = ECONNRESET;
    else if (errno != EINTR)
      sys = room ? errno : ENOMEM;
  }
  if (fd >= 0) close(fd);
  return sys;
}

/* Those whose project folder has this path. */
static int ask_hosts(const char *app_dir, const char *line, mp_hosts_cb on_answer, void *data,
                     struct mp_err *err) {
  char prefix[200], path[600], pid[32];
  int rv = mp_control_path(app_dir, 0, prefix, sizeof prefix, err), hosts = 0;
  if (rv) return rv;
  char *name = strrchr(prefix, '/');
  *name++ = '\0';
  DIR *dir = opendir(prefix);
  for (struct dirent *entry; dir && (entry = readdir(dir));) {
    if (strncmp(entry->d_name, name, strlen(name)) != 0) continue;
    const char *number = entry->d_name + strlen(name);
    struct mp_buf answer;
    snprintf(pid, sizeof pid, "%.*s", (int)strcspn(number, "."), number);
    snprintf(path, sizeof path, "%s/%s", prefix, entry->d_name);
    mp_buf_init(&answer, 0);
    int sys = ask(path, line, &answer);
    if (sys == ECONNREFUSED || sys == ENOENT) {
      unlink(path);
    } else {
      hosts++;
      on_answer(data, pid, sys ? NULL : mp_buf_text(&answer), sys);
    }
    mp_buf_fini(&answer);
  }
  if (dir) closedir(dir);
  return hosts;
}

int mp_hosts_ask(const char *app_dir, const char *line, mp_hosts_cb on_answer, void *data,
                 struct mp_err *err) {
  static char real[PATH_MAX];
  int hosts = ask_hosts(app_dir, line, on_answer, data, err);
  if (hosts < 0 || !realpath(app_dir, real) || !strcmp(real, app_dir)) return hosts;
  int more = ask_hosts(real, line, on_answer, data,
                       err); /* a host that was started by the real path, not by a link */
  return more < 0 ? more : hosts + more;
}
