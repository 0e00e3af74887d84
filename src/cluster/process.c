/* process.c: starting PostgreSQL's programs as the right user, and reading their logs. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cluster/cluster_priv.h"

enum process_stage { STAGE_STARTED, STAGE_FORK, STAGE_USER, STAGE_CWD, STAGE_LOG, STAGE_EXEC };

/* What the child tells its parent; the pipe closes by itself when the program is executed. */
struct report {
  enum process_stage stage;
  int sys;
  pid_t pid;
};

static MP_NORETURN void give_up(int pipe_fd, enum process_stage stage) {
  struct report r = {stage, errno, getpid()};
  ssize_t n = write(pipe_fd, &r, sizeof r);
  _exit(n == (ssize_t)sizeof r ? 127 : 126);
}

static bool become(const struct mp_server_user *user) {
  return setgroups((size_t)user->group_count, user->groups) == 0 &&
         setresgid(user->gid, user->gid, user->gid) == 0 &&
         setresuid(user->uid, user->uid, user->uid) == 0;
}

/* Nothing of the caller leaks in: no descriptors (a lock, a pipe someone waits on), no blocked
 * signals, no PG* variables. Only async-signal-safe calls: the caller may have threads. */
static MP_NORETURN void child_main(const struct mp_proc *proc, int pipe_fd, pid_t parent) {
  if (proc->detach) {
    setsid();
    pid_t pid = fork();
    if (pid < 0) give_up(pipe_fd, STAGE_FORK);
    if (pid > 0) _exit(0);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  for (int sig = 1; sig < 32; sig++) {
    if (sig != SIGKILL && sig != SIGSTOP) signal(sig, SIG_DFL);
  }
  umask(077);
  if (proc->user && proc->user->drop && !become(proc->user)) give_up(pipe_fd, STAGE_USER);
  /* Behind the change of user, which clears it. */
  if (proc->death_signal) {
    prctl(PR_SET_PDEATHSIG, proc->death_signal);
    if (getppid() != parent) _exit(0); /* it died before we asked to be told */
  }
  if (chdir(proc->cwd ? proc->cwd : "/") != 0) give_up(pipe_fd, STAGE_CWD);
  int in = open("/dev/null", O_RDWR);
  int out = in;
  if (proc->log_path) {
    out = open(proc->log_path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
  }
  if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) {
    give_up(pipe_fd, STAGE_LOG);
  }
  if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    for (int fd = 3; fd < 4096; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  struct report r = {STAGE_STARTED, 0, getpid()};
  if (write(pipe_fd, &r, sizeof r) != (ssize_t)sizeof r) _exit(126);
  static char path[] = "PATH=/usr/local/bin:/usr/bin:/bin", locale[] = "LC_ALL=C";
  char *env[] = {path, locale, NULL};
  execvpe(proc->argv[0], (char *const *)(uintptr_t)proc->argv, env);
  give_up(pipe_fd, STAGE_EXEC);
}

static void reap(pid_t pid, int *status) {
  *status = 0;
  while (waitpid(pid, status, 0) < 0 && errno == EINTR) continue;
}

static int explain(const struct mp_proc *proc, const struct report *r, struct mp_err *err) {
  switch (r->stage) {
    case STAGE_USER:
      return mp_cluster_fail(err, r->sys, "cannot become user %s to run %s", proc->user->name,
                             proc->argv[0]);
    case STAGE_CWD:
      return mp_cluster_fail(err, r->sys, "%s cannot enter %.250s", proc->argv[0],
                             proc->cwd ? proc->cwd : "/");
    case STAGE_LOG:
      return mp_cluster_fail(err, r->sys, "cannot write the log %.250s",
                             proc->log_path ? proc->log_path : "/dev/null");
    case STAGE_STARTED:
    case STAGE_FORK:
    case STAGE_EXEC: break;
  }
  return mp_cluster_fail(err, r->sys, "cannot run %.250s", proc->argv[0]);
}

int mp_proc_spawn(const struct mp_proc *proc, pid_t *pid_out, struct mp_err *err) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return mp_cluster_fail(err, errno, "cannot make a pipe");
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) {
    int rc = mp_cluster_fail(err, errno, "cannot start a process for %.200s", proc->argv[0]);
    close(fds[0]);
    close(fds[1]);
    return rc;
  }
  if (pid == 0) child_main(proc, fds[1], parent);
  close(fds[1]);
  struct report r, last = {STAGE_FORK, EIO, 0};
  for (;;) {
    ssize_t n = read(fds[0], &r, sizeof r);
    if (n < 0 && errno == EINTR) continue;
    if (n != (ssize_t)sizeof r) break;
    last = r;
  }
  close(fds[0]);
  int status;
  bool started = last.stage == STAGE_STARTED;
  if (proc->detach || !started) reap(pid, &status);
  if (!started) return explain(proc, &last, err);
  *pid_out = last.pid;
  return 0;
}

long mp_log_size(const char *path) {
  struct stat st;
  return path && stat(path, &st) == 0 ? (long)st.st_size : 0;
}

void mp_log_tail(const char *path, long from, char *out, size_t size) {
  static const char *const marks[] = {"FATAL:", "PANIC:", "error:"};
  out[0] = '\0';
  FILE *f = path ? fopen(path, "re") : NULL;
  if (!f) return;
  char text[2048];
  long end = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : 0;
  long room = (long)sizeof text - 1;
  long start = end - from > room ? end - room : from;
  size_t n = 0;
  if (end > from && fseek(f, start, SEEK_SET) == 0) n = fread(text, 1, (size_t)(end - start), f);
  fclose(f);
  while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ')) n--;
  text[n] = '\0';
  /* What follows the first fault is mostly its echo. Without one the end says most. */
  const char *p = NULL;
  for (size_t i = 0; i < MP_ARRAY_LEN(marks); i++) {
    const char *hit = strstr(text, marks[i]);
    if (hit && (!p || hit < p)) p = hit;
  }
  if (!p) {
    p = n >= size ? text + n - size + 1 : text;
    const char *nl = p > text ? strchr(p, '\n') : NULL; /* no half line in front */
    if (nl) p = nl + 1;
  }
  snprintf(out, size, "%s", p);
}

int mp_proc_run(const struct mp_proc *proc, const char *what, struct mp_err *err) {
  long from = mp_log_size(proc->log_path);
  pid_t pid = 0;
  int rc = mp_proc_spawn(proc, &pid, err);
  if (rc != 0) return rc;
  int status;
  reap(pid, &status);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  char tail[250];
  mp_log_tail(proc->log_path, from, tail, sizeof tail);
  return mp_err_set(err, MP_ENODB, "%s failed (%s %d)%s%s", what,
                    WIFSIGNALED(status) ? "killed by signal" : "exit status",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                    tail[0] ? ": " : "", tail);
}

int mp_proc_remove_tree(const char *path, struct mp_err *err) {
  struct stat st;
  if (lstat(path, &st) != 0 && errno == ENOENT) return 0;
  const char *argv[] = {"rm", "-rf", "--", path, NULL};
  struct mp_proc proc = {.argv = argv};
  char what[320];
  snprintf(what, sizeof what, "removing %.300s", path);
  /* The last children of a killed owner may still write into it for a moment. */
  int rc = mp_proc_run(&proc, what, NULL);
  for (int i = 0; rc != 0 && i < 20; i++) {
    mp_cluster_nap_ms(50);
    rc = mp_proc_run(&proc, what, i == 19 ? err : NULL);
  }
  return rc;
}

/* The first folder that `user` may not pass through is named by the length of its path. */
int mp_proc_check_reach(const struct mp_server_user *user, const char *path, struct mp_err *err) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return mp_cluster_fail(err, errno, "cannot make a pipe");
  pid_t pid = fork();
  if (pid < 0) {
    int rc = mp_cluster_fail(err, errno, "cannot start a process");
    close(fds[0]);
    close(fds[1]);
    return rc;
  }
  if (pid == 0) {
    size_t bad = 0;
    if (become(user)) {
      char part[MP_CLUSTER_PATH];
      size_t len = strlen(path);
      for (size_t i = 1; i <= len && bad == 0; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (access(part, X_OK) != 0) bad = i;
      }
    }
    _exit(write(fds[1], &bad, sizeof bad) == (ssize_t)sizeof bad ? 0 : 1);
  }
  close(fds[1]);
  size_t bad = 0;
  ssize_t n;
  do n = read(fds[0], &bad, sizeof bad);
  while (n < 0 && errno == EINTR);
  close(fds[0]);
  int status;
  reap(pid, &status);
  if (n != (ssize_t)sizeof bad || bad == 0) return 0;
  int len = bad > 150 ? 150 : (int)bad;
  int code = mp_err_set(err, MP_ENODB,
                        "as root the database server runs as user %s, who may not enter %.*s (part "
                        "of the state directory %.150s); allow it with: chmod o+x %.*s, or choose "
                        "another place with MOONPOOL_STATE",
                        user->name, len, path, path, len, path);
  if (err) err->sys = -EACCES;
  return code;
}
