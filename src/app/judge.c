#include "app/judge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cluster/cluster.h"
#include "http/client.h"
#include "pg/conninfo.h"
#include "svc/service.h"

int mp_judge_database(const char *name, const char *value, struct mp_err *err) {
  struct mp_err fault;
  if (!mp_conninfo_check(value, &fault)) return 0;
  return mp_err_set(err, fault.code, "%s: %s", name, fault.msg);
}

/* libc silently treats an unknown name as UTC, and a file that is no time zone too. */
int mp_judge_zone(const char *name, const char *value, struct mp_err *err) {
  char path[300], magic[4] = "";
  bool is_name = !strstr(value, "..") && *value != '/' && *value != ':' &&
                 snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", value) < (int)sizeof path;
  FILE *file = is_name ? fopen(path, "rb") : NULL;
  bool found = file && fread(magic, 1, sizeof magic, file) == sizeof magic &&
               !memcmp(magic, "TZif", sizeof magic);
  if (file) fclose(file);
  if (found) return 0;
  return mp_err_set(err, MP_EINVAL,
                    "%s is \"%.40s\", which is no time zone of /usr/share/zoneinfo; write a name "
                    "such as Europe/Berlin",
                    name, value);
}

int mp_listen_read(const char *text, char address[64], int *port, struct mp_err *err) {
  unsigned char parsed[16];
  const char *colon = strrchr(text, ':'), *digits = colon ? colon + 1 : "";
  size_t len = colon ? (size_t)(colon - text) : 0, count = strlen(digits);
  bool bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';
  const char *host = bracketed ? text + 1 : text;
  *address = '\0';
  *port = 0;
  if (!strcmp(text, "off")) return 0;
  if (bracketed) len -= 2;
  if (len && len < 64 && count && count <= 5 && strspn(digits, "0123456789") == count) {
    memcpy(address, host, len);
    address[len] = '\0';
    *port = atoi(digits);
    if (*port <= 65535 && inet_pton(bracketed ? AF_INET6 : AF_INET, address, parsed) == 1) return 0;
  }
  return mp_err_set(err, MP_EINVAL,
                    "cannot listen on \"%.80s\"; an address is like 127.0.0.1:5000 or [::1]:5000, "
                    "or off",
                    text);
}

int mp_judge_listen(const char *name, const char *value, struct mp_err *err) {
  char address[64];
  int port;
  struct mp_err fault;
  if (!mp_listen_read(value, address, &port, &fault)) return 0;
  return mp_err_set(err, MP_EINVAL, "%s: %s", name, fault.msg);
}

int mp_judge_origins(const char *name, const char *value, struct mp_err *err) {
  (void)name;
  return mp_service_check(value, NULL, err);
}

int mp_judge_hosts(const char *name, const char *value, struct mp_err *err) {
  (void)name;
  return mp_service_check(NULL, value, err);
}

int mp_judge_url(const char *name, const char *value, struct mp_err *err) {
  char host[300];
  struct mp_err fault;
  if (!mp_http_url_host(value, host, sizeof host, &fault)) return 0;
  return mp_err_set(err, MP_EINVAL, "%s is %s", name, fault.msg);
}

int mp_judge_folder(const char *name, const char *value, struct mp_err *err) {
  struct stat st;
  if (stat(value, &st) ? errno != ENOTDIR : S_ISDIR(st.st_mode)) return 0;
  return mp_err_set(err, MP_EINVAL, "%s is %.200s: %s; set it to a folder, or unset it", name,
                    value, strerror(ENOTDIR));
}

int mp_judge_programs(const char *name, const char *value, struct mp_err *err) {
  if (mp_cluster_has_server(value)) return 0;
  return mp_err_set(err, MP_EINVAL,
                    "%s is %.200s, but there is no postgres and initdb in it; set it to "
                    "PostgreSQL's bin folder or unset it",
                    name, value);
}
