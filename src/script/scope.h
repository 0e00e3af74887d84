/* scope.h: on whose behalf a task runs. A call of an operation has one, and all that it starts
 * shares it: its script, its hooks, the tasks that they spawn, the calls that those make. Of code
 * that the operator runs (commands, the host's own modules) there is none. Counted references; NULL
 * is fine everywhere. */
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
/* The same, or that of its caller: an operation of no tenant may be called by somebody who has
 * one. */
const char *mp_scope_caller_tenant(const struct mp_scope *scope);
void mp_scope_push_caller(lua_State *L, const struct mp_scope *scope); /* the table, or nil */

#endif
