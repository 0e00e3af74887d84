#include "pg/servers.h"

#include <stdio.h>
#include <string.h>

static int find(const struct mp_servers *servers, const char *key) {
  for (int i = 0; i < MP_SERVERS_KEPT; i++)
    if (!strcmp(servers->at[i].key, key)) return i;
  return -1;
}

bool mp_servers_shunned(const struct mp_servers *servers, const char *key, uint64_t now_ms) {
  int i = find(servers, key);
  return i >= 0 && servers->at[i].until_ms > now_ms;
}

void mp_servers_shun(struct mp_servers *servers, const char *key, uint64_t now_ms) {
  int i = find(servers, key);
  if (i < 0) i = (int)(servers->next++ % MP_SERVERS_KEPT);
  snprintf(servers->at[i].key, MP_SERVER_KEY, "%s", key);
  servers->at[i].until_ms = now_ms + MP_SERVER_SHUNNED_MS;
}

void mp_servers_forgive(struct mp_servers *servers, const char *key) {
  int i = find(servers, key);
  if (i >= 0) servers->at[i].until_ms = 0;
}
