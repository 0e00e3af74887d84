/* powers.h: functions and relations that an operation must not use although the server would allow
 * them: with them SQL reaches beyond its transaction and the rows of its tenant. This is the only
 * list: the guard of operations uses it, `serve` checks the role's privileges by it, and a spec
 * compares it with the server's catalog. Pure. */
#ifndef MP_POWERS_H
#define MP_POWERS_H

#include <lua.h>
#include <stddef.h>

/* Why an operation may not use the function or relation, to end the sentence "the SQL text calls
 * NAME: ..."; NULL: it may. */
const char *mp_power_refused(const char *name, size_t len);
/* The same for any name in a statement's tree; the name goes to `out`. */
const char *mp_powers_in(const char *tree, char out[64]);

/* host.powers() -> { { name=, prefix=, why=, kept= }, ... } */
int mp_powers_list(lua_State *L);

#endif
