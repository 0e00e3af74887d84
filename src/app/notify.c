#include "app/notify.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int mp_notify(const char *address, const char *text, struct mp_err *err) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  size_t len = strlen(address);
  if ((*address != '/' && *address != '@') || len < 2 || len >= sizeof to.sun_path)
    return mp_err_set(err, MP_EINVAL, "\"%.120s\" is no address of a unix socket", address);
  memcpy(to.sun_path, address, len);
  if (*address == '@') to.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return mp_err_set(err, MP_EIO, "no unix socket: %s", strerror(errno));
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  ssize_t sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to, size);
  int fault = sent < 0 ? errno : 0;
  close(fd);
  return fault ? mp_err_set(err, MP_EIO, "%.120s: %s", address, strerror(fault)) : 0;
}
