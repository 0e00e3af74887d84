/* host.h: sets up one VM's part of the host and registers the modules of the rooms from sql to
 * host. */
#ifndef MP_HOST_H
#define MP_HOST_H

#include "sql/state.h"

/* For a further VM of the same runtime: shares what `of` shares. */
void mp_host_init(struct mp_host *host, const struct mp_host *of, struct mp_vm *vm);
/* Registers the modules with the VM. Raises; call it protected. */
void mp_host_open(struct mp_host *host, lua_State *L);
void mp_host_fini(struct mp_host *host); /* when the VM is closed */

/* The module "moonpool.host", which lua/moonpool builds on. Not for scripts. */
int mp_open_host(lua_State *L);
int mp_open_password(lua_State *L); /* moonpool.password */

#endif
