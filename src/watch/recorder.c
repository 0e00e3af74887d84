#include "watch/recorder.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop/ids.h"
#include "sql/state.h"
#include "util/buf.h"
#include "util/log.h"
#include "util/utf8.h"

struct kept_note {
  uint32_t at_us; /* since the flight began */
  uint32_t n;
  enum mp_note_kind kind;
  struct mp_text *sql; /* a reference, or NULL */
  char text[128];
};

struct mp_flight {
  struct mp_list node; /* of those under way */
  struct mp_recorder *recorder;
  int refs;    /* one while under way, one for each ring, one for each part that works for it */
  bool listed; /* in that ring */
  uint64_t number, began_ns, began_us;
  struct mp_label *label;
  const char *id, *operation; /* the label's */
  char caller[64], lane[80];
  /* while it is under way */
  unsigned backend,
      blocked_by;   /* backend whose answer it waits for (0: none); backend that blocks that one, */
  bool blocked;     /* if for anybody */
  uint64_t sent_ns; /* 0: it waits for no answer */
  char where[100];  /* of its last statement */
  /* once it has ended */
  bool ended;
  uint64_t duration_us;
  const char *outcome;
  char error[260];
  unsigned attempts, round_trips, group;
  struct kept_note *notes;
  unsigned count, cap, omitted;
};

struct ring {
  struct mp_flight *at[MP_FLIGHTS];
  uint64_t added;
};

struct mp_recorder {
  struct mp_loop *loop;
  uint64_t slow_ms, count;
  struct mp_list active;
  struct ring recent, notable, listed;
};

static const char *const kinds[] = {
#define X(name, text) text,
    MP_NOTE_MAP(X)
#undef X
};

/* ---- life ---- */

struct mp_flight *mp_flight_ref(struct mp_flight *flight) {
  if (flight) flight->refs++;
  return flight;
}

void mp_flight_unref(struct mp_flight *flight) {
  if (!flight || --flight->refs) return;
  for (unsigned i = 0; i < flight->count; i++)
    if (flight->notes[i].sql) mp_text_unref(flight->notes[i].sql);
  free(flight->notes);
  mp_label_unref(flight->label);
  free(flight);
}

int mp_recorder_new(struct mp_recorder **out, struct mp_loop *loop, uint64_t slow_ms,
                    struct mp_err *err) {
  struct mp_recorder *recorder = calloc(1, sizeof *recorder);
  if (!recorder) return mp_err_set(err, MP_ENOMEM, "no memory for the recorder of calls");
  recorder->loop = loop;
  recorder->slow_ms = slow_ms;
  mp_list_init(&recorder->active);
  *out = recorder;
  return 0;
}

void mp_recorder_unref(struct mp_recorder *recorder) {
  if (!recorder) return;
  for (size_t i = 0; i < MP_FLIGHTS; i++) {
    mp_flight_unref(recorder->recent.at[i]);
    mp_flight_unref(recorder->notable.at[i]);
    mp_flight_unref(recorder->listed.at[i]);
  }
  free(recorder);
}

struct mp_flight *mp_flight_begin(struct mp_recorder *recorder, struct mp_label *label,
                                  const char *caller, const char *lane) {
  const struct mp_log_about *about = mp_label_about(label);
  struct mp_flight *flight = label ? malloc(sizeof *flight) : NULL;
  if (!flight) return NULL;
  *flight = (struct mp_flight){.recorder = recorder,
                               .refs = 1,
                               .label = mp_label_ref(label),
                               .id = about->call_id,
                               .operation = about->operation,
                               .number = ++recorder->count,
                               .began_ns = mp_loop_clock_ns(recorder->loop),
                               .began_us = mp_loop_wall_us(recorder->loop)};
  mp_copy_text(flight->caller, sizeof flight->caller, caller ? caller : "");
  mp_copy_text(flight->lane, sizeof flight->lane, lane ? lane : "");
  mp_utf8_mend(flight->caller);
  mp_utf8_mend(flight->lane);
  mp_list_push_front(&recorder->active, &flight->node);
  return flight;
}

struct mp_label *mp_flight_label(const struct mp_flight *flight) {
  return flight ? flight->label : NULL;
}

static uint64_t age_us(const struct mp_flight *flight) {
  return (mp_loop_clock_ns(flight->recorder->loop) - flight->began_ns) / 1000;
}

/* Room for the next note, or NULL if the flight is full. */
static struct kept_note *add(struct mp_flight *flight, enum mp_note_kind kind) {
  if (flight->count == flight->cap) {
    unsigned cap = flight->cap ? flight->cap * 2 : 16;
    if (cap > MP_FLIGHT_NOTES) cap = MP_FLIGHT_NOTES;
    struct kept_note *notes =
        cap > flight->cap ? realloc(flight->notes, cap * sizeof *notes) : NULL;
    if (!notes) {
      flight->omitted++;
      return NULL;
    }
    flight->notes = notes;
    flight->cap = cap;
  }
  struct kept_note *note = &flight->notes[flight->count++];
  uint64_t at_us = age_us(flight);
  note->at_us = at_us < UINT32_MAX ? (uint32_t)at_us : UINT32_MAX;
  note->kind = kind;
  note->n = 0;
  note->sql = NULL;
  note->text[0] = '\0';
  return note;
}

void mp_flight_note(struct mp_flight *flight, enum mp_note_kind kind, unsigned n,
                    const char *text) {
  if (!flight || flight->ended) return;
  if (kind == MP_NOTE_CONNECTED) flight->backend = n;
  if (kind == MP_NOTE_WAITS || kind == MP_NOTE_BACKOFF) flight->backend = 0;
  if (kind == MP_NOTE_SENT) flight->sent_ns = mp_loop_clock_ns(flight->recorder->loop);
  if (kind == MP_NOTE_ANSWERED) {
    flight->sent_ns = 0;
    flight->blocked = false;
  }
  struct kept_note *note = add(flight, kind);
  if (!note) return;
  note->n = n;
  if (!text) return;
  mp_copy_text(note->text, sizeof note->text, text);
  mp_utf8_mend(note->text);
}

void mp_flight_statement(struct mp_flight *flight, const struct mp_stmt *stmt, unsigned inserts) {
  if (!flight || flight->ended) return;
  memcpy(flight->where, stmt->where, sizeof stmt->where);
  struct kept_note *note = add(flight, MP_NOTE_STATEMENT);
  if (!note) return;
  note->sql = mp_text_brief(stmt->text);
  mp_text_ref(note->sql);
  memcpy(note->text, stmt->where, sizeof stmt->where);
  note->n = inserts > 1 ? inserts : 0;
}

static void keep(struct ring *ring, struct mp_flight *flight) {
  struct mp_flight **place = &ring->at[ring->added++ % MP_FLIGHTS];
  mp_flight_unref(*place);
  *place = flight;
  flight->refs++;
}

void mp_flight_end(struct mp_flight *flight, const struct mp_flight_end *end) {
  if (!flight) return;
  struct mp_recorder *recorder = flight->recorder;
  flight->ended = true;
  flight->duration_us = age_us(flight);
  flight->outcome = end->outcome;
  flight->attempts = end->attempts;
  flight->round_trips = end->round_trips;
  flight->group = end->group;
  if (end->err && end->err->code)
    snprintf(flight->error, sizeof flight->error, "%s: %.200s", mp_err_name(end->err),
             mp_err_shown(end->err));
  mp_utf8_mend(flight->error);
  mp_list_remove(&flight->node);
  keep(&recorder->recent, flight);
  bool good = !strcmp(end->outcome, "committed") || !strcmp(end->outcome, "recalled");
  if (!good || flight->attempts > 1 ||
      (recorder->slow_ms && flight->duration_us > recorder->slow_ms * 1000))
    keep(&recorder->notable, flight);
  mp_flight_unref(flight);
}

/* ---- which call waits for which ---- */

void mp_flight_say(const struct mp_flight *flight, char *out, size_t size) {
  if (!flight)
    mp_copy_text(out, size, "another call");
  else
    snprintf(out, size, "%.40s%s%.40s, call %s", flight->operation, flight->where[0] ? " at " : "",
             flight->where, flight->id);
}

/* The call that has used the backend for the longest time: others may have been sent behind its
 * COMMIT. */
static const struct mp_flight *user_of(const struct mp_recorder *recorder, unsigned backend) {
  const struct mp_flight *found = NULL;
  if (!backend) return NULL; /* a prepared transaction has none */
  MP_LIST_EACH(node, &recorder->active) {
    const struct mp_flight *flight = MP_LIST_ENTRY(node, struct mp_flight, node);
    if (flight->backend == backend) found = flight;
  }
  return found;
}

bool mp_recorder_user(const struct mp_recorder *recorder, unsigned backend, char *out,
                      size_t size) {
  const struct mp_flight *user = user_of(recorder, backend);
  if (user) mp_flight_say(user, out, size);
  return user != NULL;
}

void mp_recorder_push_waiting(lua_State *L, struct mp_recorder *recorder, uint64_t ms) {
  uint64_t now_ns = mp_loop_clock_ns(recorder->loop);
  lua_Integer n = 0;
  luaL_checkstack(L, 2, NULL);
  lua_newtable(L);
  MP_LIST_EACH(node, &recorder->active) {
    const struct mp_flight *flight = MP_LIST_ENTRY(node, struct mp_flight, node);
    if (!flight->backend || !flight->sent_ns || now_ns - flight->sent_ns < ms * 1000000) continue;
    lua_pushinteger(L, flight->backend);
    lua_rawseti(L, -2, ++n);
  }
}

void mp_recorder_blocked(struct mp_recorder *recorder, unsigned backend, unsigned holder,
                         const char *who) {
  MP_LIST_EACH(node, &recorder->active) {
    struct mp_flight *flight = MP_LIST_ENTRY(node, struct mp_flight, node);
    if (flight->backend != backend || !flight->sent_ns) continue;
    if (flight->blocked && flight->blocked_by == holder) continue;
    flight->blocked = true;
    flight->blocked_by = holder;
    mp_flight_note(flight, MP_NOTE_BLOCKED, holder, who);
    char backend_of[32] = ""; /* a prepared transaction has none */
    if (holder) snprintf(backend_of, sizeof backend_of, " (backend %u)", holder);
    mp_log_on(mp_label_about(flight->label), MP_LOG_WARN, "lock",
              "%s waits for a lock, held by: %s%s",
              flight->where[0] ? flight->where : flight->operation, who, backend_of);
  }
}

/* ---- reading ---- */

#define SET(push, name) (push, lua_setfield(L, -2, name))

static void push_flight(lua_State *L, const struct mp_flight *flight) {
  char stamp[32];
  lua_createtable(L, 0, 12);
  mp_timestamp_format(flight->began_us, stamp);
  SET(lua_pushstring(L, flight->id), "id");
  SET(lua_pushstring(L, flight->operation), "operation");
  SET(lua_pushstring(L, stamp), "began");
  const struct mp_log_about *about = mp_label_about(flight->label);
  if (about->request_id) SET(lua_pushstring(L, about->request_id), "request_id");
  if (about->trace_id) SET(lua_pushstring(L, about->trace_id), "trace_id");
  if (flight->caller[0]) SET(lua_pushstring(L, flight->caller), "caller");
  if (flight->lane[0]) SET(lua_pushstring(L, flight->lane), "lane");
  SET(lua_pushstring(L, flight->ended ? flight->outcome : "running"), "outcome");
  SET(lua_pushnumber(L, (double)(flight->ended ? flight->duration_us : age_us(flight)) / 1000),
      "duration");
  if (!flight->ended) return;
  SET(lua_pushinteger(L, flight->attempts), "attempts");
  SET(lua_pushinteger(L, flight->round_trips), "round_trips");
  if (flight->group > 1) SET(lua_pushinteger(L, flight->group), "group");
  if (flight->error[0]) SET(lua_pushstring(L, flight->error), "error");
}

static void push_note(lua_State *L, const struct kept_note *note) {
  lua_createtable(L, 0, 5);
  SET(lua_pushnumber(L, (double)note->at_us / 1000), "at");
  SET(lua_pushstring(L, kinds[note->kind]), "kind");
  if (note->n) SET(lua_pushinteger(L, note->n), "n");
  if (note->text[0]) SET(lua_pushstring(L, note->text), "text");
  if (note->sql) SET(lua_pushstring(L, mp_text_shown(note->sql)), "query");
}

static struct mp_flight *newest(const struct ring *ring, uint64_t n) {
  if (n >= MP_FLIGHTS || n >= ring->added) return NULL;
  return ring->at[(ring->added - 1 - n) % MP_FLIGHTS];
}

/* Calls that a list has shown are kept longer: under load a call would be gone before a person can
 * ask for its details. */
static void push_listed(lua_State *L, struct mp_recorder *recorder, struct mp_flight *flight) {
  struct mp_flight *oldest = newest(&recorder->listed, MP_FLIGHTS - 1);
  push_flight(L, flight);
  if (flight->listed) return;
  if (oldest) oldest->listed = false;
  flight->listed = true;
  keep(&recorder->listed, flight);
}

void mp_recorder_push(lua_State *L, struct mp_recorder *recorder, size_t limit, bool notable) {
  const struct ring *ring = notable ? &recorder->notable : &recorder->recent;
  lua_Integer n = 0;
  luaL_checkstack(L, 8, NULL);
  lua_newtable(L);
  if (!notable) {
    MP_LIST_EACH(node, &recorder->active) {
      if ((size_t)n >= limit) return;
      push_listed(L, recorder, MP_LIST_ENTRY(node, struct mp_flight, node));
      lua_rawseti(L, -2, ++n);
    }
  }
  struct mp_flight *flight;
  for (uint64_t i = 0; (size_t)n < limit && (flight = newest(ring, i)); i++) {
    push_listed(L, recorder, flight);
    lua_rawseti(L, -2, ++n);
  }
}

static const struct mp_flight *find_in(const struct ring *ring, const char *id) {
  const struct mp_flight *flight;
  for (uint64_t i = 0; (flight = newest(ring, i)); i++)
    if (!strcmp(flight->id, id)) return flight;
  return NULL;
}

static const struct mp_flight *find(const struct mp_recorder *recorder, const char *id) {
  MP_LIST_EACH(node, &recorder->active) {
    const struct mp_flight *flight = MP_LIST_ENTRY(node, struct mp_flight, node);
    if (!strcmp(flight->id, id)) return flight;
  }
  const struct mp_flight *found = find_in(&recorder->recent, id);
  if (!found) found = find_in(&recorder->notable, id);
  return found ? found : find_in(&recorder->listed, id);
}

/* With its notes. */
static void push_whole(lua_State *L, const struct mp_flight *flight) {
  push_flight(L, flight);
  if (flight->omitted) SET(lua_pushinteger(L, flight->omitted), "omitted");
  lua_createtable(L, (int)flight->count, 0);
  for (unsigned i = 0; i < flight->count; i++) {
    push_note(L, &flight->notes[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "notes");
}

void mp_recorder_push_one(lua_State *L, struct mp_recorder *recorder, const char *id) {
  const struct mp_flight *flight = find(recorder, id);
  luaL_checkstack(L, 8, NULL);
  if (flight)
    push_whole(L, flight);
  else
    lua_pushnil(L);
}

uint64_t mp_recorder_ended(const struct mp_recorder *recorder) { return recorder->recent.added; }

uint64_t mp_recorder_push_ended(lua_State *L, struct mp_recorder *recorder, uint64_t *from,
                                size_t limit) {
  const struct ring *ring = &recorder->recent;
  uint64_t oldest = ring->added > MP_FLIGHTS ? ring->added - MP_FLIGHTS : 0, missed = 0;
  if (*from < oldest) {
    missed = oldest - *from;
    *from = oldest;
  }
  luaL_checkstack(L, 8, NULL);
  lua_newtable(L);
  for (size_t n = 1; n <= limit && *from < ring->added; n++) {
    const struct mp_flight *flight = ring->at[(*from)++ % MP_FLIGHTS];
    const struct mp_log_about *about = mp_label_about(flight->label);
    push_whole(L, flight);
    SET(lua_pushinteger(L, (lua_Integer)flight->began_us), "began_us");
    if (about->span_id) SET(lua_pushstring(L, about->span_id), "span_id");
    if (about->parent_id) SET(lua_pushstring(L, about->parent_id), "parent_id");
    if (about->unsampled) SET(lua_pushboolean(L, true), "unsampled");
    lua_rawseti(L, -2, (lua_Integer)n);
  }
  return missed;
}
