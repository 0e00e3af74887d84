/* codes.h: every error code except those that scripts define. One table gives the HTTP status,
 * whose fault the error is, what callers are told, the labels of metrics, what is logged, `moonpool
 * errors`, the list in the documentation and /openapi.json.
 *
 * The rule: a script promises that input which its schema accepts fits the tables. If it does not
 * fit (NOT NULL, CHECK, a number out of range), that is the operator's fault, like a missing GRANT
 * or a full disk. What depends on stored rows (unique, exclusion and foreign keys) no schema can
 * check: that is the caller's fault. */
#ifndef MP_CODES_H
#define MP_CODES_H

#include <stddef.h>

enum mp_blame {
  MP_BLAME_CALLER,   /* 4xx: another request would succeed */
  MP_BLAME_OPERATOR, /* a script, a grant or a disk: the operator must act. Logged as an error,
                        raises an alert */
  MP_BLAME_TRANSIENT /* the same request may succeed in a moment */
};

enum mp_again { /* may the same request be sent again as it is? */
                MP_AGAIN_NO,
                MP_AGAIN_CALLER, /* yes */
                MP_AGAIN_HOST,   /* yes, and the host has done so already */
};

struct mp_code_info {
  const char *name; /* "UNIQUE_VIOLATION" */
  const char
      *sqlstates; /* the SQLSTATEs that it stands for: "23505"; also classes: "53 58"; "": none */
  int status;     /* of HTTP */
  enum mp_blame blame;
  enum mp_again again;
  const char *told; /* what HTTP callers see instead of the message; NULL: the message itself */
  const char *cause, *remedy; /* for operators */
};

/* NULL: the name is not in the table. */
const struct mp_code_info *mp_code_find(const char *name);
/* The entry of the SQLSTATE, else of its class; NULL: none. */
const struct mp_code_info *mp_code_of_sqlstate(const char *sqlstate);
/* The n-th, from 0 on; NULL behind the last. */
const struct mp_code_info *mp_code_at(size_t n);

/* Whose fault an error of that code and status is; the code may be a script's own. */
enum mp_blame mp_blame_of(const char *name, int status);
const char *mp_blame_name(enum mp_blame blame); /* "operator" */
const char *mp_again_name(enum mp_again again); /* "no", "yes", "host" */

#endif
