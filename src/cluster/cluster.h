/* cluster.h: the embedded default database, a private PostgreSQL cluster in a state directory.
 *
 * One state directory holds one cluster: DIR/data (PGDATA), DIR/run (the unix socket), DIR/log and
 * DIR/lock, which every change takes first. There is no TCP port: who may enter the directory may
 * connect. All calls block and belong in front of any event loop. */
#ifndef MP_CLUSTER_H
#define MP_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/err.h"

enum { MP_CLUSTER_PATH = 1024, MP_CLUSTER_URL = 3400 };

/* What the environment says; NULL where it says nothing. Borrowed by the calls below. */
struct mp_cluster_env {
  const char *moonpool_state; /* MOONPOOL_STATE: the state directory */
  const char *moonpool_pgbin; /* MOONPOOL_PGBIN: the folder with postgres and initdb */
  const char *database_url;   /* DATABASE_URL: takes precedence over the embedded cluster */
  const char *owner_url;      /* MOONPOOL_OWNER_URL */
  const char *xdg_state_home;
  const char *xdg_cache_home;
  const char *xdg_runtime_dir;
  const char *home;
  const char *tmpdir;
  const char *path;
};

struct mp_cluster_options {
  struct mp_cluster_env env;
  const char *state_dir; /* NULL: mp_cluster_default_dir; for a throwaway a fresh temporary one */
  bool throwaway;        /* nothing durable, dies with the thread that made it, removed on stop */
  void (*progress)(void *ctx, const char *text); /* told before something slow; may be NULL */
  void *progress_ctx;
};

struct mp_cluster {
  char dir[MP_CLUSTER_PATH]; /* absolute, links resolved */
  char data_dir[MP_CLUSTER_PATH];
  char socket_dir[MP_CLUSTER_PATH];
  char log_path[MP_CLUSTER_PATH];
  char bin_dir[MP_CLUSTER_PATH]; /* "" when no PostgreSQL was found */
  char app_url[MP_CLUSTER_URL];
  char owner_url[MP_CLUSTER_URL];
  char admin_url[MP_CLUSTER_URL];
  int port;
  int version; /* major version of the data directory, 0 before there is one */
  pid_t pid;   /* the postmaster, 0 when it does not run */
  bool initialised, running;
  bool started_here; /* this call started it (and not an earlier one) */
  bool throwaway;
  int lock_fd; /* a throwaway holds its lock for life, -1 otherwise */
};

/* Reads the process environment. Only the app layer may call it. */
void mp_cluster_env_read(struct mp_cluster_env *out);

/* MOONPOOL_STATE, else for root /var/lib/moonpool, else $XDG_STATE_HOME/moonpool, else
 * ~/.local/state/moonpool. */
int mp_cluster_default_dir(const struct mp_cluster_env *env, char *out, size_t size,
                           struct mp_err *err);

/* Makes the cluster once, starts it when it does not run, and brings roles and database up to date.
 * Safe to call from many processes at once. On success `out` names everything; a durable cluster
 * outlives the caller, a throwaway must be given to mp_cluster_stop. */
int mp_cluster_ensure(const struct mp_cluster_options *opts, struct mp_cluster *out,
                      struct mp_err *err);

/* Fills `out` without changing anything; a cluster that does not run, or was never made, is not an
 * error. */
int mp_cluster_status(const struct mp_cluster_options *opts, struct mp_cluster *out,
                      struct mp_err *err);

/* Fast shutdown (clients are disconnected, nothing committed is lost) and waits for its end. Not
 * running is success. A throwaway is removed as well. */
int mp_cluster_stop(struct mp_cluster *cluster, struct mp_err *err);

/* Throws all data away and makes a new, running cluster. Asks nothing. If that fails the old data
 * is put back. */
int mp_cluster_reset(const struct mp_cluster_options *opts, struct mp_cluster *out,
                     struct mp_err *err);

/* Whether postgres and initdb are in the folder. */
bool mp_cluster_has_server(const char *dir);

/* Path of psql beside the server's binaries (Debian's /usr/bin/psql is a wrapper), else "psql". */
void mp_cluster_psql_path(const struct mp_cluster_options *opts, char *out, size_t size);

/* roles.sql as it was built in; not terminated, static storage. */
int mp_cluster_roles_sql(const char **text, size_t *size, struct mp_err *err);

/* A connection string as a URL without its password, which goes to `password` ("" if none). */
int mp_cluster_split_password(const char *url, char *out, size_t out_size, char *password,
                              size_t password_size, struct mp_err *err);

#endif
