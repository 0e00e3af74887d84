/* trace.h: where a call stands in a trace that goes through several systems: the header
 * `traceparent` of W3C Trace Context (https://www.w3.org/TR/trace-context/, 3.2). */
#ifndef MP_TRACE_H
#define MP_TRACE_H

#include <stdbool.h>
#include <stddef.h>

struct mp_trace {
  char trace_id[33];  /* lower-case hex, as are the others */
  char parent_id[17]; /* the caller's span; "": the trace begins here */
  char span_id[17];   /* ours */
  unsigned flags;     /* bit 0: the caller records it */
};

/* Reads the header. False, with `trace` untouched: it is malformed; the recommendation says to
 * ignore it then. */
bool mp_trace_parse(struct mp_trace *trace, const char *text, size_t len);
/* Fills in the missing ids: a span id, and a trace id if the caller sent none. `random`: 24 bytes.
 */
void mp_trace_begin(struct mp_trace *trace, const unsigned char random[24]);

#endif
