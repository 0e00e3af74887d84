/* post.h: host.post: a request that the host makes itself, for the host's own modules. In the
 * host's own Lua state alone: scripts never see it. */
#ifndef MP_POST_H
#define MP_POST_H

#include <lua.h>

#include "http/client.h"

/* Adds to the table on top: post{url=, body=, headers=, timeout_ms=} -> status, which waits, and
 * raises DEADLINE_EXCEEDED or IO_ERROR; url_host(url) -> what may be shown of it, or nil and what
 * is wrong. `client` must outlive the tasks of L. [-0, +0] */
void mp_post_lua(lua_State *L, struct mp_http_client *client);

#endif
