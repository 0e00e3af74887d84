/* crowd.h: which client has to leave when clients use up the server's connections or its memory.
 * It decides; the owner of the seats closes connections. For the files of http/ only.
 *
 * A connection that waits for its client may be closed to make room:
 *
 *   UNFINISHED  the client has not sent a whole request yet: a new connection, or half a request
 *   IDLE        between two requests, or its last one is answered and its end is awaited
 *   UNREAD      the client does not take its answer
 * They leave in this order, within a class the oldest first. A connection accepted in this turn of
 * the loop stays: its request may already be in the socket. NONE: the host works for the client, so
 * its connection stays.
 *
 * Each address has at most options.per_address connections (a loopback address, which may be a
 * proxy's, options.per_loopback): its own connections that wait make room for its new ones.
 * What the server keeps for clients (unfinished requests, unread answers) is at most
 * options.memory_bytes. Beyond that, of the clients for which more than 16 KiB are kept, the oldest
 * leaves. Bodies of requests that are being handled count, but their connections stay.
 *
 * Owner: the server. The lists borrow connections; a connection is on them while it is open. */
#ifndef MP_HTTP_CROWD_H
#define MP_HTTP_CROWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/list.h"

struct mp_http_address;

enum mp_http_waits { MP_HTTP_NONE, MP_HTTP_UNFINISHED, MP_HTTP_IDLE, MP_HTTP_UNREAD };
enum { MP_HTTP_WAITS = MP_HTTP_UNREAD + 1 };

struct mp_http_seat;
/* The client of this seat has to leave: for another client, or for the memory that it takes. It
 * must leave, or keep less, before this returns. */
typedef void (*mp_http_dismiss)(struct mp_http_seat *seat, bool for_memory);

struct mp_http_crowd_limits {
  size_t connections;
  size_t per_address, per_loopback; /* 0: no limit of its own */
  size_t memory_bytes;
};

struct mp_http_crowd {
  struct mp_http_crowd_limits limits;
  mp_http_dismiss dismiss;
  struct mp_list waiting[MP_HTTP_WAITS]; /* the first has waited longest; NONE's is empty */
  struct mp_list keepers;                /* may leave, and the server keeps much for them */
  struct mp_http_address *addresses;
  size_t connections;
  size_t kept;    /* bytes */
  bool relieving; /* a client is being dismissed for memory */
};

/* A connection's part of it. */
struct mp_http_seat {
  enum mp_http_waits waits;
  uint64_t since_ms;
  struct mp_list in_all, in_own; /* the lists of the crowd, and of its address, for `waits` */
  struct mp_list keeper;
  struct mp_http_address *address; /* NULL: it is not known */
  size_t kept;
};

void mp_http_crowd_init(struct mp_http_crowd *crowd, const struct mp_http_crowd_limits *limits,
                        mp_http_dismiss dismiss);
void mp_http_seat_init(struct mp_http_seat *seat);
/* A connection has been accepted from `address` (IPv6, or IPv4 as ::ffff:a.b.c.d; NULL: not known):
 * others leave for it where that is needed. False: no other can leave, so there are too many. */
bool mp_http_crowd_enter(struct mp_http_crowd *crowd, struct mp_http_seat *seat,
                         const unsigned char address[16], uint64_t now_ms);
/* Notes what the server now waits for and how many bytes it keeps for the client. This client or
 * others may be dismissed. */
void mp_http_crowd_see(struct mp_http_crowd *crowd, struct mp_http_seat *seat,
                       enum mp_http_waits waits, size_t kept, uint64_t now_ms);
/* The seat's connection is being closed. */
void mp_http_crowd_leave(struct mp_http_crowd *crowd, struct mp_http_seat *seat);

#endif
