/* service.h: the host over HTTP. Calls of operations go from the socket to their generation without
 * a detour: POST /api/ops/NAME. Everything else (pages, reports, tokens) is answered by one Lua
 * function of the host's own.
 *
 * Owner: the runtime. If open succeeds it must be closed; close may be called any number of times;
 * the memory is gone after on_closed. Thread: the loop's. */
#ifndef MP_SERVICE_H
#define MP_SERVICE_H

#include <lua.h>

#include "http/server.h"
#include "ops/invoke.h"

struct mp_service;

struct mp_service_options {
  struct mp_http_options http;
  struct mp_loop *loop;
  struct mp_sched *sched;
  struct mp_generations *generations;
  lua_State *L;             /* of the host's own modules */
  const char *cors_origins; /* cors.h; NULL: off */
  const char *hosts;        /* hosts.h; NULL: none */
  struct mp_metrics *metrics;
  void (*on_closed)(void *data);
  void *data;
};

/* Whether the lists can be read; NULL: none. */
int mp_service_check(const char *cors_origins, const char *hosts, struct mp_err *err) MP_MUST_CHECK;

/* Takes two functions from the top of L; both may wait:
 *   page(method, path, query, body, who, draining, head) -> status, content type, body[, policy,
 *       follow]
 *     who: { id, tenant, user, scopes }, or nil if the request has no token
 *     head: { mcp_version = the header MCP-Protocol-Version, foreign = whether a page of another
 *       origin asks that MOONPOOL_CORS_ORIGINS does not list, not_json = why the body is no JSON,
 *       by its headers }
 *     policy: Content-Security-Policy
 *     follow: true makes the answer a stream that begins with the body (feed.h)
 *   find(id) -> nil, or hash (hex), tenant, user, scopes, seconds until it ends         [-2, +0] */
int mp_service_open(struct mp_service **out, const struct mp_service_options *options,
                    struct mp_err *err) MP_MUST_CHECK;
int mp_service_port(const struct mp_service *service);
/* As mp_http_server_close: no new connections; what is under way has so long. */
void mp_service_close(struct mp_service *service, uint64_t grace_ms);

/* Adds to the table on top: token_new() -> token, id, hash; built_in_text(name) -> text. [-0,
 * +0] */
void mp_service_lua(lua_State *L);

#endif
