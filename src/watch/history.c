#include "watch/history.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "sql/state.h"

struct history_ring {
  struct mp_history_entry at[MP_HISTORY_SIZE];
  uint64_t added;
};

enum { SCRIPTS, HOST, SLOW, FAILED, FAULTS, RINGS };

struct mp_history {
  struct history_ring at[RINGS];
  uint64_t count;
};

int mp_history_new(struct mp_history **out, struct mp_err *err) {
  *out = calloc(1, sizeof **out);
  return *out ? 0 : mp_err_set(err, MP_ENOMEM, "no memory for the history of statements");
}

static void ring_clear(struct history_ring *ring) {
  for (size_t i = 0; i < MP_HISTORY_SIZE; i++)
    if (ring->at[i].text) mp_text_unref(ring->at[i].text);
}

void mp_history_unref(struct mp_history *history) {
  if (!history) return;
  for (int i = 0; i < RINGS; i++) ring_clear(&history->at[i]);
  free(history);
}

static void ring_add(struct history_ring *ring, const struct mp_history_entry *entry) {
  struct mp_history_entry *place = &ring->at[ring->added++ % MP_HISTORY_SIZE];
  mp_text_ref(entry->text);
  if (place->text) mp_text_unref(place->text);
  *place = *entry;
}

void mp_history_add(struct mp_history *history, const struct mp_history_entry *entry, bool slow,
                    const struct mp_err *err) {
  struct mp_history_entry numbered = *entry;
  numbered.number = ++history->count;
  numbered.text = mp_text_brief(entry->text);
  ring_add(&history->at[entry->host ? HOST : SCRIPTS], &numbered);
  if (slow) ring_add(&history->at[SLOW], &numbered);
  if (err) ring_add(&history->at[FAILED], &numbered);
  if (err && mp_err_blame(err) != MP_BLAME_CALLER) ring_add(&history->at[FAULTS], &numbered);
}

/* ---- reading ---- */

/* The n-th newest, or NULL. */
static const struct mp_history_entry *newest(const struct history_ring *ring, uint64_t n) {
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
  mp_timestamp_format(entry->wall_us, stamp);
  SET(lua_pushstring(L, stamp), "timestamp");
  SET(lua_pushboolean(L, !failed), "success");
  SET(lua_pushstring(L, entry->operation), "operation");
  SET(lua_pushstring(L, entry->where), "line");
  if (!failed) SET(lua_pushinteger(L, entry->rows), "rows");
  if (failed) SET(lua_pushfstring(L, "%s: %s", entry->code, entry->message), "error");
  if (entry->sqlstate[0]) SET(lua_pushstring(L, entry->sqlstate), "sqlstate");
  if (entry->host) SET(lua_pushboolean(L, true), "host");
#undef SET
}

/* The newest entry of the rings in `rings`, starting from the positions `next`, which advance;
 * NULL: no more. */
static const struct mp_history_entry *take(const struct mp_history *history, unsigned rings,
                                           uint64_t next[RINGS]) {
  const struct mp_history_entry *found = NULL, *at[RINGS] = {NULL};
  for (int i = 0; i < RINGS; i++) {
    if (rings & 1u << i) at[i] = newest(&history->at[i], next[i]);
    if (at[i] && (!found || at[i]->number > found->number)) found = at[i];
  }
  for (int i = 0; i < RINGS; i++) next[i] += at[i] && at[i]->number == found->number;
  return found;
}

void mp_history_push(lua_State *L, struct mp_history *history, enum mp_history_part part,
                     size_t limit, uint64_t at_least_us) {
  static const unsigned rings[] = {
      [MP_HISTORY_SCRIPTS] = 1u << SCRIPTS,
      [MP_HISTORY_HOST] = 1u << HOST,
      [MP_HISTORY_FAILED] = 1u << FAILED | 1u << FAULTS,
      [MP_HISTORY_ANY] = (1u << RINGS) - 1,
  };
  uint64_t next[RINGS] = {0};
  const struct mp_history_entry *entry;
  lua_Integer n = 0;
  luaL_checkstack(L, 8, NULL);
  lua_newtable(L);
  while ((size_t)n < limit && (entry = take(history, rings[part], next))) {
    if (entry->duration_us < at_least_us) continue;
    push_entry(L, entry);
    lua_rawseti(L, -2, ++n);
  }
}

void mp_history_push_sent(lua_State *L, struct mp_history *history, uint64_t number) {
  const struct mp_history_entry *entry;
  uint64_t next[RINGS] = {0};
  while ((entry = take(history, (1u << RINGS) - 1, next)) && entry->number != number) {}
  if (entry)
    lua_pushstring(L, entry->text->sql);
  else
    lua_pushnil(L);
}
