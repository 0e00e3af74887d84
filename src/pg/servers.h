/* servers.h: the servers of a connection string that lately did not answer or took no writes; they
 * are tried last. Keeps a few, and forgets the oldest first. Pure. Owner: the part that opens
 * connections. */
#ifndef MP_SERVERS_H
#define MP_SERVERS_H

#include <stdbool.h>
#include <stdint.h>

enum { MP_SERVERS_KEPT = 16, MP_SERVER_KEY = 96, MP_SERVER_SHUNNED_MS = 60000 };

struct mp_servers {
  struct {
    char key[MP_SERVER_KEY]; /* "127.0.0.1:5432", "/run/postgresql:5432" */
    uint64_t until_ms;
  } at[MP_SERVERS_KEPT];
  unsigned next;
};

bool mp_servers_shunned(const struct mp_servers *servers, const char *key, uint64_t now_ms);
void mp_servers_shun(struct mp_servers *servers, const char *key, uint64_t now_ms);
void mp_servers_forgive(struct mp_servers *servers, const char *key);

#endif
