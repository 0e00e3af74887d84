#include "app/open_files.h"

#include <sys/resource.h>

#include "util/log.h"

/* Files that the host itself needs: database connections, scripts being read, clients that are
 * being refused. */
enum { OWN_FILES = 128 };

size_t mp_open_files_for(size_t clients) {
  struct rlimit limit;
  rlim_t needed = (rlim_t)clients + OWN_FILES;
  if (getrlimit(RLIMIT_NOFILE, &limit)) return clients;
  if (limit.rlim_cur < needed) {
    struct rlimit raised = {.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed,
                            .rlim_max = limit.rlim_max};
    if (!setrlimit(RLIMIT_NOFILE, &raised)) limit = raised;
  }
  if (limit.rlim_cur >= needed) return clients;
  size_t room = limit.rlim_cur > 2 * OWN_FILES ? (size_t)limit.rlim_cur - OWN_FILES
                                               : (size_t)limit.rlim_cur / 2;
  mp_log(
      MP_LOG_WARN, "http",
      "%llu open files are allowed (ulimit -Hn), enough for %zu clients at a time instead of %zu",
      (unsigned long long)limit.rlim_cur, room, clients);
  return room ? room : 1;
}
