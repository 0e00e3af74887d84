/* supervisor.c: supervisor SOCKET: what systemd does for a service of Type=notify. Takes datagrams
 * from a unix socket (a path, or @NAME) and writes each as one line, until its stdin ends. */
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  char text[4096];
  size_t len = argc == 2 ? strlen(argv[1]) : sizeof at.sun_path;
  if (len >= sizeof at.sun_path) return 2;
  memcpy(at.sun_path, argv[1], len);
  if (*at.sun_path == '@') at.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (bind(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len))) {
    perror("supervisor");
    return 1;
  }
  puts("bound");
  fflush(stdout);
  struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
  for (;;) {
    if (poll(polled, 2, -1) < 0 || polled[1].revents) return 0;
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    if (n < 0) return 1;
    for (ssize_t i = 0; i < n; i++)
      if (text[i] == '\n') text[i] = ' ';
    printf("%.*s\n", (int)n, text);
    fflush(stdout);
  }
}
