/* log.h: one line per event, to one sink. The sink is the process's only global: it is set once,
 * before a loop runs. Callers never pass secrets: anyone may read the log.
 * An event that repeats (the same place in the code; for scripts the same text) is
 * written MP_LOG_BURST times within a second; the others of that second are counted and told in one
 * line. */
#ifndef MP_LOG_H
#define MP_LOG_H

#include <stdbool.h>

#include "util/attr.h"

#define MP_LOG_BURST 20

enum mp_log_level { MP_LOG_ERROR, MP_LOG_WARN, MP_LOG_INFO, MP_LOG_DEBUG };

/* What a line is about, in addition to its text: separate fields in JSON. NULL and empty fields are
 * left out. */
#define MP_LOG_ABOUT_MAP(X) X(operation) X(call_id) X(request_id) X(trace_id) X(span_id)

struct mp_log_about {
#define X(field) const char *field;
  MP_LOG_ABOUT_MAP(X)
#undef X
  /* for traces only: the caller's span, and whether the caller does not record the trace */
  const char *parent_id;
  bool unsampled;
};

/* `about` may be NULL. */
typedef void (*mp_log_sink)(enum mp_log_level level, const char *topic, const char *text,
                            const struct mp_log_about *about, void *data);

/* NULL: the default sink, which writes to standard error. */
void mp_log_set_sink(mp_log_sink sink, void *data);
void mp_log_set_level(enum mp_log_level level);
/* JSON lines instead of text for people. */
void mp_log_set_json(int json);
/* `topic` is the layer or part that speaks: "pool", "script". From any thread. */
void mp_log(enum mp_log_level level, const char *topic, const char *fmt, ...) MP_PRINTF(3, 4);
void mp_log_on(const struct mp_log_about *about, enum mp_log_level level, const char *topic,
               const char *fmt, ...) MP_PRINTF(4, 5);
/* true: from now on the default sink keeps its lines (the first MiB) until mp_log_held writes or
 * drops them. false: it stops doing so and drops what it kept. */
void mp_log_hold(bool hold);
void mp_log_held(bool tell);
/* Reports the events that are still only counted. Call it at the end. */
void mp_log_flush(void);

#endif
