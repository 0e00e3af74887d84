/* control.h: a unix socket over which this machine's administrator talks to a running host: a line
 * of JSON in, a line of JSON out. Each line is handed to a Lua function, in a task of its own; a
 * connection's lines are answered one after the other. When a client goes, what it waits for is
 * ended.
 * Only the socket's user and root may open it: it lies in DIR/control of the state directory, which
 * other users may not enter. One host, one socket: HASH-PID.sock, where HASH is the project
 * folder's. Owner: the runtime. */
#ifndef MP_CONTROL_H
#define MP_CONTROL_H

#include <lua.h>

#include "loop/loop.h"
#include "script/task.h"

struct mp_control_channel;

/* Where the socket of the host `pid` lies, and makes the folder. `pid` 0: only tells the part in
 * front of the process id. */
int mp_control_path(const char *app_dir, long pid, char *out, size_t size,
                    struct mp_err *err) MP_MUST_CHECK;

/* Listens. The function on top of L gets each line and returns the answer. [-1, +0] */
int mp_control_open(struct mp_control_channel **out, struct mp_sched *sched, lua_State *L,
                    const char *path, struct mp_err *err) MP_MUST_CHECK;
/* Takes no more connections, ends those that wait for nothing. What is under way is answered. */
void mp_control_drain(struct mp_control_channel *control);
/* Ends everything. The memory is freed when libuv has closed the handles: run the loop until then.
 * NULL is allowed. */
void mp_control_close(struct mp_control_channel *control);

#endif
