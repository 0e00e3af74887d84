/* powers.h: what the server would let the application's role do, and an operation may not: the
 * functions and relations by which SQL reaches beyond the transaction and the rows of its tenant.
 * The one list of them: the guard of operations goes by it, `serve` asks by it what the role still
 * has, and a spec holds the server's catalog against it. Pure. */
#ifndef MP_POWERS_H
#define MP_POWERS_H

#include <lua.h>
#include <stddef.h>

/* Why an operation may not name the function or relation, as the rest of "the SQL text calls NAME:
 * ..."; NULL: it may. */
const char *mp_power_refused(const char *name, size_t len);
/* The same for any name in a statement's tree; the name goes to `out`. */
const char *mp_powers_in(const char *tree, char out[64]);

/* host.powers() -> { { name=, prefix=, why=, kept= }, ... } */
int mp_powers_list(lua_State *L);

#endif
