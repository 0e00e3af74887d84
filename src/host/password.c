/* password.c: the Lua module "moonpool.password": passwords become argon2id hashes, and are
 * compared with them.
 *
 * One hash takes about a tenth of a second and 64 MiB: the work is done on libuv's thread pool
 * (offload.h). */
#include <errno.h>
#include <lauxlib.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "host/host.h"
#include "script/luaerr.h"
#include "script/offload.h"
#include "txn/txn.h"

/* The second of the two settings that RFC 9106 recommends (64 MiB, 3 passes), with one lane, as
 * libsodium has it; above what OWASP asks for. Raise them here: needs_rehash finds the hashes made
 * before. */
#define PASSES 3
#define MEMORY_KIB 65536
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

enum {
  MAX_RUNNING = 2,   /* 128 MiB at most, and half of libuv's four threads */
  MAX_WAITING = 256, /* about ten seconds of work; further callers get BUSY */
  MAX_PASSWORD = 1024,
};

/* Compared with when there is no hash, so that the answer takes equally long. */
static const char no_hash[] = "$argon2id$v=19$m=" TEXT(MEMORY_KIB) ",t=" TEXT(PASSES)
                              ",p=1$bm9ib2R5IGlzIGhlcmUuLg$"
                              "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

struct password_job {
  struct mp_piece piece;
  bool verify; /* compare with `hash`, rather than make it */
  bool decoy;  /* there is no hash: the comparison only takes its time, the answer is no */
  bool yes, no_memory;
  size_t length;
  char password[MAX_PASSWORD];
  char hash[crypto_pwhash_STRBYTES];
};

static void wipe(void *data) {
  struct password_job *job = data;
  sodium_memzero(job->password, sizeof job->password);
  sodium_memzero(job->hash, sizeof job->hash);
}

/* ---- on the thread pool ---- */

static void work(void *data) {
  struct password_job *job = data;
  errno = 0;
  int rv = job->verify
               ? crypto_pwhash_str_verify(job->hash, job->password, job->length)
               : crypto_pwhash_str_alg(job->hash, job->password, job->length, PASSES,
                                       (size_t)MEMORY_KIB * 1024, crypto_pwhash_ALG_ARGON2ID13);
  job->yes = rv == 0 && !job->decoy;
  /* Hashing can only fail for memory. A comparison without memory must not count as "wrong
   * password". */
  job->no_memory = rv != 0 && (!job->verify || errno == ENOMEM);
  sodium_memzero(job->password, sizeof job->password);
}

/* ---- for scripts ---- */

/* Pushes a new job for the password at `idx`. */
static struct password_job *push_job(lua_State *L, int idx) {
  size_t length;
  const char *password = lua_tolstring(L, idx, &length);
  struct mp_offload *offload = *(struct mp_offload **)lua_touserdata(L, lua_upvalueindex(1));
  struct password_job *job = mp_piece_push(L, offload, sizeof *job, work, wipe);
  job->length = length;
  memcpy(job->password, password, length);
  return job;
}

/* The job of the holder on top, unless it failed. */
static struct password_job *finished(lua_State *L, const char *what) {
  struct password_job *job = mp_piece_finished(L);
  struct mp_err err;
  if (!job->no_memory) return job;
  mp_err_set(&err, MP_ENOMEM, "%s: no %d MiB of memory to work in", what, MEMORY_KIB / 1024);
  mp_luaerr_push(L, &err);
  lua_error(L);
  return NULL;
}

static void check_password(lua_State *L, int idx, const char *what) {
  if (lua_type(L, idx) != LUA_TSTRING)
    mp_luaerr_misuse(L, what, "the password must be a string, not %s", luaL_typename(L, idx));
  if (lua_rawlen(L, idx) > MAX_PASSWORD)
    mp_luaerr_misuse(L, what, "the password must have at most %d bytes", MAX_PASSWORD);
}

/* Statements queued in a transaction are sent first, as before every wait. */
static int after_look(lua_State *L, const char *what, lua_KFunction k) {
  mp_wait_check(L, what);
  struct mp_txn *txn = mp_txn_of(L);
  return txn ? mp_txn_flush(L, txn, what, 0, k) : k(L, LUA_OK, 0);
}

static int hash_over(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_pushstring(L, finished(L, "password.hash")->hash);
  return 1;
}

static int hash_begin(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  push_job(L, 1);
  return mp_piece_submit(L, "password.hash", 0, hash_over);
}

/* hash(password) -> "$argon2id$v=19$m=65536,t=3,p=1$…" */
static int password_hash(lua_State *L) {
  check_password(L, 1, "password.hash");
  lua_settop(L, 1);
  return after_look(L, "password.hash", hash_begin);
}

static int verify_over(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_pushboolean(L, finished(L, "password.verify")->yes);
  return 1;
}

static int verify_begin(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  struct password_job *job = push_job(L, 2);
  size_t length = 0;
  const char *hash = lua_tolstring(L, 1, &length);
  job->verify = true;
  job->decoy = !hash || length >= sizeof job->hash;
  if (job->decoy)
    memcpy(job->hash, no_hash, sizeof no_hash);
  else
    memcpy(job->hash, hash, length);
  return mp_piece_submit(L, "password.verify", 0, verify_over);
}

/* verify(hash | nil, password) -> boolean. Without a hash it takes as long and says no. */
static int password_verify(lua_State *L) {
  if (!lua_isnoneornil(L, 1) && lua_type(L, 1) != LUA_TSTRING)
    mp_luaerr_misuse(L, "password.verify", "the hash must be a string or nil, not %s",
                     luaL_typename(L, 1));
  check_password(L, 2, "password.verify");
  lua_settop(L, 2);
  return after_look(L, "password.verify", verify_begin);
}

/* needs_rehash(hash) -> true if it was made with other settings or by another program */
static int password_needs_rehash(lua_State *L) {
  size_t length;
  if (lua_type(L, 1) != LUA_TSTRING)
    mp_luaerr_misuse(L, "password.needs_rehash", "the hash must be a string, not %s",
                     luaL_typename(L, 1));
  const char *hash = lua_tolstring(L, 1, &length);
  lua_pushboolean(L,
                  length >= crypto_pwhash_STRBYTES ||
                      crypto_pwhash_str_needs_rehash(hash, PASSES, (size_t)MEMORY_KIB * 1024) != 0);
  return 1;
}

int mp_open_password(lua_State *L) {
  static const luaL_Reg functions[] = {{"hash", password_hash},
                                       {"verify", password_verify},
                                       {"needs_rehash", password_needs_rehash},
                                       {NULL, NULL}};
  _Static_assert(sizeof no_hash <= crypto_pwhash_STRBYTES, "the decoy fits where hashes do");
  luaL_newlibtable(L, functions);
  mp_offload_push(L, mp_host_of(L)->sched, MAX_RUNNING, MAX_WAITING, "passwords wait to be hashed");
  luaL_setfuncs(L, functions, 1);
  return 1;
}
