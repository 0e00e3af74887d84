#include "http/crowd.h"

#include <stdlib.h>
#include <string.h>

/* uthash must not end the process when memory is short */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { LITTLE_BYTES = 16 * 1024 }; /* every connection may make the server keep so much */

/* 16 bytes: IPv4 as ::ffff:a.b.c.d; of IPv6 the first 64 bits, because one client may use all
 * addresses of a /64. */
struct key {
  unsigned char bytes[16];
};

struct mp_http_address {
  UT_hash_handle hh;
  struct key key;
  size_t connections, most;
  struct mp_list waiting[MP_HTTP_WAITS];
};

void mp_http_crowd_init(struct mp_http_crowd *crowd, const struct mp_http_crowd_limits *limits,
                        mp_http_dismiss dismiss) {
  *crowd = (struct mp_http_crowd){.limits = *limits, .dismiss = dismiss};
  for (int i = 0; i < MP_HTTP_WAITS; i++) mp_list_init(&crowd->waiting[i]);
  mp_list_init(&crowd->keepers);
}

void mp_http_seat_init(struct mp_http_seat *seat) {
  *seat = (struct mp_http_seat){.waits = MP_HTTP_NONE};
  mp_list_init(&seat->in_all);
  mp_list_init(&seat->in_own);
  mp_list_init(&seat->keeper);
}

/* ---- addresses ---- */

static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_loopback(const struct key *key) {
  static const unsigned char v6[16] = {[15] = 1};
  return !memcmp(key->bytes, v6, sizeof v6) ||
         (!memcmp(key->bytes, mapped, sizeof mapped) && key->bytes[12] == 127);
}

static struct key key_of(const unsigned char bytes[16]) {
  struct key key;
  memcpy(key.bytes, bytes, sizeof key.bytes);
  if (memcmp(key.bytes, mapped, sizeof mapped) != 0 && !is_loopback(&key))
    memset(key.bytes + 8, 0, 8);
  return key;
}

/* NULL: it is not known, or there is no memory. */
static struct mp_http_address *address_of(struct mp_http_crowd *crowd,
                                          const unsigned char bytes[16]) {
  struct mp_http_address *found;
  if (!bytes) return NULL;
  struct key key = key_of(bytes);
  HASH_FIND(hh, crowd->addresses, &key, sizeof key, found);
  if (found) return found;
  found = calloc(1, sizeof *found);
  if (!found) return NULL;
  found->key = key;
  found->most = is_loopback(&key) ? crowd->limits.per_loopback : crowd->limits.per_address;
  for (int i = 0; i < MP_HTTP_WAITS; i++) mp_list_init(&found->waiting[i]);
  HASH_ADD(hh, crowd->addresses, key, sizeof found->key, found);
  if (!found->hh.tbl) { /* no memory for the table */
    free(found);
    return NULL;
  }
  return found;
}

static void leave_address(struct mp_http_crowd *crowd, struct mp_http_seat *seat) {
  struct mp_http_address *address = seat->address;
  seat->address = NULL;
  if (!address || --address->connections) return;
  HASH_DEL(crowd->addresses, address);
  free(address);
}

/* ---- connections ---- */

/* The client that leaves first; `own`: the lists are those of one address. */
static struct mp_http_seat *first_to_leave(struct mp_list waiting[MP_HTTP_WAITS], bool own,
                                           uint64_t now_ms) {
  for (int i = 0; i < MP_HTTP_WAITS; i++) {
    struct mp_list *node = waiting[i].next;
    if (node == &waiting[i]) continue;
    struct mp_http_seat *seat = own ? MP_LIST_ENTRY(node, struct mp_http_seat, in_own)
                                    : MP_LIST_ENTRY(node, struct mp_http_seat, in_all);
    if (i != MP_HTTP_UNFINISHED || seat->since_ms < now_ms) return seat;
  }
  return NULL;
}

static bool make_room(struct mp_http_crowd *crowd, struct mp_list waiting[MP_HTTP_WAITS], bool own,
                      uint64_t now_ms) {
  struct mp_http_seat *seat = first_to_leave(waiting, own, now_ms);
  if (!seat) return false;
  crowd->dismiss(seat, false);
  return true;
}

bool mp_http_crowd_enter(struct mp_http_crowd *crowd, struct mp_http_seat *seat,
                         const unsigned char bytes[16], uint64_t now_ms) {
  struct mp_http_address *address = address_of(crowd, bytes);
  bool room = !address || !address->most || address->connections < address->most ||
              make_room(crowd, address->waiting, true, now_ms);
  if (room && crowd->connections >= crowd->limits.connections)
    room = make_room(crowd, crowd->waiting, false, now_ms);
  /* The one that left may have been the last of this address. */
  seat->address = address_of(crowd, bytes);
  if (seat->address) seat->address->connections++;
  crowd->connections++;
  return room;
}

/* ---- memory ---- */

static void update(struct mp_http_crowd *crowd, struct mp_http_seat *seat, enum mp_http_waits waits,
                   size_t kept, uint64_t now_ms) {
  if (waits != seat->waits) {
    mp_list_remove(&seat->in_all);
    mp_list_remove(&seat->in_own);
    seat->waits = waits;
    seat->since_ms = now_ms;
    if (waits != MP_HTTP_NONE) mp_list_push_back(&crowd->waiting[waits], &seat->in_all);
    if (waits != MP_HTTP_NONE && seat->address)
      mp_list_push_back(&seat->address->waiting[waits], &seat->in_own);
  }
  crowd->kept = crowd->kept - seat->kept + kept;
  seat->kept = kept;
  if (waits == MP_HTTP_NONE || kept <= LITTLE_BYTES)
    mp_list_remove(&seat->keeper);
  else if (mp_list_empty(&seat->keeper))
    mp_list_push_back(&crowd->keepers, &seat->keeper);
}

void mp_http_crowd_leave(struct mp_http_crowd *crowd, struct mp_http_seat *seat) {
  crowd->connections--;
  update(crowd, seat, MP_HTTP_NONE, 0, 0);
  leave_address(crowd, seat);
}

void mp_http_crowd_see(struct mp_http_crowd *crowd, struct mp_http_seat *seat,
                       enum mp_http_waits waits, size_t kept, uint64_t now_ms) {
  update(crowd, seat, waits, kept, now_ms);
  if (crowd->relieving) return; /* dismissing a client comes back here */
  crowd->relieving = true;
  while (crowd->kept > crowd->limits.memory_bytes && !mp_list_empty(&crowd->keepers))
    crowd->dismiss(MP_LIST_ENTRY(crowd->keepers.next, struct mp_http_seat, keeper), true);
  crowd->relieving = false;
}
