/* children.h: the processes that a run of specs starts, wherever they have gone: a mark in the
 * environment, which they inherit, finds also those that are nobody's children any more. */
#ifndef MP_CHILDREN_H
#define MP_CHILDREN_H

/* What is started from now on bears the mark. */
void mp_children_mark(void);

/* Ends who is left, and says whom: SIGTERM, and SIGKILL for who is still there after three seconds.
 * A specs' pipe to one of them would keep this process waiting for ever. */
void mp_children_end(void);

#endif
