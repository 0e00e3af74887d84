#include "util/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static struct {
  mp_log_sink sink;
  void *data;
  enum mp_log_level level;
  int json;
} state = {.level = MP_LOG_WARN};

static void json_text(FILE *out, const char *text) {
  for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
    if (*p == '"' || *p == '\\') {
      fputc('\\', out);
      fputc(*p, out);
    } else if (*p < 0x20) {
      fprintf(out, "\\u%04x", *p);
    } else {
      fputc(*p, out);
    }
  }
}

static void default_sink(enum mp_log_level level, const char *topic, const char *text, void *data) {
  (void)data;
  struct timespec now;
  struct tm tm;
  char stamp[32];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
  flockfile(stderr);
  if (state.json) {
    fprintf(stderr, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"topic\":\"%s\",\"message\":\"",
            stamp, now.tv_nsec / 1000000, level_names[level], topic);
    json_text(stderr, text);
    fputs("\"}\n", stderr);
  } else {
    /* A line is a line: control characters of a message must not draw on somebody's terminal. */
    fprintf(stderr, "%s.%03ldZ %-5s %s: ", stamp, now.tv_nsec / 1000000, level_names[level], topic);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
      fputc(*p < 0x20 && *p != '\t' ? (*p == '\n' ? ' ' : '?') : *p, stderr);
    fputc('\n', stderr);
  }
  funlockfile(stderr);
}

void mp_log_set_sink(mp_log_sink sink, void *data) {
  state.sink = sink;
  state.data = data;
}

void mp_log_set_level(enum mp_log_level level) { state.level = level; }
void mp_log_set_json(int json) { state.json = json; }

void mp_log(enum mp_log_level level, const char *topic, const char *fmt, ...) {
  if (level > state.level) return;
  char text[1024];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  (state.sink ? state.sink : default_sink)(level, topic, text, state.data);
}
