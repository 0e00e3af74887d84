/* access.h: bearer tokens: which caller a token stands for, and what it may do.
 *
 * A token is "mp_" ID "_" SECRET. The database keeps a hash of the secret under the ID. The answer
 * is cached for a few seconds, so that a call costs no query, and longer while the database cannot
 * be reached. Wrong tokens are limited per address and minute. This file knows no database: its
 * owner asks it and passes the answer in. Owner: the service. */
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

/* A token's row in the database. Texts may be NULL. */
struct mp_token_row {
  const char *id, *hash_hex, *tenant, *user, *scopes;
  uint64_t ends_ms; /* of the clock given to the functions below; 0: does not expire */
};

enum mp_verdict {
  MP_ACCESS_KNOWN, /* the principal is set */
  MP_ACCESS_ASK,   /* ask the database for `id`, pass the answer to mp_access_tell, check again */
  MP_ACCESS_DENIED,
  MP_ACCESS_LIMITED, /* too many wrong tokens from this address: refused without a look at the token
                      */
};

int mp_access_new(struct mp_access **out, struct mp_err *err) MP_MUST_CHECK;
void mp_access_unref(struct mp_access *access);

/* `credentials`: the text after "Bearer ". `stale`: the database cannot be reached, so older
 * answers are accepted. Sets `id` for ASK. Denied tries count against the address ("" counts as one
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
