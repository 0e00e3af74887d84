/* codes.h: every code that an error can carry, but for those that scripts make up. One table, from
 * which come the HTTP status, whose fault it is, what callers are told, the labels of metrics, what
 * is logged, `moonpool errors`, the README's list and /openapi.json.
 *
 * The rule: what an operation's schema lets through is the script's promise. What then does not fit
 * the tables (NOT NULL, CHECK, a number out of range) is the operator's fault, as a missing GRANT
 * or a full disk is; what no schema can know, because it depends on what is stored (unique,
 * exclusion, foreign keys), is the caller's. */
#ifndef MP_CODES_H
#define MP_CODES_H

#include <stddef.h>

enum mp_blame {
  MP_BLAME_CALLER,   /* 4xx: another request would succeed */
  MP_BLAME_OPERATOR, /* a script, a grant, a disk: somebody has to mend it. An error line, an alert
                      */
  MP_BLAME_TRANSIENT /* the same request may succeed in a moment */
};

enum mp_again { /* may the same request be sent again as it is? */
                MP_AGAIN_NO,
                MP_AGAIN_CALLER, /* yes */
                MP_AGAIN_HOST,   /* yes, and the host has done so already */
};

struct mp_code_info {
  const char *name;      /* "UNIQUE_VIOLATION" */
  const char *sqlstates; /* what it stands for: "23505", also classes: "53 58"; "": nothing of the
                            server's */
  int status;            /* of HTTP */
  enum mp_blame blame;
  enum mp_again again;
  const char *told; /* to callers over HTTP, in the place of the message; NULL: the message is made
                       for them */
  const char *cause, *remedy; /* for operators */
};

/* NULL: none of ours. */
const struct mp_code_info *mp_code_find(const char *name);
/* Of the SQLSTATE itself, else of its class; NULL: none. */
const struct mp_code_info *mp_code_of_sqlstate(const char *sqlstate);
/* The n-th, from 0 on; NULL behind the last. */
const struct mp_code_info *mp_code_at(size_t n);

/* Whose fault an error of that code and status is; the code may be a script's own. */
enum mp_blame mp_blame_of(const char *name, int status);
const char *mp_blame_name(enum mp_blame blame); /* "operator" */
const char *mp_again_name(enum mp_again again); /* "no", "yes", "host" */

#endif
