#include "watch/failed_calls.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "sql/state.h"
#include "util/buf.h"

struct kind {
  char operation[64], code[64], call_id[37];
  enum mp_blame blame;
  uint64_t count, wall_us;
};

struct mp_failed_calls {
  struct kind at[MP_FAILED_KINDS + 1]; /* the latest first; the last entry counts all others */
  size_t n;
};

struct mp_failed_calls *mp_failed_calls_new(void) {
  return calloc(1, sizeof(struct mp_failed_calls));
}

void mp_failed_calls_unref(struct mp_failed_calls *calls) { free(calls); }

static struct kind *find(struct mp_failed_calls *calls, const struct mp_failed_call *call) {
  for (size_t i = 0; i < calls->n; i++) {
    struct kind *kind = &calls->at[i];
    if (kind->blame == call->blame && !strcmp(kind->code, call->code) &&
        !strcmp(kind->operation, call->operation))
      return kind;
  }
  return NULL;
}

static struct kind *make(struct mp_failed_calls *calls, const struct mp_failed_call *call) {
  if (calls->n > MP_FAILED_KINDS) return NULL;
  struct kind *kind = &calls->at[calls->n++];
  mp_copy_text(kind->operation, sizeof kind->operation, call->operation);
  mp_copy_text(kind->code, sizeof kind->code, call->code);
  kind->blame = call->blame;
  return kind;
}

bool mp_failed_calls_add(struct mp_failed_calls *calls, const struct mp_failed_call *call) {
  struct kind *kind = find(calls, call);
  bool own = kind || calls->n < MP_FAILED_KINDS;
  struct mp_failed_call other = {.operation = "other", .code = "OTHER", .blame = MP_BLAME_OPERATOR};
  if (!kind) kind = own ? make(calls, call) : find(calls, &other);
  if (!kind) kind = make(calls, &other);
  if (!kind) return false;
  kind->count++;
  kind->wall_us = call->wall_us;
  mp_copy_text(kind->call_id, sizeof kind->call_id, call->call_id ? call->call_id : "");
  struct kind latest = *kind;
  memmove(&calls->at[1], &calls->at[0], (size_t)(kind - calls->at) * sizeof *kind);
  calls->at[0] = latest;
  return own;
}

struct mp_failed_calls *mp_failed_calls_copy(const struct mp_failed_calls *calls) {
  struct mp_failed_calls *copy = mp_failed_calls_new();
  if (copy) *copy = *calls;
  return copy;
}

/* ---- for Lua ---- */

static bool same(const struct kind *a, const struct kind *b) {
  return a->blame == b->blame && !strcmp(a->code, b->code) && !strcmp(a->operation, b->operation);
}

/* Adds the kinds of another worker to `sum`, which has room for them. */
static size_t add_all(struct kind *sum, size_t n, const struct mp_failed_calls *more) {
  for (size_t i = 0; i < more->n; i++) {
    const struct kind *one = &more->at[i];
    size_t at = 0;
    while (at < n && !same(&sum[at], one)) at++;
    struct kind before = at < n ? sum[at] : (struct kind){.count = 0};
    sum[at] = one->wall_us >= before.wall_us ? *one : before;
    sum[at].count = one->count + before.count;
    if (at == n) n++;
  }
  return n;
}

static int latest_first(const void *a, const void *b) {
  uint64_t x = ((const struct kind *)a)->wall_us, y = ((const struct kind *)b)->wall_us;
  return (x < y) - (x > y);
}

static void push_kind(lua_State *L, const struct kind *kind) {
  char stamp[32];
  lua_createtable(L, 0, 6);
#define SET(push, name) (push, lua_setfield(L, -2, name))
  SET(lua_pushstring(L, kind->operation), "operation");
  SET(lua_pushstring(L, kind->code), "code");
  SET(lua_pushstring(L, mp_blame_name(kind->blame)), "fault");
  SET(lua_pushinteger(L, (lua_Integer)kind->count), "count");
  mp_timestamp_format(kind->wall_us, stamp);
  SET(lua_pushstring(L, stamp), "last");
  if (kind->call_id[0]) SET(lua_pushstring(L, kind->call_id), "call_id");
#undef SET
}

void mp_failed_calls_push(lua_State *L, const struct mp_failed_calls *const *all, size_t n) {
  size_t room = 0, kinds = 0;
  luaL_checkstack(L, 5, NULL);
  for (size_t i = 0; i < n; i++) room += all[i]->n;
  struct kind *sum = lua_newuserdatauv(L, (room + 1) * sizeof *sum, 0);
  for (size_t i = 0; i < n; i++) kinds = add_all(sum, kinds, all[i]);
  if (n > 1) qsort(sum, kinds, sizeof *sum, latest_first);
  lua_createtable(L, (int)kinds, 0);
  for (size_t i = 0; i < kinds; i++) {
    push_kind(L, &sum[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_remove(L, -2);
}
