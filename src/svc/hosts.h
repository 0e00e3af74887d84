/* hosts.h: by which names clients may call this host. A page of a foreign site can make its own
 * name lead to this machine (DNS rebinding); the Host header (RFC 9110, 7.2) then still tells that
 * name.
 * IP addresses, localhost and the machine's own name are always accepted; with a list, so are its
 * names. A host without a list that listens on loopback only accepts any name: its clients run on
 * this machine, perhaps a proxy that passes its own name on. */
#ifndef MP_HOSTS_H
#define MP_HOSTS_H

#include "http/message.h"
#include "util/err.h"

struct mp_hosts {
  char *names; /* one after another, each ended by a zero byte; NULL: none */
  bool any;
  char own[256]; /* the machine's name, "" if it is not known */
};

/* `list`: "desk.example, *.desk.example", or "*", or NULL. `address`: where the host listens.
 * MP_EINVAL names the entry that is not a host name. */
int mp_hosts_init(struct mp_hosts *hosts, const char *list, const char *address,
                  struct mp_err *err) MP_MUST_CHECK;
void mp_hosts_fini(struct mp_hosts *hosts);
/* A request without Host (HTTP/1.0) is accepted: browsers do not send it. */
bool mp_hosts_allow(const struct mp_hosts *hosts, const struct mp_http_message *message);

#endif
