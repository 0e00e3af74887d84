/* invoke.h: calls an operation of the current generation by name, JSON text in, JSON text out: for
 * HTTP, for embedding, for the host's own jobs. No Lua value crosses from one state to another.
 *
 * The call belongs to the generation that was current when it began. It is answered once, unless it
 * is canceled, and frees itself then. */
#ifndef MP_INVOKE_H
#define MP_INVOKE_H

#include "ops/generation.h"
#include "ops/order.h"

struct mp_invocation;

/* MP_ECLOSED: the host is stopping, or has no generation yet. All strings are copied. */
int mp_invoke(struct mp_invocation **out, struct mp_generations *set,
              const struct mp_invoke_options *options, mp_invoke_cb on_answer, void *data,
              struct mp_err *err) MP_MUST_CHECK;
/* A new call's id, for `about`. */
void mp_invoke_new_id(struct mp_generations *set, char id[37]);
/* The caller is gone: ends the work, which rolls back unless it is committed; on_answer is not
 * called. */
void mp_invoke_cancel(struct mp_invocation *call);

/* Adds the table `generations` to "moonpool.host" on top, for lua/moonpool/generations.lua. [-0,
 * +0] */
void mp_generations_lua(lua_State *L, struct mp_generations *set);

#endif
