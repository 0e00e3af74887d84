/* paths.c: where a cluster lives: state directory, its folders, socket folder, lock,
 * URLs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cluster/cluster_priv.h"

int mp_cluster_default_dir(const struct mp_cluster_env *env, char *out, size_t size,
                           struct mp_err *err) {
  if (env->moonpool_state && *env->moonpool_state) {
    return mp_cluster_fmt(out, size, err, "%s", env->moonpool_state);
  }
  if (geteuid() == 0) return mp_cluster_fmt(out, size, err, "/var/lib/moonpool");
  /* The XDG standard: a relative path is invalid and ignored. */
  if (env->xdg_state_home && env->xdg_state_home[0] == '/') {
    return mp_cluster_fmt(out, size, err, "%s/moonpool", env->xdg_state_home);
  }
  if (env->home && env->home[0] == '/') {
    return mp_cluster_fmt(out, size, err, "%s/.local/state/moonpool", env->home);
  }
  return mp_err_set(err, MP_ENODB,
                    "no place for the embedded database: HOME is not set; set MOONPOOL_STATE to a "
                    "directory, or DATABASE_URL to a server");
}

/* The names that follow from `dir`. */
int mp_cluster_names(struct mp_cluster *c, struct mp_err *err) {
  int rc = mp_cluster_fmt(c->data_dir, sizeof c->data_dir, err, "%s/data", c->dir);
  if (rc == 0) {
    rc = mp_cluster_fmt(c->log_path, sizeof c->log_path, err, "%s/log/postgresql.log", c->dir);
  }
  c->port = MP_CLUSTER_PORT;
  return rc;
}

bool mp_cluster_url_plain(char ch) {
  return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
         (ch != '\0' && strchr("-._~", ch) != NULL);
}

static void percent_encode(char *out, size_t size, const char *text) {
  size_t n = 0;
  for (; *text && n + 4 <= size; text++) {
    if (mp_cluster_url_plain(*text)) {
      out[n++] = *text;
    } else {
      n += (size_t)snprintf(out + n, size - n, "%%%02X", (unsigned)(unsigned char)*text);
    }
  }
  out[n] = '\0';
}

int mp_cluster_urls(struct mp_cluster *c, struct mp_err *err) {
  char host[MP_CLUSTER_PATH * 3 + 4];
  percent_encode(host, sizeof host, c->socket_dir);
  const char *fmt_users[] = {"moonpool_app", "moonpool_owner", "postgres"};
  char *urls[] = {c->app_url, c->owner_url, c->admin_url};
  for (size_t i = 0; i < MP_ARRAY_LEN(urls); i++) {
    int rc =
        mp_cluster_fmt(urls[i], MP_CLUSTER_URL, err, "postgresql://%s@/moonpool?host=%s&port=%d",
                       fmt_users[i], host, c->port);
    if (rc != 0) return rc;
  }
  return 0;
}

/* mkdir with the whole mode, whatever the umask; an existing directory is left alone. Another start
 * may have opened the new directory for the server already: rights are only added. */
static int make_one(const char *path, mode_t mode, bool *made) {
  if (mkdir(path, mode) == 0) {
    struct stat st;
    if (made) *made = true;
    if (stat(path, &st) != 0) return -1;
    return (st.st_mode & mode) == mode ? 0 : chmod(path, (st.st_mode & 07777) | mode);
  }
  if (errno != EEXIST && errno != EROFS && errno != EACCES) return -1;
  int sys = errno;
  struct stat st;
  if (stat(path, &st) != 0) {
    if (sys != EEXIST) errno = sys;
    return -1;
  }
  if (S_ISDIR(st.st_mode)) return 0;
  errno = ENOTDIR;
  return -1;
}

/* Makes `dir` with its parents and turns it into an absolute path. */
int mp_cluster_make_dir(struct mp_cluster *c, struct mp_err *err) {
  static const char advice[] = "choose another place with MOONPOOL_STATE";
  /* The server's user must be able to pass through the parents that root makes. */
  mode_t parent_mode = geteuid() == 0 ? 0755 : 0700;
  char path[MP_CLUSTER_PATH];
  snprintf(path, sizeof path, "%s", c->dir);
  for (char *p = path + 1;; p++) {
    if (*p != '/' && *p != '\0') continue;
    char end = *p;
    *p = '\0';
    bool last = end == '\0' || p[1] == '\0';
    if (make_one(path, last ? 0700 : parent_mode, NULL) != 0) {
      int sys = errno;
      return mp_cluster_fail(err, sys, "the state directory %.150s cannot be created (%s): %.150s",
                             c->dir, advice, path);
    }
    if (last) break;
    *p = end;
  }
  char *full = realpath(c->dir, NULL);
  if (!full) return mp_cluster_fail(err, errno, "the state directory %.200s (%s)", c->dir, advice);
  /* Room for the longest name below it. */
  int rc = strlen(full) < 800 ? mp_cluster_fmt(c->dir, sizeof c->dir, err, "%s", full)
                              : mp_err_set(err, MP_EINVAL,
                                           "the path of the state directory is longer than 800 "
                                           "bytes; %s",
                                           advice);
  free(full);
  return rc ? rc : mp_cluster_names(c, err);
}

/* A directory that holds anything else than ours is somebody's: its rights are not for us to
 * change. */
static bool is_ours(const char *dir) {
  static const char *const names[] = {".",    "..",       "lock",     "log",        "run",
                                      "data", "data.new", "data.old", "socket_dir", "control"};
  DIR *d = opendir(dir);
  if (!d) return false;
  bool ours = true;
  for (struct dirent *e; ours && (e = readdir(d));) {
    ours = false;
    for (size_t i = 0; i < MP_ARRAY_LEN(names); i++) ours |= strcmp(e->d_name, names[i]) == 0;
  }
  closedir(d);
  return ours;
}

/* Folders of the server below the state directory. As root the state directory stays root's, and
 * the server's group may pass through it; only what the server writes belongs to its user. */
int mp_cluster_prepare_dirs(struct mp_cluster *c, const struct mp_server_user *user,
                            struct mp_err *err) {
  struct stat st;
  if (user->drop && stat(c->dir, &st) == 0 && st.st_uid == 0 &&
      (st.st_gid != user->gid || (st.st_mode & 010) == 0) && is_ours(c->dir)) {
    if (chown(c->dir, 0, user->gid) != 0 || chmod(c->dir, 0710) != 0) {
      return mp_cluster_fail(err, errno, "cannot let user %s into %.200s", user->name, c->dir);
    }
  }
  static const char *const names[] = {"log", "run"};
  for (size_t i = 0; i < MP_ARRAY_LEN(names); i++) {
    char path[MP_CLUSTER_PATH];
    int rc = mp_cluster_fmt(path, sizeof path, err, "%s/%s", c->dir, names[i]);
    if (rc != 0) return rc;
    bool made = false;
    if (make_one(path, 0700, &made) != 0 ||
        (made && user->drop && chown(path, user->uid, user->gid) != 0)) {
      int sys = errno;
      if (made) rmdir(path);
      return mp_cluster_fail(err, sys, "cannot make %.300s", path);
    }
  }
  return user->drop ? mp_proc_check_reach(user, c->dir, err) : 0;
}

static bool fits_socket(const char *dir) {
  struct sockaddr_un sa;
  char name[32];
  int n = snprintf(name, sizeof name, "/.s.PGSQL.%d", MP_CLUSTER_PORT);
  return strlen(dir) + (size_t)n < sizeof sa.sun_path;
}

/* A folder that is a real directory of the server's user and closed to all others. */
static bool is_private_dir(const char *path, uid_t uid) {
  struct stat st;
  return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid &&
         (st.st_mode & 077) == 0;
}

/* Reads DIR/socket_dir: the folder, and the state directory it was made for (a copied state
 * directory must not share the socket of its original). */
static bool read_record(const struct mp_cluster *c, const char *record, uid_t uid, char *out) {
  FILE *f = fopen(record, "re");
  if (!f) return false;
  char path[MP_CLUSTER_PATH], owner[MP_CLUSTER_PATH];
  bool ok = fgets(path, sizeof path, f) && fgets(owner, sizeof owner, f);
  fclose(f);
  if (!ok) return false;
  path[strcspn(path, "\n")] = owner[strcspn(owner, "\n")] = '\0';
  if (strcmp(owner, c->dir) != 0 || !fits_socket(path) || !is_private_dir(path, uid)) return false;
  snprintf(out, MP_CLUSTER_PATH, "%s", path);
  return true;
}

/* DIR/run, or where that is too long for a socket address a short private folder elsewhere, which
 * DIR/socket_dir records. With `make` false nothing is made, and DIR/run may be named though it is
 * too long (there is no server then). */
int mp_cluster_find_socket_dir(struct mp_cluster *c, const struct mp_cluster_env *env,
                               const struct mp_server_user *user, bool make, struct mp_err *err) {
  int rc = mp_cluster_fmt(c->socket_dir, sizeof c->socket_dir, err, "%s/run", c->dir);
  if (rc != 0 || fits_socket(c->socket_dir)) return rc;
  uid_t uid = user->drop ? user->uid : geteuid();
  char record[MP_CLUSTER_PATH];
  rc = mp_cluster_fmt(record, sizeof record, err, "%s/socket_dir", c->dir);
  if (rc != 0 || read_record(c, record, uid, c->socket_dir) || !make) return rc;

  char path[MP_CLUSTER_PATH] = "";
  /* XDG_RUNTIME_DIR belongs to the caller, so it serves only a server that runs as the caller. */
  if (!user->drop && env->xdg_runtime_dir && env->xdg_runtime_dir[0] == '/') {
    snprintf(path, sizeof path, "%s/moonpool-XXXXXX", env->xdg_runtime_dir);
    if (!fits_socket(path) || !mkdtemp(path)) path[0] = '\0';
  }
  if (!path[0]) {
    snprintf(path, sizeof path, "/tmp/moonpool-XXXXXX");
    if (!mkdtemp(path)) return mp_cluster_fail(err, errno, "no folder for the socket in /tmp");
  }
  FILE *f = NULL;
  if ((user->drop && chown(path, user->uid, user->gid) != 0) || !(f = fopen(record, "we")) ||
      fprintf(f, "%s\n%s\n", path, c->dir) < 0 || fflush(f) != 0) {
    int sys = errno;
    if (f) fclose(f);
    rmdir(path);
    return mp_cluster_fail(err, sys, "cannot record the socket folder in %.200s", record);
  }
  fclose(f);
  return mp_cluster_fmt(c->socket_dir, sizeof c->socket_dir, err, "%s", path);
}

/* Takes DIR/lock; closing the descriptor gives it back, also when the process is killed. */
int mp_cluster_lock(const struct mp_cluster *c, int *fd_out, struct mp_err *err) {
  char path[MP_CLUSTER_PATH];
  int rc = mp_cluster_fmt(path, sizeof path, err, "%s/lock", c->dir);
  if (rc != 0) return rc;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    return mp_cluster_fail(err, errno,
                           "cannot write to the state directory (choose another with "
                           "MOONPOOL_STATE): %.250s",
                           path);
  }
  struct stat st;
  /* Root must not lock the owner of the state directory out. */
  if (geteuid() == 0 && stat(c->dir, &st) == 0 && fchown(fd, st.st_uid, st.st_gid) != 0) {
    rc = mp_cluster_fail(err, errno, "cannot hand %.250s to its owner", path);
    close(fd);
    return rc;
  }
  int64_t deadline = mp_cluster_now_ms() + MP_CLUSTER_LOCK_WAIT_MS;
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    int sys = errno;
    if (sys != EWOULDBLOCK && sys != EINTR) {
      close(fd);
      return mp_cluster_fail(err, sys, "cannot lock %.250s", path);
    }
    if (mp_cluster_now_ms() > deadline) {
      close(fd);
      return mp_err_set(err, MP_ENODB,
                        "another process has been changing the embedded database for more than "
                        "%d s; it holds %.250s (see: fuser -v FILE)",
                        MP_CLUSTER_LOCK_WAIT_MS / 1000, path);
    }
    mp_cluster_nap_ms(10);
  }
  *fd_out = fd;
  return 0;
}

int mp_cluster_data_version(const struct mp_cluster *c) {
  char path[MP_CLUSTER_PATH + 16];
  snprintf(path, sizeof path, "%s/PG_VERSION", c->data_dir);
  FILE *f = fopen(path, "re");
  if (!f) return 0;
  char line[32];
  long version = fgets(line, sizeof line, f) ? strtol(line, NULL, 10) : 0;
  fclose(f);
  return version > 0 && version < 1000 ? (int)version : 0;
}
