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

/* The caller's part of the header. False, with `trace` untouched: it is malformed, which the
 * recommendation says is to be treated as if it were not there. */
bool mp_trace_parse(struct mp_trace *trace, const char *text, size_t len);
/* Gives it the ids that it has not yet: a span, and a trace where none was handed on. 24 random
 * bytes. */
void mp_trace_begin(struct mp_trace *trace, const unsigned char random[24]);

#endif
