#include "bind/history.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"

struct ring {
  struct mp_history_entry at[MP_HISTORY_SIZE];
  uint64_t added;
};

struct mp_history {
  struct ring all, notable;
  uint64_t count;
};

int mp_history_new(struct mp_history **out, struct mp_err *err) {
  *out = calloc(1, sizeof **out);
  return *out ? 0 : mp_err_set(err, MP_ENOMEM, "no memory for the history of statements");
}

static void ring_clear(struct ring *ring) {
  for (size_t i = 0; i < MP_HISTORY_SIZE; i++)
    if (ring->at[i].text) mp_text_unref(ring->at[i].text);
}

void mp_history_unref(struct mp_history *history) {
  if (!history) return;
  ring_clear(&history->all);
  ring_clear(&history->notable);
  free(history);
}

static void ring_add(struct ring *ring, const struct mp_history_entry *entry) {
  struct mp_history_entry *place = &ring->at[ring->added++ % MP_HISTORY_SIZE];
  mp_text_ref(entry->text);
  if (place->text) mp_text_unref(place->text);
  *place = *entry;
}

void mp_history_add(struct mp_history *history, const struct mp_history_entry *entry,
                    bool notable) {
  struct mp_history_entry numbered = *entry;
  numbered.number = ++history->count;
  ring_add(&history->all, &numbered);
  if (notable) ring_add(&history->notable, &numbered);
}

/* ---- reading ---- */

/* The n-th newest, or NULL. */
static const struct mp_history_entry *newest(const struct ring *ring, uint64_t n) {
  if (n >= MP_HISTORY_SIZE || n >= ring->added) return NULL;
  return &ring->at[(ring->added - 1 - n) % MP_HISTORY_SIZE];
}

static void push_entry(lua_State *L, const struct mp_history_entry *entry) {
  char stamp[32];
  const char *query = mp_text_shown(entry->text);
  bool failed = entry->code[0] != '\0';
  lua_createtable(L, 0, 10);
#define SET(push, name) (push, lua_setfield(L, -2, name))
  SET(lua_pushinteger(L, (lua_Integer)entry->number), "number");
  SET(lua_pushstring(L, query ? query : "(no memory to show it)"), "query");
  SET(lua_pushnumber(L, (double)entry->duration_us / 1000), "duration");
  mp_bind_timestamp(entry->wall_us, stamp);
  SET(lua_pushstring(L, stamp), "timestamp");
  SET(lua_pushboolean(L, !failed), "success");
  SET(lua_pushstring(L, entry->operation), "operation");
  SET(lua_pushstring(L, entry->where), "line");
  if (!failed) SET(lua_pushinteger(L, entry->rows), "rows");
  if (failed) SET(lua_pushfstring(L, "%s: %s", entry->code, entry->message), "error");
  if (entry->sqlstate[0]) SET(lua_pushstring(L, entry->sqlstate), "sqlstate");
#undef SET
}

/* Both rings, newest first and each statement once: they are both in the order of their numbers. */
void mp_history_push(lua_State *L, struct mp_history *history, size_t limit, uint64_t at_least_us) {
  uint64_t i = 0, j = 0;
  lua_Integer n = 0;
  luaL_checkstack(L, 8, NULL);
  lua_newtable(L);
  while ((size_t)n < limit) {
    const struct mp_history_entry *a = newest(&history->all, i), *b = newest(&history->notable, j);
    if (!a && (!b || !at_least_us)) break;
    if (a && b && a->number == b->number) j++;
    bool first = a && (!b || a->number >= b->number);
    const struct mp_history_entry *entry = first ? a : b;
    if (first)
      i++;
    else
      j++;
    if (entry->duration_us < at_least_us) continue;
    push_entry(L, entry);
    lua_rawseti(L, -2, ++n);
  }
}
