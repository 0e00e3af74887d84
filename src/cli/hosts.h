/* hosts.h: asks the hosts that serve this project on this machine, over their control sockets
 * (app/control.h). */
#ifndef MP_HOSTS_H
#define MP_HOSTS_H

#include "cli/cli.h"

/* Called for each host that runs; `answer` is its line, or NULL: `sys` says why there is none. */
typedef void (*mp_hosts_cb)(void *data, const char *pid, const char *answer, int sys);

/* Sends `line` to all and waits for each answer. How many there are; negative: the place of the
 * sockets cannot be used. Sockets that dead processes have left are removed. */
int mp_hosts_ask(const char *app_dir, const char *line, mp_hosts_cb on_answer, void *data,
                 struct mp_err *err) MP_MUST_CHECK;

#endif
