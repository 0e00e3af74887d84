#include "app/open_files.h"

#include <sys/resource.h>

#include "util/log.h"

/* Files that the host itself needs: database connections, scripts being read, clients that are
 * being refused. Each further worker has a loop, and a connection for its own questions. */
enum { OWN_FILES = 128, WORKERS_FILES = 8 };

size_t mp_open_files_for(size_t clients, unsigned workers) {
  struct rlimit limit;
  rlim_t own = OWN_FILES + (rlim_t)(workers ? workers - 1 : 0) * WORKERS_FILES;
  rlim_t needed = (rlim_t)clients + own;
  if (getrlimit(RLIMIT_NOFILE, &limit)) return clients;
  if (limit.rlim_cur < needed) {
    struct rlimit raised = {.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed,
                            .rlim_max = limit.rlim_max};
    if (!setrlimit(RLIMIT_NOFILE, &raised)) limit = raised;
  }
  if (limit.rlim_cur >= needed) return clients;
  size_t room =
      limit.rlim_cur > 2 * own ? (size_t)(limit.rlim_cur - own) : (size_t)limit.rlim_cur / 2;
  mp_log(
      MP_LOG_WARN, "http",
      "%llu open files are allowed (ulimit -Hn), enough for %zu clients at a time instead of %zu",
      (unsigned long long)limit.rlim_cur, room, clients);
  return room ? room : 1;
}
