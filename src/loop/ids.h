/* ids.h: UUIDs and time stamps as text. */
#ifndef MP_IDS_H
#define MP_IDS_H

#include "loop/loop.h"

/* A new UUID of version 7 (RFC 9562, 5.7): the current time, then random bits. */
void mp_uuid_new(struct mp_loop *loop, char out[37]);
void mp_uuid7_format(uint64_t wall_us, const uint64_t random[2], char out[37]);
void mp_uuid4_format(const uint64_t random[2], char out[37]); /* random (RFC 9562, 5.4) */
/* ISO 8601 in UTC: "2026-11-23T18:09:27.123456Z" */
void mp_timestamp_format(uint64_t wall_us, char out[32]);

#endif
