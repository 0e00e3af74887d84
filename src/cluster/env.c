/* env.c: the one place where the embedded database meets the process environment. */
#include <stdlib.h>

#include "cluster/cluster.h"

void mp_cluster_env_read(struct mp_cluster_env *out) {
  *out = (struct mp_cluster_env){
      .moonpool_state = getenv("MOONPOOL_STATE"),
      .moonpool_pgbin = getenv("MOONPOOL_PGBIN"),
      .database_url = getenv("DATABASE_URL"),
      .owner_url = getenv("MOONPOOL_OWNER_URL"),
      .xdg_state_home = getenv("XDG_STATE_HOME"),
      .xdg_cache_home = getenv("XDG_CACHE_HOME"),
      .xdg_runtime_dir = getenv("XDG_RUNTIME_DIR"),
      .home = getenv("HOME"),
      .tmpdir = getenv("TMPDIR"),
      .path = getenv("PATH"),
  };
}
