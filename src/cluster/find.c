/* find.c: which PostgreSQL binaries to use, and which user the server runs as. */
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/cluster_priv.h"

bool mp_cluster_has_server(const char *dir) {
  static const char *const names[] = {"postgres", "initdb"};
  char path[MP_CLUSTER_PATH];
  for (size_t i = 0; i < MP_ARRAY_LEN(names); i++) {
    int n = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
    if (n < 0 || (size_t)n >= sizeof path || access(path, X_OK) != 0) return false;
  }
  return true;
}

/* Debian's layout. The version of an existing data directory is the only one that can read it;
 * otherwise 15, which the project is tested with, else the highest. */
static bool find_debian(int wanted, char *out, size_t size) {
  DIR *d = opendir("/usr/lib/postgresql");
  if (!d) return false;
  long best = 0;
  for (struct dirent *e; (e = readdir(d));) {
    char *end;
    long v = strtol(e->d_name, &end, 10);
    if (*end || v < MP_CLUSTER_MIN_VERSION || v > 999 || (wanted && v != wanted)) continue;
    if (best == MP_CLUSTER_BEST_VERSION || (best > v && v != MP_CLUSTER_BEST_VERSION)) continue;
    char path[64];
    snprintf(path, sizeof path, "/usr/lib/postgresql/%ld/bin", v);
    if (mp_cluster_has_server(path)) best = v;
  }
  closedir(d);
  if (best == 0) return false;
  snprintf(out, size, "/usr/lib/postgresql/%ld/bin", best);
  return true;
}

static bool find_pg_config(char *out, size_t size) {
  FILE *p = popen("pg_config --bindir 2>/dev/null", "re");
  if (!p) return false;
  bool ok = fgets(out, (int)size, p) != NULL;
  pclose(p);
  out[ok ? strcspn(out, "\n") : 0] = '\0';
  return ok && mp_cluster_has_server(out);
}

static bool find_path(const char *path, char *out, size_t size) {
  for (const char *p = path; p && *p;) {
    size_t n = strcspn(p, ":");
    snprintf(out, size, "%.*s", (int)n, p);
    if (n > 0 && out[0] == '/' && mp_cluster_has_server(out)) return true;
    p += n + (p[n] == ':');
  }
  return false;
}

int mp_cluster_find_bin(struct mp_cluster *c, const struct mp_cluster_env *env,
                        struct mp_err *err) {
  char *out = c->bin_dir;
  size_t size = sizeof c->bin_dir;
  if (env->moonpool_pgbin && *env->moonpool_pgbin) {
    int n = snprintf(out, size, "%s", env->moonpool_pgbin);
    if (n > 0 && (size_t)n < size && mp_cluster_has_server(out)) return 0;
    out[0] = '\0';
    return mp_err_set(
        err, MP_ENODB,
        "MOONPOOL_PGBIN is %.200s, which does not contain postgres and initdb; set it to "
        "PostgreSQL's bin folder or unset it",
        env->moonpool_pgbin);
  }
  if (find_debian(c->version, out, size)) return 0;
  if (find_pg_config(out, size) || find_path(env->path, out, size)) return 0;
  out[0] = '\0';
  int version = c->version ? c->version : MP_CLUSTER_BEST_VERSION;
  return mp_err_set(err, MP_ENODB,
                    "PostgreSQL %d%s is not installed (looked in /usr/lib/postgresql/*/bin, "
                    "pg_config --bindir and PATH); install it with: apt-get install postgresql-%d, "
                    "or set MOONPOOL_PGBIN to its bin folder, or DATABASE_URL to a server",
                    version, c->version ? ", which made the existing data," : " or newer", version);
}

/* Not root: ourselves. Root: the owner of an existing cluster, else postgres, else nobody. */
int mp_cluster_find_user(const struct mp_cluster *c, struct mp_server_user *out,
                         struct mp_err *err) {
  *out = (struct mp_server_user){0};
  if (geteuid() != 0) return 0;
  struct stat st;
  struct passwd *pw = NULL;
  char run[MP_CLUSTER_PATH + 8];
  snprintf(run, sizeof run, "%s/run", c->dir);
  if ((stat(c->data_dir, &st) == 0 || stat(run, &st) == 0) && st.st_uid != 0) {
    pw = getpwuid(st.st_uid);
  } else {
    pw = getpwnam("postgres");
    if (!pw) pw = getpwnam("nobody");
  }
  if (!pw || pw->pw_uid == 0) {
    return mp_err_set(err, MP_ENODB,
                      "PostgreSQL refuses to run as root, and there is no user to run it as "
                      "(looked for the owner of %.200s, postgres and nobody); run moonpool as an "
                      "ordinary user, or set DATABASE_URL to a server",
                      c->data_dir);
  }
  out->drop = true;
  out->uid = pw->pw_uid;
  out->gid = pw->pw_gid;
  snprintf(out->name, sizeof out->name, "%s", pw->pw_name);
  /* Looked up here: between fork and exec only simple system calls are safe. */
  int n = MP_CLUSTER_GROUPS;
  if (getgrouplist(pw->pw_name, pw->pw_gid, out->groups, &n) < 0) n = MP_CLUSTER_GROUPS;
  out->group_count = n;
  return 0;
}
