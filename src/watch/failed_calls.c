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

void mp_failed_calls_push(lua_State *L, const struct mp_failed_calls *calls) {
  luaL_checkstack(L, 4, NULL);
  lua_createtable(L, (int)calls->n, 0);
  for (size_t i = 0; i < calls->n; i++) {
    const struct kind *kind = &calls->at[i];
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
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}
