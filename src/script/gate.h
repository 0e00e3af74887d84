/* gate.h: a userdata that tasks wait for until it is opened, once and for ever. Owner: Lua. */
#ifndef MP_GATE_H
#define MP_GATE_H

#include <lua.h>

#include "script/task.h"
#include "util/list.h"

struct mp_gate {
  struct mp_list waiters;
  bool open;
};

void mp_gate_init(struct mp_gate *gate);
/* All that wait are made ready; later waits end at once. */
void mp_gate_open(struct mp_gate *gate);
/* `return mp_gate_wait(L, gate, what, ctx, k);` goes on with k when the gate is open. k finds one
 * value more on top, which means nothing. What holds the gate must stay on L's stack. */
int mp_gate_wait(lua_State *L, struct mp_gate *gate, const char *what, lua_KContext ctx,
                 lua_KFunction k);

#endif
