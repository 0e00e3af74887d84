/* children.h: finds and ends the processes that a run of specs has started. They inherit a mark in
 * the environment, which also finds those whose parent has ended. */
#ifndef MP_CHILDREN_H
#define MP_CHILDREN_H

/* Processes started from now on carry the mark. */
void mp_children_mark(void);

/* Ends and lists the processes that are left: SIGTERM, after three seconds SIGKILL. Without that, a
 * pipe between a spec and such a process would keep this process waiting for ever. */
void mp_children_end(void);

#endif
