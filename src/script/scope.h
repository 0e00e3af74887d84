/* scope.h: on whose behalf a task runs: caller and tenant. A call of an operation has a scope, and
 * all that it starts shares it: its script, its hooks, the tasks they spawn, the calls those make.
 * Code that the operator runs (commands, the host's own modules) has none. Reference counted; every
 * function accepts NULL. */
#ifndef MP_SCOPE_H
#define MP_SCOPE_H

#include <lua.h>

struct mp_scope;

/* The caller is the table `tx.caller` on top of L, or nil; `tenant`, copied: the call's, or NULL.
 * Raises for memory.
 * [-1, +0] */
struct mp_scope *mp_scope_new(lua_State *L, const char *tenant);
struct mp_scope *mp_scope_ref(struct mp_scope *scope);
void mp_scope_unref(struct mp_scope *scope);
const char *mp_scope_tenant(const struct mp_scope *scope); /* the call's; NULL: it has none */
/* The call's tenant, else its caller's: a caller with a tenant may call an operation without one.
 */
const char *mp_scope_caller_tenant(const struct mp_scope *scope);
void mp_scope_push_caller(lua_State *L, const struct mp_scope *scope); /* the table, or nil */

#endif
