#include "svc/hosts.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static bool is_name(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    char c = text[i];
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
          strchr("-._", c) || (c == '*' && !i && len > 2 && text[1] == '.')))
      return false;
  }
  return len > 0;
}

int mp_hosts_init(struct mp_hosts *hosts, const char *list, const char *address,
                  struct mp_err *err) {
  static const char blanks[] = ", \t";
  bool loopback = !strncmp(address, "127.", 4) || !strcmp(address, "::1");
  *hosts = (struct mp_hosts){.any = list ? !strcmp(list, "*") : loopback};
  if (gethostname(hosts->own, sizeof hosts->own - 1)) hosts->own[0] = '\0';
  if (!list || hosts->any) return 0;
  char *out = hosts->names = calloc(1, strlen(list) + 2);
  if (!out) return mp_err_set(err, MP_ENOMEM, "no memory for the list of hosts");
  for (const char *at = list + strspn(list, blanks); *at; at += strspn(at, blanks)) {
    size_t len = strcspn(at, blanks);
    if (!is_name(at, len)) {
      mp_hosts_fini(hosts);
      return mp_err_set(err, MP_EINVAL,
                        "MOONPOOL_HOSTS names \"%.*s\"; a name is like desk.example or "
                        "*.desk.example, without scheme and port; several with commas; or * alone",
                        (int)(len < 100 ? len : 100), at);
    }
    memcpy(out, at, len);
    out += len + 1;
    at += len;
  }
  return 0;
}

void mp_hosts_fini(struct mp_hosts *hosts) {
  free(hosts->names);
  hosts->names = NULL;
}

static bool is(struct mp_http_text name, const char *other) {
  return name.len == strlen(other) && !strncasecmp(name.at, other, name.len);
}

static bool ends_with(struct mp_http_text name, const char *suffix) {
  size_t len = strlen(suffix);
  return name.len > len && is((struct mp_http_text){name.at + name.len - len, len}, suffix);
}

static bool is_address(struct mp_http_text name) {
  char text[INET6_ADDRSTRLEN];
  unsigned char parsed[16];
  if (name.len > 2 && name.at[0] == '[' && name.at[name.len - 1] == ']')
    name = (struct mp_http_text){name.at + 1, name.len - 2};
  if (name.len >= sizeof text) return false;
  memcpy(text, name.at, name.len);
  text[name.len] = '\0';
  return inet_pton(AF_INET, text, parsed) == 1 || inet_pton(AF_INET6, text, parsed) == 1;
}

/* Without the port, and without the dot that may close a full name. */
static struct mp_http_text name_of(struct mp_http_text host) {
  size_t len = host.len;
  while (len && host.at[len - 1] >= '0' && host.at[len - 1] <= '9') len--;
  if (len && host.at[len - 1] == ':') host.len = len - 1;
  if (host.len && host.at[host.len - 1] == '.') host.len--;
  return host;
}

bool mp_hosts_allow(const struct mp_hosts *hosts, const struct mp_http_message *message) {
  struct mp_http_text name;
  if (hosts->any || !mp_http_header(message, "host", &name)) return true;
  name = name_of(name);
  if (!name.len) return true;
  if (is_address(name) || is(name, "localhost") || ends_with(name, ".localhost") ||
      (hosts->own[0] && is(name, hosts->own)))
    return true;
  for (const char *at = hosts->names; at && *at; at += strlen(at) + 1)
    if (at[0] == '*' ? ends_with(name, at + 1) : is(name, at)) return true;
  return false;
}
