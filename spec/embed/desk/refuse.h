/* refuse.h: the program's own allocator, in front of glibc's or of the sanitizer's, which refuses
 * memory when it is told to. */
#ifndef DESK_REFUSE_H
#define DESK_REFUSE_H

enum desk_refusal {
  DESK_ONE,      /* one request */
  DESK_ALL_AFTER /* and all that follow */
};

/* From now on: `n` requests are granted, then it refuses. All threads count. */
void desk_refuse(long n, enum desk_refusal refusal);
/* Grants all again. How many requests were refused since desk_refuse. */
long desk_grant(void);

#endif
