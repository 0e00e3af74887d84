/* cluster.c: the life of the embedded database: ensure, status, stop, reset. Each change happens
 * under DIR/lock. */
#include "cluster/cluster.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/cluster_priv.h"

static void begin(struct mp_cluster *c, const struct mp_cluster_options *opts) {
  *c = (struct mp_cluster){.lock_fd = -1, .throwaway = opts->throwaway, .port = MP_CLUSTER_PORT};
}

static int choose_dir(struct mp_cluster *c, const struct mp_cluster_options *opts,
                      struct mp_err *err) {
  if (opts->state_dir) return mp_cluster_fmt(c->dir, sizeof c->dir, err, "%s", opts->state_dir);
  if (opts->throwaway) return mp_cluster_make_throwaway_dir(c, &opts->env, err);
  return mp_cluster_default_dir(&opts->env, c->dir, sizeof c->dir, err);
}

/* A throwaway is removed on stop, with all that is in its folder. */
static int check_empty(const char *dir, struct mp_err *err) {
  DIR *d = opendir(dir);
  if (!d) return 0; /* not there, or told when it is used */
  bool empty = true;
  for (struct dirent *e; empty && (e = readdir(d));) {
    empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
  }
  closedir(d);
  if (empty) return 0;
  return mp_err_set(err, MP_EINVAL,
                    "a throwaway database needs an empty folder, and %.300s is not empty", dir);
}

/* Makes and locks the directory, and looks what is in it. */
static int enter(struct mp_cluster *c, const struct mp_cluster_options *opts, int *fd,
                 struct mp_err *err) {
  begin(c, opts);
  int rc = choose_dir(c, opts, err);
  if (rc == 0 && opts->throwaway) rc = check_empty(c->dir, err);
  if (rc == 0) rc = mp_cluster_make_dir(c, err);
  if (rc == 0) rc = mp_cluster_lock(c, fd, err);
  if (rc != 0) return rc;
  c->version = mp_cluster_data_version(c);
  c->initialised = c->version != 0;
  return 0;
}

static int ensure_locked(struct mp_cluster *c, const struct mp_cluster_options *opts,
                         struct mp_err *err) {
  struct mp_server_user user;
  int rc = mp_cluster_find_user(c, &user, err);
  if (rc == 0) rc = mp_cluster_prepare_dirs(c, &user, err);
  if (rc == 0) rc = mp_cluster_find_socket_dir(c, &opts->env, &user, true, err);
  if (rc == 0) rc = mp_cluster_urls(c, err);
  if (rc == 0) rc = mp_cluster_find_bin(c, &opts->env, err);
  if (rc == 0 && !c->initialised) {
    rc = mp_cluster_init_data(c, opts, &user, err);
    c->initialised = rc == 0;
  }
  if (rc == 0) rc = mp_server_start(c, &user, err);
  if (rc == 0) rc = mp_cluster_bootstrap(c, err);
  return rc;
}

int mp_cluster_ensure(const struct mp_cluster_options *opts, struct mp_cluster *out,
                      struct mp_err *err) {
  int fd = -1;
  int rc = enter(out, opts, &fd, err);
  if (rc == 0) rc = ensure_locked(out, opts, err);
  if (!opts->throwaway) {
    if (fd >= 0) close(fd);
    return rc;
  }
  out->lock_fd = fd;
  if (rc != 0 && fd >= 0) mp_cluster_stop(out, NULL);
  return rc;
}

int mp_cluster_status(const struct mp_cluster_options *opts, struct mp_cluster *c,
                      struct mp_err *err) {
  begin(c, opts);
  int rc = choose_dir(c, opts, err);
  if (rc != 0) return rc;
  char *full = realpath(c->dir, NULL);
  if (!full && errno != ENOENT && errno != ENOTDIR) {
    return mp_cluster_fail(err, errno, "cannot look into the state directory %.300s", c->dir);
  }
  if (full) rc = mp_cluster_fmt(c->dir, sizeof c->dir, err, "%s", full);
  free(full);
  struct stat st;
  if (rc == 0) rc = mp_cluster_names(c, err);
  if (rc == 0 && stat(c->data_dir, &st) != 0 && errno == EACCES) {
    rc = mp_cluster_fail(err, errno, "cannot look into the state directory %.300s", c->dir);
  }
  struct mp_server_user user;
  if (rc == 0) rc = mp_cluster_find_user(c, &user, err);
  if (rc == 0) rc = mp_cluster_find_socket_dir(c, &opts->env, &user, false, err);
  if (rc == 0) rc = mp_cluster_urls(c, err);
  if (rc != 0) return rc;
  c->version = mp_cluster_data_version(c);
  c->initialised = c->version != 0;
  mp_cluster_find_bin(c, &opts->env, NULL);
  if (c->initialised) c->pid = mp_server_find(c);
  c->running = c->pid != 0 && mp_cluster_ping(c) == MP_PING_OK;
  return 0;
}

int mp_cluster_stop(struct mp_cluster *c, struct mp_err *err) {
  if (c->throwaway) {
    /* Nothing in it is worth a checkpoint. */
    int rc = mp_server_stop(c, SIGQUIT, err);
    if (rc == 0 && strcmp(c->socket_dir, "") != 0 &&
        strncmp(c->socket_dir, c->dir, strlen(c->dir)) != 0) {
      rc = mp_proc_remove_tree(c->socket_dir, err);
    }
    if (rc == 0) rc = mp_proc_remove_tree(c->dir, err);
    if (c->lock_fd >= 0) close(c->lock_fd);
    c->lock_fd = -1;
    return rc;
  }
  struct stat st;
  if (stat(c->data_dir, &st) != 0 && errno == ENOENT) return 0;
  int fd;
  int rc = mp_cluster_lock(c, &fd, err);
  if (rc != 0) return rc;
  rc = mp_server_stop(c, SIGINT, err);
  close(fd);
  return rc;
}

/* The old data is moved aside until the new is there. */
int mp_cluster_reset(const struct mp_cluster_options *opts, struct mp_cluster *out,
                     struct mp_err *err) {
  int fd = -1;
  char old[MP_CLUSTER_PATH];
  int rc = enter(out, opts, &fd, err);
  if (rc == 0) rc = mp_cluster_fmt(old, sizeof old, err, "%s/data.old", out->dir);
  if (rc == 0) rc = mp_server_stop(out, SIGINT, err);
  if (rc == 0) rc = mp_proc_remove_tree(old, err);
  bool moved = false;
  if (rc == 0) {
    moved = rename(out->data_dir, old) == 0;
    if (!moved && errno != ENOENT) {
      rc = mp_cluster_fail(err, errno, "cannot move %.300s aside", out->data_dir);
    }
  }
  if (rc == 0) {
    out->initialised = false;
    out->version = 0;
    rc = ensure_locked(out, opts, err);
    if (rc == 0) {
      rc = mp_proc_remove_tree(old, err);
    } else if (moved) {
      mp_server_stop(out, SIGQUIT, NULL);
      mp_proc_remove_tree(out->data_dir, NULL);
      rename(old, out->data_dir);
    }
  }
  if (fd >= 0) close(fd);
  return rc;
}

void mp_cluster_psql_path(const struct mp_cluster_options *opts, char *out, size_t size) {
  struct mp_cluster c;
  begin(&c, opts);
  char path[MP_CLUSTER_PATH + 8];
  if (mp_cluster_find_bin(&c, &opts->env, NULL) == 0) {
    snprintf(path, sizeof path, "%s/psql", c.bin_dir);
    if (access(path, X_OK) == 0) {
      snprintf(out, size, "%s", path);
      return;
    }
  }
  snprintf(out, size, "psql");
}
