/* access.h: who asks: bearer tokens, and what they may do.
 *
 * A token is "mp_" ID "_" SECRET. The database keeps a hash of the secret under the ID; what it
 * said is kept here for a little while, so that a call costs no question, and longer while the
 * database cannot be asked. Whoever comes with wrong tokens has so many tries a minute. Knows no
 * database: its owner asks and tells. Owner: the service. */
#ifndef MP_ACCESS_H
#define MP_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

struct mp_access;

enum { MP_TOKEN_ID_LEN = 12, MP_TOKEN_SECRET_LEN = 43, MP_TOKEN_HASH_LEN = 32, MP_TOKEN_SIZE = 64 };

/* What a token stands for; borrowed from the access until its next call. */
struct mp_principal {
  const char *id;
  const char *tenant, *user; /* NULL: any, nobody */
  const char *scopes;        /* "ops:* monitor" */
};

/* As the database has it. NULL texts are NULL. */
struct mp_token_row {
  const char *id, *hash_hex, *tenant, *user, *scopes;
  uint64_t ends_ms; /* of the clock given to the functions below; 0: does not expire */
};

enum mp_verdict {
  MP_ACCESS_KNOWN, /* the principal is set */
  MP_ACCESS_ASK,   /* ask the database for `id`, tell it, and check again */
  MP_ACCESS_DENIED,
  MP_ACCESS_LIMITED, /* too many wrong tokens from this address: not even asked */
};

int mp_access_new(struct mp_access **out, struct mp_err *err) MP_MUST_CHECK;
void mp_access_unref(struct mp_access *access);

/* `credentials`: what stands behind "Bearer ". `stale`: the database cannot be asked, what is known
 * longer will do. Sets `id` for ASK. Denied tries count against the address ("" counts as one
 * address). */
enum mp_verdict mp_access_check(struct mp_access *access, const char *credentials, size_t len,
                                const char *address, uint64_t now_ms, bool stale,
                                struct mp_principal *principal, char id[MP_TOKEN_ID_LEN + 1]);
/* The database's answer for an id; `row` NULL: there is no such token, or it was revoked. */
void mp_access_tell(struct mp_access *access, const char *id, const struct mp_token_row *row,
                    uint64_t now_ms);
/* Until the address may try again; 0: it may. */
uint64_t mp_access_wait_ms(struct mp_access *access, const char *address, uint64_t now_ms);

/* Does a list of scopes hold "group:name" or "group:*"; without a name: "group"? */
bool mp_scopes_allow(const char *scopes, const char *group, const char *name);

/* A new token (MP_TOKEN_SIZE), its id, and the hash of its secret in hexadecimal (2 *
 * MP_TOKEN_HASH_LEN + 1). */
void mp_token_make(char *token, char *id, char *hash_hex);

#endif
