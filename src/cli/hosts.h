/* hosts.h: asks the hosts that serve this project on this machine, over their control sockets
 * (app/control.h). */
#ifndef MP_HOSTS_H
#define MP_HOSTS_H

#include "cli/cli.h"

/* Called for each host that runs; `answer` is its line, or NULL: `sys` says why there is none. */
typedef void (*mp_hosts_cb)(void *data, const char *pid, const char *answer, int sys);

/* Sends `line` to all hosts and waits for each answer. Returns the number of hosts; negative: the
 * folder of the sockets cannot be used. Removes sockets that dead processes have left. */
int mp_hosts_ask(const char *app_dir, const char *line, mp_hosts_cb on_answer, void *data,
                 struct mp_err *err) MP_MUST_CHECK;

#endif
