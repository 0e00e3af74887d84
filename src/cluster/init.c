/* init.c: making data directories. Each is made under another name and renamed when it is
 * complete, so that a name in use never holds half of one. The caller holds the lock. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "cluster/cluster_priv.h"

enum { NEEDED_MB = 64 };

static const char conf_common[] =
    "\n# moonpool's defaults (ALTER SYSTEM and later lines override them)\n"
    "max_connections = 100\n"
    "timezone = 'UTC'\n"
    "log_timezone = 'UTC'\n";
static const char conf_durable[] =
    "shared_buffers = 128MB\n"
    "fsync = on\n"
    "synchronous_commit = on\n"
    "full_page_writes = on\n";
static const char conf_throwaway[] =
    "shared_buffers = 64MB\n"
    "fsync = off\n"
    "synchronous_commit = off\n"
    "full_page_writes = off\n"
    "wal_level = minimal\n"
    "max_wal_senders = 0\n"
    "max_wal_size = 1GB\n"
    "autovacuum_naptime = 1h\n";

static int append_conf(const char *data_dir, bool throwaway, struct mp_err *err) {
  char path[MP_CLUSTER_PATH + 32];
  snprintf(path, sizeof path, "%s/postgresql.conf", data_dir);
  int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
  const char *parts[] = {conf_common, throwaway ? conf_throwaway : conf_durable};
  bool ok = fd >= 0;
  for (size_t i = 0; ok && i < MP_ARRAY_LEN(parts); i++) {
    size_t n = strlen(parts[i]);
    ok = write(fd, parts[i], n) == (ssize_t)n;
  }
  if (ok && !throwaway) ok = fsync(fd) == 0;
  int sys = errno;
  if (fd >= 0 && close(fd) != 0 && ok) {
    sys = errno;
    ok = false;
  }
  return ok ? 0 : mp_cluster_fail(err, sys, "cannot write %.300s", path);
}

/* An empty folder of the server's user; what an interrupted run left there is removed first. */
static int make_empty(const char *path, const struct mp_server_user *user, struct mp_err *err) {
  int rc = mp_proc_remove_tree(path, err);
  if (rc != 0) return rc;
  if (mkdir(path, 0700) != 0) return mp_cluster_fail(err, errno, "cannot make %.300s", path);
  if (user->drop && chown(path, user->uid, user->gid) != 0) {
    rc = mp_cluster_fail(err, errno, "cannot give %.200s to user %s", path, user->name);
    rmdir(path);
    return rc;
  }
  return 0;
}

static void sync_dir(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

static int run_initdb(const struct mp_cluster *c, const char *data_dir,
                      const struct mp_server_user *user, const char *log, struct mp_err *err) {
  char program[MP_CLUSTER_PATH + 16];
  snprintf(program, sizeof program, "%s/initdb", c->bin_dir);
  /* Names on systems that have a UTF-8 variant of C; plain C elsewhere sorts the same way. */
  locale_t utf8 = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);
  const char *locale = utf8 ? "--locale=C.UTF-8" : "--locale=C";
  if (utf8) freelocale(utf8);
  const char *argv[] = {program,
                        "-D",
                        data_dir,
                        "-U",
                        "postgres",
                        "-A",
                        "trust",
                        "-E",
                        "UTF8",
                        locale,
                        "--no-instructions",
                        c->throwaway ? "-N" : NULL,
                        "--wal-segsize=2", /* less to copy; a durable one ends before it */
                        NULL};
  /* It must not go on writing when we are killed: the next run clears up behind us. */
  struct mp_proc proc = {.argv = argv, .user = user, .log_path = log, .death_signal = SIGKILL};
  char what[320];
  snprintf(what, sizeof what, "making the embedded database in %.200s with initdb", c->dir);
  return mp_proc_run(&proc, what, err);
}

static int initdb_into(const struct mp_cluster *c, const char *data_dir,
                       const struct mp_server_user *user, const char *log, struct mp_err *err) {
  int rc = make_empty(data_dir, user, err);
  if (rc == 0) rc = run_initdb(c, data_dir, user, log, err);
  if (rc == 0) rc = append_conf(data_dir, c->throwaway, err);
  if (rc != 0) mp_proc_remove_tree(data_dir, NULL);
  return rc;
}

static int rename_into(const char *from, const char *to, struct mp_err *err) {
  if (rename(from, to) == 0) return 0;
  int rc = mp_cluster_fail(err, errno, "cannot rename %.200s to %.200s", from, to);
  mp_proc_remove_tree(from, NULL);
  return rc;
}

/* The folder for templates, ours alone; false when there is none (then initdb runs each time). */
static bool cache_dir(const struct mp_cluster_env *env, char *out, size_t size) {
  char parent[MP_CLUSTER_PATH] = "";
  if (geteuid() == 0) {
    snprintf(parent, sizeof parent, "/var/cache");
  } else if (env->xdg_cache_home && env->xdg_cache_home[0] == '/') {
    snprintf(parent, sizeof parent, "%s", env->xdg_cache_home);
  } else if (env->home && env->home[0] == '/') {
    snprintf(parent, sizeof parent, "%s/.cache", env->home);
  }
  mode_t mode = geteuid() == 0 ? 0711 : 0700;
  struct stat st;
  int n = 0;
  if (parent[0]) {
    mkdir(parent, 0700);
    n = snprintf(out, size, "%s/moonpool", parent);
    if (n > 0 && (size_t)n < size && mkdir(out, mode) == 0) chmod(out, mode);
  }
  if (n <= 0 || lstat(out, &st) != 0 || access(out, W_OK) != 0) {
    snprintf(out, size, "/tmp/moonpool-cache-%ld", (long)geteuid());
    if (mkdir(out, mode) == 0) chmod(out, mode);
  }
  return strlen(out) < MP_CLUSTER_PATH - 100 && lstat(out, &st) == 0 && S_ISDIR(st.st_mode) &&
         st.st_uid == geteuid() && (st.st_mode & 022) == 0;
}

/* A template belongs to one build of the server, one user and one set of defaults. */
static uint64_t template_key(const struct mp_cluster *c, const struct mp_server_user *user) {
  char path[MP_CLUSTER_PATH + 16];
  snprintf(path, sizeof path, "%s/postgres", c->bin_dir);
  struct stat st;
  uint64_t h = mp_cluster_hash(0, path, strlen(path));
  if (stat(path, &st) == 0) {
    h = mp_cluster_hash(h, &st.st_mtim.tv_sec, sizeof st.st_mtim.tv_sec);
    h = mp_cluster_hash(h, &st.st_size, sizeof st.st_size);
  }
  h = mp_cluster_hash(h, conf_common, sizeof conf_common);
  h = mp_cluster_hash(h, conf_throwaway, sizeof conf_throwaway);
  return mp_cluster_hash(h, &user->uid, sizeof user->uid);
}

/* Makes sure that a template is there and copies it. */
static int copy_template(struct mp_cluster *c, const char *cache, const struct mp_server_user *user,
                         const char *to, struct mp_err *err) {
  char lock[MP_CLUSTER_PATH], tpl[MP_CLUSTER_PATH], tmp[MP_CLUSTER_PATH], log[MP_CLUSTER_PATH];
  int rc = mp_cluster_fmt(lock, sizeof lock, err, "%s/lock", cache);
  if (rc == 0) {
    rc = mp_cluster_fmt(tpl, sizeof tpl, err, "%s/template-%016" PRIx64, cache,
                        template_key(c, user));
  }
  if (rc == 0) rc = mp_cluster_fmt(tmp, sizeof tmp, err, "%s.new", tpl);
  if (rc == 0) rc = mp_cluster_fmt(log, sizeof log, err, "%s/log/initdb.log", c->dir);
  if (rc != 0) return rc;
  int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return mp_cluster_fail(err, errno, "cannot open %.300s", lock);
  /* Held while copying too: whoever tidies the cache up takes it first. */
  while (flock(fd, LOCK_EX) != 0 && errno == EINTR) continue;
  if (access(tpl, F_OK) != 0) {
    rc = initdb_into(c, tmp, user, log, err);
    if (rc == 0) rc = rename_into(tmp, tpl, err);
  }
  if (rc == 0) {
    const char *argv[] = {"cp", "-a", "--reflink=auto", "--", tpl, to, NULL};
    struct mp_proc proc = {.argv = argv, .death_signal = SIGKILL};
    rc = mp_proc_remove_tree(to, err);
    if (rc == 0) rc = mp_proc_run(&proc, "copying the template of a throwaway database", err);
  }
  close(fd);
  return rc;
}

/* initdb's own words about a full disk are hard to read, and its log is on that disk too. */
static int check_space(const struct mp_cluster *c, struct mp_err *err) {
  struct statvfs fs;
  if (statvfs(c->dir, &fs) != 0) return 0;
  uint64_t free_mb = (uint64_t)fs.f_bavail * fs.f_frsize / (1024 * 1024);
  if (free_mb >= NEEDED_MB) return 0;
  return mp_cluster_fail(err, ENOSPC,
                         "a new database needs %d MB, and the disk of %.200s has %d MB left; make "
                         "room or choose another place with MOONPOOL_STATE",
                         NEEDED_MB, c->dir, (int)free_mb);
}

int mp_cluster_init_data(struct mp_cluster *c, const struct mp_cluster_options *opts,
                         const struct mp_server_user *user, struct mp_err *err) {
  char tmp[MP_CLUSTER_PATH], log[MP_CLUSTER_PATH], cache[MP_CLUSTER_PATH];
  int rc = mp_cluster_fmt(tmp, sizeof tmp, err, "%s/data.new", c->dir);
  if (rc == 0) rc = mp_cluster_fmt(log, sizeof log, err, "%s/log/initdb.log", c->dir);
  if (rc == 0) rc = check_space(c, err);
  if (rc != 0) return rc;
  if (opts->progress && !c->throwaway) {
    char text[MP_CLUSTER_PATH + 64];
    snprintf(text, sizeof text, "making a private PostgreSQL database in %s (once)", c->dir);
    opts->progress(opts->progress_ctx, text);
  }
  if (c->throwaway && cache_dir(&opts->env, cache, sizeof cache)) {
    rc = copy_template(c, cache, user, tmp, err);
  } else {
    rc = initdb_into(c, tmp, user, log, err);
  }
  if (rc != 0) {
    mp_proc_remove_tree(tmp, NULL);
    return rc;
  }
  rc = rename_into(tmp, c->data_dir, err);
  if (rc == 0 && !c->throwaway) sync_dir(c->dir);
  if (rc == 0) c->version = mp_cluster_data_version(c);
  return rc;
}

/* Removes what killed owners left: ours by user, older than a minute (a younger one may not be
 * locked yet), and its lock free. */
static void sweep(const char *parent) {
  DIR *d = opendir(parent);
  if (!d) return;
  for (struct dirent *e; (e = readdir(d));) {
    if (strncmp(e->d_name, "moonpool-throwaway-", 19) != 0) continue;
    char path[MP_CLUSTER_PATH], lock[MP_CLUSTER_PATH];
    struct stat st;
    if (mp_cluster_fmt(path, sizeof path, NULL, "%s/%s", parent, e->d_name) != 0 ||
        mp_cluster_fmt(lock, sizeof lock, NULL, "%s/lock", path) != 0 || lstat(path, &st) != 0 ||
        !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || time(NULL) - st.st_mtime < 60) {
      continue;
    }
    int fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) mp_proc_remove_tree(path, NULL);
    if (fd >= 0) close(fd);
  }
  closedir(d);
}

int mp_cluster_make_throwaway_dir(struct mp_cluster *c, const struct mp_cluster_env *env,
                                  struct mp_err *err) {
  const char *parent = env->tmpdir && env->tmpdir[0] == '/' ? env->tmpdir : "/tmp";
  sweep(parent);
  int rc = mp_cluster_fmt(c->dir, 800, err, "%s/moonpool-throwaway-XXXXXX", parent);
  if (rc != 0) return rc;
  if (mkdtemp(c->dir)) return 0;
  return mp_cluster_fail(err, errno, "cannot make a temporary folder in %.300s (TMPDIR)", parent);
}
