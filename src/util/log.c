#include "util/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/hash.h"
#include "util/utf8.h"

#define TEXT_MAX 1024
#define ABOUT_MAX 160 /* of one of the ids */
#define HELD_MAX (1 << 20)
#define EVENTS 64 /* events counted at a time; a new event takes over the slot of an old one */

static const char *const level_names[] = {"error", "warn", "info", "debug"};

struct event {
  uint64_t key;
  long second;
  unsigned seen, held;
  enum mp_log_level level;
  char topic[24], text[200]; /* of the last line that was held back */
};

static struct {
  mp_log_sink sink;
  void *data;
  enum mp_log_level level;
  int json;
  pthread_mutex_t lock; /* of what follows */
  struct event events[EVENTS];
  unsigned swept;
  FILE *held; /* lines that wait for mp_log_held, in memory; NULL: they are written at once */
  char *held_text;
  size_t held_len;
} state = {.level = MP_LOG_WARN, .lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- writing ---- */

/* A control character must not act on a terminal, and an invalid byte must not break a line of
 * JSON. */
static char *add_char(char *out, const char **at, int json) {
  unsigned char c = (unsigned char)**at;
  size_t n = mp_utf8_len(*at);
  bool control =
      (n == 1 && (c < ' ' || c == 0x7F)) || (n == 2 && c == 0xC2 && (unsigned char)(*at)[1] < 0xA0);
  if (n == 0 || control) {
    *out++ = c == '\n' || c == '\t' ? ' ' : '?';
    *at += n ? n : 1;
    return out;
  }
  if (json && (c == '"' || c == '\\')) *out++ = '\\';
  memcpy(out, *at, n);
  *at += n;
  return out + n;
}

static char *add_text(char *out, const char *text, size_t most, int json) {
  for (const char *end = out + most; *text && out < end;) out = add_char(out, &text, json);
  return out;
}

/* JSON: ,"operation":"…","call_id":"…"; text:  (create_order, call 0190…, request 7f…). */
static char *add_about(char *out, const struct mp_log_about *about) {
  static const char *const names[] = {
#define X(field) #field,
      MP_LOG_ABOUT_MAP(X)
#undef X
  };
  static const char *const words[] = {"", "call ", "request ", "trace ", "span "};
  const char *const values[] = {
#define X(field) about->field,
      MP_LOG_ABOUT_MAP(X)
#undef X
  };
  const char *before = " (";
  for (size_t i = 0; i < MP_ARRAY_LEN(values); i++) {
    if (!values[i] || !*values[i]) continue;
    if (state.json) {
      out += sprintf(out, ",\"%s\":\"", names[i]);
      out = add_text(out, values[i], ABOUT_MAX, 1);
      *out++ = '"';
    } else {
      out = stpcpy(stpcpy(out, before), words[i]);
      out = add_text(out, values[i], ABOUT_MAX, 0);
      before = ", ";
    }
  }
  return state.json || *before == ' ' ? out : stpcpy(out, ")");
}

static void default_sink(enum mp_log_level level, const char *topic, const char *text,
                         const struct mp_log_about *about, void *data) {
  (void)data;
  struct timespec now;
  struct tm tm;
  char stamp[32], line[2 * TEXT_MAX + 200 + 5 * (ABOUT_MAX + 40)];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
  int head = snprintf(
      line, 200,
      state.json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"topic\":\"%s\",\"message\":\""
                 : "%s.%03ldZ %-5s %s: ",
      stamp, now.tv_nsec / 1000000, level_names[level], topic);
  char *out = line + head;
  out = add_text(out, text, 2 * TEXT_MAX, state.json);
  if (state.json) *out++ = '"';
  if (about) out = add_about(out, about);
  out = stpcpy(out, state.json ? "}\n" : "\n");
  pthread_mutex_lock(&state.lock); /* lines of two threads do not mix */
  FILE *to = state.held ? state.held : stderr;
  if (to == stderr || ftello(to) < HELD_MAX) fwrite(line, 1, (size_t)(out - line), to);
  pthread_mutex_unlock(&state.lock);
}

static void write_line(enum mp_log_level level, const char *topic, const char *text,
                       const struct mp_log_about *about) {
  (state.sink ? state.sink : default_sink)(level, topic, text, about, state.data);
}

/* ---- what comes too often ---- */

static uint64_t key_of(const char *topic, const char *fmt, const char *text) {
  uint64_t key = mp_hash(MP_HASH_START, topic, strlen(topic));
  if (!strcmp(fmt, "%s")) fmt = text; /* a script's message: its text identifies the event */
  return mp_hash(key, fmt, strlen(fmt));
}

/* Decided under the lock, written after it: a sink may log itself. */
struct summary {
  unsigned held;
  enum mp_log_level level;
  char topic[24], text[300];
};

static struct summary take_held(struct event *event) {
  struct summary summary = {.held = event->held, .level = event->level};
  if (!event->held) return summary;
  memcpy(summary.topic, event->topic, sizeof summary.topic);
  snprintf(summary.text, sizeof summary.text, "%u more like this within a second: %s", event->held,
           event->text);
  event->held = 0;
  return summary;
}

static void tell(const struct summary *summary) {
  if (summary->held) write_line(summary->level, summary->topic, summary->text, NULL);
}

static long seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (long)now.tv_sec;
}

/* May the line be written? Also gives the suppressed event that is due to be reported now. */
static bool admit(uint64_t key, enum mp_log_level level, const char *topic, const char *text,
                  struct summary due[2]) {
  long second = seconds_now();
  bool written = true;
  pthread_mutex_lock(&state.lock);
  struct event *event = &state.events[key % EVENTS];
  struct event *other = &state.events[state.swept++ % EVENTS];
  if (event->key != key || event->second != second) {
    due[0] = take_held(event);
    event->key = key;
    event->second = second;
    event->seen = 0;
  }
  if (++event->seen > MP_LOG_BURST) {
    written = false;
    event->held++;
    event->level = level;
    snprintf(event->topic, sizeof event->topic, "%.23s", topic);
    snprintf(event->text, sizeof event->text, "%.199s", text);
  }
  if (other->second != second) due[1] = take_held(other);
  pthread_mutex_unlock(&state.lock);
  return written;
}

/* ---- the interface ---- */

void mp_log_set_sink(mp_log_sink sink, void *data) {
  state.sink = sink;
  state.data = data;
}

void mp_log_held(bool tell) {
  pthread_mutex_lock(&state.lock);
  if (state.held) {
    fflush(state.held);
    if (tell) fwrite(state.held_text, 1, state.held_len, stderr);
    fseeko(state.held, 0, SEEK_SET);
  }
  pthread_mutex_unlock(&state.lock);
}

void mp_log_hold(bool hold) {
  pthread_mutex_lock(&state.lock);
  if (hold && !state.held) {
    state.held = open_memstream(&state.held_text, &state.held_len);
  } else if (!hold && state.held) {
    fclose(state.held);
    free(state.held_text);
    state.held = NULL;
  }
  pthread_mutex_unlock(&state.lock);
}

void mp_log_set_level(enum mp_log_level level) { state.level = level; }
void mp_log_set_json(int json) { state.json = json; }

MP_PRINTF(4, 0)
static void say(const struct mp_log_about *about, enum mp_log_level level, const char *topic,
                const char *fmt, va_list args) {
  if (level > state.level) return;
  char text[TEXT_MAX];
  struct summary due[2] = {{0}, {0}};
  vsnprintf(text, sizeof text, fmt, args);
  bool written = admit(key_of(topic, fmt, text), level, topic, text, due);
  tell(&due[0]);
  tell(&due[1]);
  if (written) write_line(level, topic, text, about);
}

void mp_log(enum mp_log_level level, const char *topic, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  say(NULL, level, topic, fmt, args);
  va_end(args);
}

void mp_log_on(const struct mp_log_about *about, enum mp_log_level level, const char *topic,
               const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  say(about, level, topic, fmt, args);
  va_end(args);
}

void mp_log_flush(void) {
  for (size_t i = 0; i < EVENTS; i++) {
    pthread_mutex_lock(&state.lock);
    struct summary due = take_held(&state.events[i]);
    pthread_mutex_unlock(&state.lock);
    tell(&due);
  }
}
