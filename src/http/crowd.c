#include "http/crowd.h"

#include <stdlib.h>
#include <string.h>

#include "http/conn.h"
/* uthash must not end the process when memory is short */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { LITTLE_BYTES = 16 * 1024 }; /* every connection may make the server keep so much */

/* 16 bytes: IPv4 as ::ffff:a.b.c.d; of IPv6 the first 64 bits, for one client has all the rest. */
struct key {
  unsigned char bytes[16];
};

struct mp_http_address {
  UT_hash_handle hh;
  struct key key;
  size_t connections, most;
  struct mp_list waiting[MP_HTTP_WAITS];
};

void mp_http_crowd_init(struct mp_http_crowd *crowd) {
  *crowd = (struct mp_http_crowd){.kept = 0};
  for (int i = 0; i < MP_HTTP_WAITS; i++) mp_list_init(&crowd->waiting[i]);
  mp_list_init(&crowd->keepers);
}

/* ---- addresses ---- */

static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_loopback(const struct key *key) {
  static const unsigned char v6[16] = {[15] = 1};
  return !memcmp(key->bytes, v6, sizeof v6) ||
         (!memcmp(key->bytes, mapped, sizeof mapped) && key->bytes[12] == 127);
}

/* False: the address is not known. */
static bool key_of(struct mp_http_conn *conn, struct key *key) {
  struct sockaddr_storage peer;
  int len = sizeof peer;
  if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&peer, &len)) return false;
  *key = (struct key){{0}};
  if (peer.ss_family == AF_INET) {
    memcpy(key->bytes, mapped, sizeof mapped);
    memcpy(key->bytes + 12, &((struct sockaddr_in *)&peer)->sin_addr, 4);
  } else if (peer.ss_family == AF_INET6) {
    memcpy(key->bytes, &((struct sockaddr_in6 *)&peer)->sin6_addr, 16);
  } else {
    return false;
  }
  if (memcmp(key->bytes, mapped, sizeof mapped) != 0 && !is_loopback(key))
    memset(key->bytes + 8, 0, 8);
  return true;
}

static struct mp_http_address *address_of(struct mp_http_conn *conn) {
  struct mp_http_crowd *crowd = &conn->server->crowd;
  struct mp_http_address *found;
  struct key key;
  if (!key_of(conn, &key)) return NULL;
  HASH_FIND(hh, crowd->addresses, &key, sizeof key, found);
  if (found) return found;
  found = calloc(1, sizeof *found);
  if (!found) return NULL;
  const struct mp_http_options *options = &conn->server->options;
  found->key = key;
  found->most = is_loopback(&key) ? options->per_loopback : options->per_address;
  for (int i = 0; i < MP_HTTP_WAITS; i++) mp_list_init(&found->waiting[i]);
  HASH_ADD(hh, crowd->addresses, key, sizeof found->key, found);
  if (!found->hh.tbl) { /* no memory for the table */
    free(found);
    return NULL;
  }
  return found;
}

static void leave_address(struct mp_http_conn *conn) {
  struct mp_http_crowd *crowd = &conn->server->crowd;
  struct mp_http_address *address = conn->seat.address;
  conn->seat.address = NULL;
  if (!address || --address->connections) return;
  HASH_DEL(crowd->addresses, address);
  free(address);
}

/* ---- connections ---- */

static enum mp_http_waits waits_of(const struct mp_http_conn *conn) {
  switch (conn->state) {
    case MP_HTTP_READING:
      if (conn->writes) return MP_HTTP_UNREAD;
      return conn->in_request || !conn->served ? MP_HTTP_UNFINISHED : MP_HTTP_IDLE;
    case MP_HTTP_STREAMING: return conn->writes ? MP_HTTP_UNREAD : MP_HTTP_NONE;
    case MP_HTTP_LAST: return conn->writes ? MP_HTTP_UNREAD : MP_HTTP_IDLE;
    case MP_HTTP_CALLED:
    case MP_HTTP_CLOSING:
    case MP_HTTP_CLOSED: return MP_HTTP_NONE;
  }
  return MP_HTTP_NONE;
}

/* Who leaves first; `own`: of the lists of one address. */
static struct mp_http_conn *first_to_leave(struct mp_list waiting[MP_HTTP_WAITS], bool own,
                                           uint64_t now_ms) {
  for (int i = 0; i < MP_HTTP_WAITS; i++) {
    struct mp_list *node = waiting[i].next;
    if (node == &waiting[i]) continue;
    struct mp_http_conn *conn = own ? MP_LIST_ENTRY(node, struct mp_http_conn, seat.in_own)
                                    : MP_LIST_ENTRY(node, struct mp_http_conn, seat.in_all);
    if (i != MP_HTTP_UNFINISHED || conn->seat.since_ms < now_ms) return conn;
  }
  return NULL;
}

static bool make_room(struct mp_http_server *server, struct mp_list waiting[MP_HTTP_WAITS],
                      bool own) {
  struct mp_http_conn *conn = first_to_leave(waiting, own, mp_loop_now_ms(server->loop));
  if (!conn) return false;
  server->stats.dismissed++;
  mp_http_conn_close(conn);
  return true;
}

bool mp_http_crowd_enter(struct mp_http_conn *conn) {
  struct mp_http_server *server = conn->server;
  const struct mp_http_options *options = &server->options;
  struct mp_http_address *address = address_of(conn);
  bool room = !address || !address->most || address->connections < address->most ||
              make_room(server, address->waiting, true);
  if (room && server->stats.connections >= options->connections)
    room = make_room(server, server->crowd.waiting, false);
  /* The one that left may have been the last of this address. */
  conn->seat.address = address_of(conn);
  if (conn->seat.address) conn->seat.address->connections++;
  server->stats.connections++;
  mp_http_crowd_see(conn);
  return room;
}

/* ---- memory ---- */

static size_t kept_for(const struct mp_http_conn *conn) {
  if (mp_http_conn_lost(conn)) return 0;
  return conn->parser.head.cap + conn->parser.body.cap + conn->ahead.cap + conn->unsent;
}

/* Whoever is in the middle of a body is told. */
static void dismiss(struct mp_http_conn *conn) {
  conn->server->stats.dismissed++;
  if (conn->state == MP_HTTP_READING && conn->body_start_ms && !conn->writes)
    mp_http_conn_refuse(conn, 503, "the host keeps too much for its clients; try again");
  else
    mp_http_conn_close(conn);
}

static void update(struct mp_http_conn *conn) {
  struct mp_http_crowd *crowd = &conn->server->crowd;
  struct mp_http_seat *seat = &conn->seat;
  enum mp_http_waits waits = waits_of(conn);
  if (waits != seat->waits) {
    mp_list_remove(&seat->in_all);
    mp_list_remove(&seat->in_own);
    seat->waits = waits;
    seat->since_ms = mp_loop_now_ms(conn->server->loop);
    if (waits != MP_HTTP_NONE) mp_list_push_back(&crowd->waiting[waits], &seat->in_all);
    if (waits != MP_HTTP_NONE && seat->address)
      mp_list_push_back(&seat->address->waiting[waits], &seat->in_own);
  }
  size_t kept = kept_for(conn);
  crowd->kept = crowd->kept - seat->kept + kept;
  seat->kept = kept;
  if (waits == MP_HTTP_NONE || kept <= LITTLE_BYTES)
    mp_list_remove(&seat->keeper);
  else if (mp_list_empty(&seat->keeper))
    mp_list_push_back(&crowd->keepers, &seat->keeper);
}

void mp_http_crowd_leave(struct mp_http_conn *conn) {
  conn->server->stats.connections--;
  update(conn);
  leave_address(conn);
}

void mp_http_crowd_see(struct mp_http_conn *conn) {
  struct mp_http_server *server = conn->server;
  struct mp_http_crowd *crowd = &server->crowd;
  update(conn);
  if (crowd->relieving) return; /* whoever is being dismissed is seen, too */
  crowd->relieving = true;
  while (crowd->kept > server->options.memory_bytes && !mp_list_empty(&crowd->keepers))
    dismiss(MP_LIST_ENTRY(crowd->keepers.next, struct mp_http_conn, seat.keeper));
  crowd->relieving = false;
}
