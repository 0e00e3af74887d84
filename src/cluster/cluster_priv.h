/* cluster_priv.h: what the files of this room share; included by nothing else. */
#ifndef MP_CLUSTER_PRIV_H
#define MP_CLUSTER_PRIV_H

#include <stdint.h>

#include "cluster/cluster.h"

enum {
  MP_CLUSTER_PORT = 5432,
  MP_CLUSTER_MIN_VERSION = 14,
  MP_CLUSTER_BEST_VERSION = 15, /* Debian 12's: where there are several, and no data yet */
  MP_CLUSTER_WAIT_MS = 30000,   /* start, stop */
  MP_CLUSTER_LOCK_WAIT_MS = 60000,
  MP_CLUSTER_GROUPS = 32
};

/* Whom the server runs as: PostgreSQL refuses root. */
struct mp_server_user {
  bool drop; /* false: stay who we are */
  char name[64];
  uid_t uid;
  gid_t gid;
  gid_t groups[MP_CLUSTER_GROUPS];
  int group_count;
};

/* --- base.c --- */
/* Formats a path (or other text) and fails when it does not fit. */
int mp_cluster_fmt(char *out, size_t size, struct mp_err *err, const char *fmt, ...)
    MP_PRINTF(4, 5);
/* MP_ENODB with the text of errno behind the message; returns the negative code. */
int mp_cluster_fail(struct mp_err *err, int sys, const char *fmt, ...) MP_PRINTF(3, 4);
uint64_t mp_cluster_hash(uint64_t seed, const void *bytes, size_t n);
int64_t mp_cluster_now_ms(void);
void mp_cluster_nap_ms(int ms);

/* --- paths.c --- */
bool mp_cluster_url_plain(char ch); /* needs no percent encoding */
int mp_cluster_names(struct mp_cluster *c, struct mp_err *err);
int mp_cluster_urls(struct mp_cluster *c, struct mp_err *err);
int mp_cluster_make_dir(struct mp_cluster *c, struct mp_err *err);
int mp_cluster_prepare_dirs(struct mp_cluster *c, const struct mp_server_user *user,
                            struct mp_err *err);
int mp_cluster_find_socket_dir(struct mp_cluster *c, const struct mp_cluster_env *env,
                               const struct mp_server_user *user, bool make, struct mp_err *err);
int mp_cluster_lock(const struct mp_cluster *c, int *fd, struct mp_err *err);
int mp_cluster_data_version(const struct mp_cluster *c); /* 0: no data directory */

/* --- find.c --- */
int mp_cluster_find_bin(struct mp_cluster *c, const struct mp_cluster_env *env, struct mp_err *err);
int mp_cluster_find_user(const struct mp_cluster *c, struct mp_server_user *out,
                         struct mp_err *err);

/* --- process.c --- */
struct mp_proc {
  const char *const *argv;
  const struct mp_server_user *user; /* NULL: stay who we are */
  const char *log_path;              /* output is appended here (opened as `user`) or dropped */
  const char *cwd;                   /* NULL: / */
  bool detach;                       /* own session, no child of ours: survives us */
  int death_signal;                  /* not 0: signal to it when the starting thread dies */
};
/* Returns once the program was really executed; failures in between are reported. */
int mp_proc_spawn(const struct mp_proc *proc, pid_t *pid, struct mp_err *err);
/* Spawns, waits, and fails with the last lines of its log unless it exits with 0. */
int mp_proc_run(const struct mp_proc *proc, const char *what, struct mp_err *err);
/* Checks that `user` may pass through all folders of `path`. */
int mp_proc_check_reach(const struct mp_server_user *user, const char *path, struct mp_err *err);
int mp_proc_remove_tree(const char *path, struct mp_err *err);
/* What a log says from `from` on: the first fault and what follows, else its last lines. */
void mp_log_tail(const char *path, long from, char *out, size_t size);
long mp_log_size(const char *path);

/* --- server.c --- */
/* The postmaster of this data directory according to pid file AND process table, else 0. */
pid_t mp_server_find(const struct mp_cluster *c);
int mp_server_start(struct mp_cluster *c, const struct mp_server_user *user, struct mp_err *err);
int mp_server_stop(struct mp_cluster *c, int how, struct mp_err *err);

/* --- init.c --- */
int mp_cluster_init_data(struct mp_cluster *c, const struct mp_cluster_options *opts,
                         const struct mp_server_user *user, struct mp_err *err);
int mp_cluster_make_throwaway_dir(struct mp_cluster *c, const struct mp_cluster_env *env,
                                  struct mp_err *err);

/* --- roles.c --- */
enum mp_ping { MP_PING_OK, MP_PING_WAIT, MP_PING_NONE };
enum mp_ping mp_cluster_ping(const struct mp_cluster *c);
int mp_cluster_bootstrap(struct mp_cluster *c, struct mp_err *err);

#endif
