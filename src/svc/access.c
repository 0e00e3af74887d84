#include "svc/access.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "util/attr.h"
/* uthash must not end the process when memory is short */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
  FRESH_MS = 5 * 1000,       /* how long a revoked token may still be accepted */
  STALE_MS = 60 * 60 * 1000, /* ... while the database cannot be asked */
  ABSENT_MS = 5 * 1000,
  MOST_TOKENS = 10000,
  WINDOW_MS = 60 * 1000,
  TRIES = 10, /* wrong tokens in a window */
  MOST_ADDRESSES = 10000,
};

struct token {
  UT_hash_handle hh; /* by id, in the order of telling */
  char id[MP_TOKEN_ID_LEN + 1];
  bool absent;
  unsigned char hash[MP_TOKEN_HASH_LEN];
  char *tenant, *user, *scopes;
  uint64_t told_ms, ends_ms;
};

struct address {
  UT_hash_handle hh; /* in the order of the windows' beginnings */
  uint64_t since_ms;
  unsigned wrong;
  char name[64];
};

struct mp_access {
  struct token *tokens;
  struct address *addresses;
};

int mp_access_new(struct mp_access **out, struct mp_err *err) {
  *out = calloc(1, sizeof **out);
  return *out ? 0 : mp_err_set(err, MP_ENOMEM, "no memory for a table of tokens");
}

static void drop_token(struct mp_access *access, struct token *token) {
  HASH_DEL(access->tokens, token);
  free(token->tenant);
  free(token->user);
  free(token->scopes);
  MP_FREE_LISTED(token);
}

static void drop_address(struct mp_access *access, struct address *address) {
  HASH_DEL(access->addresses, address);
  MP_FREE_LISTED(address);
}

void mp_access_unref(struct mp_access *access) {
  if (!access) return;
  while (access->tokens) drop_token(access, access->tokens);
  while (access->addresses) drop_address(access, access->addresses);
  free(access);
}

/* ---- wrong tries ---- */

static struct address *find_address(struct mp_access *access, const char *name, uint64_t now_ms) {
  struct address *found;
  while (access->addresses && access->addresses->since_ms + WINDOW_MS <= now_ms)
    drop_address(access, access->addresses);
  HASH_FIND_STR(access->addresses, name, found);
  return found;
}

uint64_t mp_access_wait_ms(struct mp_access *access, const char *address, uint64_t now_ms) {
  struct address *found = find_address(access, address, now_ms);
  return found && found->wrong >= TRIES ? found->since_ms + WINDOW_MS - now_ms : 0;
}

static enum mp_verdict deny(struct mp_access *access, const char *name, uint64_t now_ms) {
  struct address *found = find_address(access, name, now_ms);
  if (found) {
    found->wrong++;
    return MP_ACCESS_DENIED;
  }
  if (HASH_COUNT(access->addresses) >= MOST_ADDRESSES) drop_address(access, access->addresses);
  found = calloc(1, sizeof *found);
  if (!found) return MP_ACCESS_DENIED;
  strncpy(found->name, name, sizeof found->name - 1);
  found->since_ms = now_ms;
  found->wrong = 1;
  HASH_ADD_STR(access->addresses, name, found);
  return MP_ACCESS_DENIED;
}

/* ---- tokens ---- */

static void hash_secret(const char *secret, unsigned char out[MP_TOKEN_HASH_LEN]) {
  crypto_generichash(out, MP_TOKEN_HASH_LEN, (const unsigned char *)secret, MP_TOKEN_SECRET_LEN,
                     NULL, 0);
}

static bool word(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    char c = text[i];
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
          c == '_'))
      return false;
  }
  return true;
}

/* The secret of a token of the right form, whose id is copied out; else NULL. */
static const char *split(const char *text, size_t len, char id[MP_TOKEN_ID_LEN + 1]) {
  if (len != 3 + MP_TOKEN_ID_LEN + 1 + MP_TOKEN_SECRET_LEN || memcmp(text, "mp_", 3) != 0 ||
      text[3 + MP_TOKEN_ID_LEN] != '_' || !word(text, len))
    return NULL;
  memcpy(id, text + 3, MP_TOKEN_ID_LEN);
  id[MP_TOKEN_ID_LEN] = '\0';
  return text + 3 + MP_TOKEN_ID_LEN + 1;
}

enum mp_verdict mp_access_check(struct mp_access *access, const char *credentials, size_t len,
                                const char *address, uint64_t now_ms, bool stale,
                                struct mp_principal *principal, char id[MP_TOKEN_ID_LEN + 1]) {
  unsigned char hash[MP_TOKEN_HASH_LEN];
  struct token *token;
  const char *secret = split(credentials, len, id);
  if (!secret) {
    if (mp_access_wait_ms(access, address, now_ms)) return MP_ACCESS_LIMITED;
    return deny(access, address, now_ms);
  }
  HASH_FIND_STR(access->tokens, id, token);
  uint64_t good_ms = token && token->absent ? ABSENT_MS : stale ? STALE_MS : FRESH_MS;
  if (!token || token->told_ms + good_ms <= now_ms) {
    /* A token that was valid a moment ago does not count as a wrong try. */
    bool proven = token && !token->absent;
    if (!proven && mp_access_wait_ms(access, address, now_ms)) return MP_ACCESS_LIMITED;
    return MP_ACCESS_ASK;
  }
  if (!token->absent) {
    hash_secret(secret, hash);
    if (!sodium_memcmp(hash, token->hash, sizeof hash) &&
        (!token->ends_ms || token->ends_ms > now_ms)) {
      *principal = (struct mp_principal){token->id, token->tenant, token->user, token->scopes};
      return MP_ACCESS_KNOWN;
    }
  }
  if (mp_access_wait_ms(access, address, now_ms)) return MP_ACCESS_LIMITED;
  return deny(access, address, now_ms);
}

static char *copy(const char *text, bool *failed) {
  char *made = text ? strdup(text) : NULL;
  if (text && !made) *failed = true;
  return made;
}

void mp_access_tell(struct mp_access *access, const char *id, const struct mp_token_row *row,
                    uint64_t now_ms) {
  struct token *token;
  bool failed = false;
  HASH_FIND_STR(access->tokens, id, token);
  if (token) drop_token(access, token);
  if (HASH_COUNT(access->tokens) >= MOST_TOKENS) drop_token(access, access->tokens);
  token = calloc(1, sizeof *token);
  if (!token) return;
  strncpy(token->id, id, MP_TOKEN_ID_LEN);
  token->told_ms = now_ms;
  token->absent = !row;
  if (row) {
    size_t len = 0;
    token->tenant = copy(row->tenant, &failed);
    token->user = copy(row->user, &failed);
    token->scopes = copy(row->scopes ? row->scopes : "", &failed);
    token->ends_ms = row->ends_ms;
    if (sodium_hex2bin(token->hash, sizeof token->hash, row->hash_hex, strlen(row->hash_hex), NULL,
                       &len, NULL) ||
        len != sizeof token->hash)
      failed = true;
  }
  HASH_ADD_STR(access->tokens, id, token);
  if (failed) drop_token(access, token);
}

/* ---- scopes ---- */

bool mp_scopes_allow(const char *scopes, const char *group, const char *name) {
  size_t group_len = strlen(group), name_len = name ? strlen(name) : 0;
  while (*scopes) {
    size_t len = strcspn(scopes, " ");
    if (!name) {
      if (len == group_len && !memcmp(scopes, group, len)) return true;
    } else if (len > group_len + 1 && !memcmp(scopes, group, group_len) &&
               scopes[group_len] == ':') {
      const char *what = scopes + group_len + 1;
      size_t what_len = len - group_len - 1;
      if ((what_len == 1 && *what == '*') ||
          (what_len == name_len && !memcmp(what, name, name_len)))
        return true;
    }
    scopes += len + strspn(scopes + len, " ");
  }
  return false;
}

/* ---- making ---- */

void mp_token_make(char *token, char *id, char *hash_hex) {
  static const char letters[] =
      "0123456789abcdefghijkmnpqrstuvwxyz"; /* no characters that look alike */
  unsigned char random[32], hash[MP_TOKEN_HASH_LEN];
  for (int i = 0; i < MP_TOKEN_ID_LEN; i++)
    id[i] = letters[randombytes_uniform((uint32_t)(sizeof letters - 1))];
  id[MP_TOKEN_ID_LEN] = '\0';
  randombytes_buf(random, sizeof random);
  memcpy(token, "mp_", 3); /* NOLINT(bugprone-not-null-terminated-result): more follows */
  memcpy(token + 3, id, MP_TOKEN_ID_LEN);
  char *secret = token + 3 + MP_TOKEN_ID_LEN + 1;
  secret[-1] = '_';
  sodium_bin2base64(secret, MP_TOKEN_SECRET_LEN + 1, random, sizeof random,
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  hash_secret(secret, hash);
  sodium_bin2hex(hash_hex, 2 * MP_TOKEN_HASH_LEN + 1, hash, sizeof hash);
  sodium_memzero(random, sizeof random);
}
