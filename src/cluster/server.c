/* server.c: the postmaster: found, started, waited for, stopped. The caller holds the lock.
 *
 * Whether a server runs is decided by the process table and by connecting, never by postmaster.pid
 * alone: after a kill its number may belong to another process. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/cluster_priv.h"

enum { LOG_KEEP_BYTES = 16 * 1024 * 1024 };

static bool runs_in(long pid, const char *dir) {
  char path[64], cwd[MP_CLUSTER_PATH];
  snprintf(path, sizeof path, "/proc/%ld/cwd", pid);
  ssize_t n = readlink(path, cwd, sizeof cwd - 1);
  return n > 0 && (size_t)n == strlen(dir) && memcmp(cwd, dir, (size_t)n) == 0;
}

/* Is `pid` a postmaster of this data directory? Its command line says so; unlike the links in /proc
 * that is readable for root in a container, too, and empty for a zombie. Its folder counts as well:
 * a person may have started it with PGDATA. */
static bool is_postmaster(pid_t pid, const char *data_dir) {
  char path[64], text[4096];
  snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return false;
  text[n] = '\0';
  const char *name = strrchr(text, '/');
  name = name ? name + 1 : text;
  if (strcmp(name, "postgres") != 0 && strcmp(name, "postmaster") != 0) return false;
  for (const char *p = text; p < text + n; p += strlen(p) + 1) {
    if (strcmp(p, data_dir) == 0) return true;
  }
  return runs_in(pid, data_dir);
}

static pid_t read_pid(const char *path) {
  FILE *f = fopen(path, "re");
  if (!f) return 0;
  char line[32];
  long pid = fgets(line, sizeof line, f) ? strtol(line, NULL, 10) : 0;
  fclose(f);
  return pid > 1 ? (pid_t)pid : 0;
}

static void pid_file(const struct mp_cluster *c, char *out, size_t size) {
  snprintf(out, size, "%s/postmaster.pid", c->data_dir);
}

pid_t mp_server_find(const struct mp_cluster *c) {
  char path[MP_CLUSTER_PATH + 32];
  pid_file(c, path, sizeof path);
  pid_t pid = read_pid(path);
  return pid && is_postmaster(pid, c->data_dir) ? pid : 0;
}

/* PostgreSQL itself overlooks a stale file unless its number belongs to another process of the same
 * user: it would refuse to start for ever. We know better, so take both files away. It still checks
 * by its shared memory that no server is left on the data. */
static void drop_stale_files(const struct mp_cluster *c) {
  char path[MP_CLUSTER_PATH + 32];
  pid_file(c, path, sizeof path);
  pid_t pid = read_pid(path);
  if (pid && kill(pid, 0) == 0 && !is_postmaster(pid, c->data_dir)) unlink(path);
  snprintf(path, sizeof path, "%s/.s.PGSQL.%d.lock", c->socket_dir, c->port);
  pid = read_pid(path);
  if (pid && kill(pid, 0) == 0 && !is_postmaster(pid, c->data_dir)) unlink(path);
}

/* Backends outlive a killed postmaster until their query ends, and PostgreSQL does not start while
 * one is left. They cannot commit anything useful any more: SIGQUIT ends them where they stand. */
static void end_orphans(const struct mp_cluster *c) {
  DIR *d = opendir("/proc");
  if (!d) return;
  for (struct dirent *e; (e = readdir(d));) {
    long pid = strtol(e->d_name, NULL, 10);
    if (pid <= 1) continue;
    if (!runs_in(pid, c->data_dir)) continue;
    char path[64], title[16] = "";
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    ssize_t n = read(fd, title, sizeof title - 1);
    close(fd);
    if (n > 0 && strncmp(title, "postgres: ", 10) == 0) kill((pid_t)pid, SIGQUIT);
  }
  closedir(d);
}

static void rotate_log(const struct mp_cluster *c) {
  if (mp_log_size(c->log_path) < LOG_KEEP_BYTES) return;
  char old[MP_CLUSTER_PATH + 8];
  snprintf(old, sizeof old, "%s.old", c->log_path);
  rename(c->log_path, old);
}

static int spawn(struct mp_cluster *c, const struct mp_server_user *user, struct mp_err *err) {
  char program[MP_CLUSTER_PATH + 16], sockets[MP_CLUSTER_PATH + 32], port[32];
  snprintf(program, sizeof program, "%s/postgres", c->bin_dir);
  snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", c->socket_dir);
  snprintf(port, sizeof port, "port=%d", c->port);
  /* Here only what follows from the place; all else is in postgresql.conf, where ALTER SYSTEM can
   * change it. */
  const char *argv[] = {program,
                        "-D",
                        c->data_dir,
                        "-c",
                        "listen_addresses=",
                        "-c",
                        sockets,
                        "-c",
                        "unix_socket_permissions=0700",
                        "-c",
                        port,
                        "-c",
                        "logging_collector=off",
                        "-c",
                        "log_destination=stderr",
                        NULL};
  struct mp_proc proc = {.argv = argv,
                         .user = user,
                         .log_path = c->log_path,
                         .cwd = c->data_dir,
                         .detach = !c->throwaway,
                         .death_signal = c->throwaway ? SIGINT : 0};
  return mp_proc_spawn(&proc, &c->pid, err);
}

/* A throwaway is our child: until it is reaped it looks alive. */
static bool is_alive(const struct mp_cluster *c, pid_t pid) {
  if (c->throwaway) waitpid(pid, NULL, WNOHANG);
  return is_postmaster(pid, c->data_dir);
}

/* Commas and quotes would be read as a list of folders. */
static int check_socket_dir(const struct mp_cluster *c, struct mp_err *err) {
  if (!strpbrk(c->socket_dir, ",\"'\n")) return 0;
  return mp_err_set(err, MP_EINVAL,
                    "the state directory %.250s has a comma, a quote or a line break in its name, "
                    "which PostgreSQL cannot use; choose another with MOONPOOL_STATE",
                    c->dir);
}

/* Uses a server that answers, waits for one that is starting or stopping, and otherwise starts one,
 * until the deadline. */
int mp_server_start(struct mp_cluster *c, const struct mp_server_user *user, struct mp_err *err) {
  int rc = check_socket_dir(c, err);
  if (rc != 0) return rc;
  int64_t deadline = mp_cluster_now_ms() + MP_CLUSTER_WAIT_MS;
  long log_from = mp_log_size(c->log_path);
  pid_t started = 0;
  char tail[2048]; /* "still in use" may stand behind what dying children say */
  for (;;) {
    if (mp_cluster_ping(c) == MP_PING_OK) {
      c->pid = mp_server_find(c);
      c->running = true;
      c->started_here = started != 0;
      return 0;
    }
    pid_t other = mp_server_find(c);
    bool alive = other != 0 || (started != 0 && is_alive(c, started));
    if (mp_cluster_now_ms() > deadline) {
      mp_log_tail(c->log_path, log_from, tail, sizeof tail);
      return mp_err_set(err, MP_ENODB,
                        "the embedded PostgreSQL (pid %ld) did not answer within %d s; log: "
                        "%.120s%s%.220s",
                        (long)(other ? other : started), MP_CLUSTER_WAIT_MS / 1000, c->log_path,
                        tail[0] ? "\n" : "", tail);
    }
    if (!alive && started != 0) {
      mp_log_tail(c->log_path, log_from, tail, sizeof tail);
      /* Right after a kill of the postmaster its last children may still hold the memory. */
      if (!strstr(tail, "still in use")) {
        c->pid = 0;
        return mp_err_set(err, MP_ENODB,
                          "the embedded PostgreSQL did not start; log: %.150s%s%.220s", c->log_path,
                          tail[0] ? "\n" : "", tail);
      }
      started = 0;
      end_orphans(c);
      mp_cluster_nap_ms(20);
    }
    if (!alive && started == 0) {
      drop_stale_files(c);
      rotate_log(c);
      log_from = mp_log_size(c->log_path);
      rc = spawn(c, user, err);
      if (rc != 0) return rc;
      started = c->pid;
    }
    mp_cluster_nap_ms(5);
  }
}

/* Sends `how` to the server, if there is one, and waits for its end. */
int mp_server_stop(struct mp_cluster *c, int how, struct mp_err *err) {
  pid_t pid = mp_server_find(c);
  if (pid == 0 && c->throwaway && c->pid > 0 && is_postmaster(c->pid, c->data_dir)) pid = c->pid;
  if (pid != 0) {
    if (kill(pid, how) != 0 && errno != ESRCH) {
      return mp_cluster_fail(err, errno, "cannot stop PostgreSQL (pid %ld)", (long)pid);
    }
    int64_t deadline = mp_cluster_now_ms() + MP_CLUSTER_WAIT_MS;
    while (is_alive(c, pid)) {
      if (mp_cluster_now_ms() > deadline) {
        return mp_err_set(err, MP_ENODB,
                          "PostgreSQL (pid %ld) did not stop within %d s; see %.250s", (long)pid,
                          MP_CLUSTER_WAIT_MS / 1000, c->log_path);
      }
      mp_cluster_nap_ms(5);
    }
  }
  c->pid = 0;
  c->running = false;
  return 0;
}
