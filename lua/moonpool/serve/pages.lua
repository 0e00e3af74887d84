-- moonpool.serve.pages: the pages of the HTTP service, which are all its answers except calls of
-- operations: the routes, and the scopes that they need.
local errors      = require "moonpool.errors"
local border      = require "moonpool.operation.border"
local crew        = require "moonpool.serve.crew"
local dashboard   = require "moonpool.serve.dashboard"
local generations = require "moonpool.generations"
local host        = require "moonpool.host"
local json        = require "moonpool.json"
local mcp         = require "moonpool.serve.mcp"
local metrics     = require "moonpool.metrics"
local monitor     = require "moonpool.watch.monitor"
local openapi     = require "moonpool.serve.openapi"

local HTML  = "text/html; charset=utf-8"
local LINES = "application/x-ndjson"
local PLAIN = "text/plain; version=0.0.4; charset=utf-8" -- the content type of Prometheus

local function has(who, wanted)
  for scope in who.scopes:gmatch "%S+" do
    if scope == wanted then return true end
  end
  return false
end

local function may_call(who, name) return has(who, "ops:*") or has(who, "ops:" .. name) end

-- "limit=20&x=a%20b" as a table.
local function params_of(query)
  local params = {}
  local function byte(hex) return string.char(tonumber(hex, 16)) end
  local function plain(text) return (text:gsub("+", " "):gsub("%%(%x%x)", byte)) end
  for name, value in (query or ""):gmatch "([^&=]+)=?([^&]*)" do
    params[plain(name)] = plain(value)
  end
  return params
end

-- The operations of the current generation, read once for each generation.
local known, known_number
local function operations()
  local number = generations.current()
  if number ~= known_number then known, known_number = generations.operations(), number end
  return known
end

local function list_operations(request)
  local list = json.array()
  for _, op in ipairs(operations()) do
    local open = not op.internal and may_call(request.who, op.name)
    if open then
      list[#list + 1] = { name = op.name, summary = op.summary, tenant = op.tenant or nil }
    end
  end
  return { operations = list, generation = known_number }, 200
end

local function reload()
  local report = generations.reload()
  return { ok = report.ok, generation = report.generation, files = report.files,
           changed = report.changed, ms = report.ms,
           report = report.report }, report.ok and 200 or 409
end

local function monitored(page)
  return { scope = "monitor", GET = function(request) return page(request.params) end }
end

-- path -> a function for each method, which returns a table for JSON (or a text) and the status.
-- `open`: no token is needed. `scope`: the token must have this scope. Neither: any token will do.
local routes = {
  ["/"]                          = { open = true, GET = function()
    local text, policy = dashboard.page()
    return text, 200, HTML, policy
  end },
  ["/health"]                    = { open = true, GET = function(request)
    return monitor.ready(request.draining)
  end },
  ["/api/db/health"]             = { open = true, GET = function(request)
    return monitor.health(request.draining)
  end },
  ["/api/ops"]                   = { GET = list_operations },
  ["/openapi.json"]              = { GET = function()
    return openapi.document(generations.operations(), generations.raised()), 200
  end },
  ["/mcp"]                       = { POST = function(request)
    return mcp.answer(request, operations(), may_call)
  end },
  ["/metrics"]                   = { scope = "monitor", GET = function()
    return metrics.text(), 200, PLAIN
  end },
  ["/api/db/metrics"]            = monitored(monitor.metrics),
  ["/api/db/pool-metrics"]       = monitored(monitor.pool_metrics),
  ["/api/db/transaction-stats"]  = monitored(monitor.transaction_stats),
  ["/api/db/overview"]           = monitored(monitor.overview),
  ["/api/db/overview/stream"]    = { scope = "monitor", GET = function(request)
    local body = json.encode((monitor.overview()), { sorted = true }) .. "\n"
    return body, 200, LINES, nil, request.method == "GET"
  end },
  ["/api/db/calls"]              = monitored(monitor.calls),
  ["/api/db/call"]               = monitored(monitor.call),
  ["/api/db/failed-calls"]       = monitored(monitor.failed_calls),
  ["/api/db/operations"]         = monitored(monitor.operations),
  ["/api/db/query-history"]      = monitored(monitor.query_history),
  ["/api/db/slow-queries"]       = monitored(monitor.slow_queries),
  ["/api/db/plan"]               = monitored(monitor.plan),
  ["/api/db/messages"]           = monitored(monitor.messages),
  ["/api/db/schedules"]          = monitored(monitor.schedules),
  ["/api/db/alerts"]             = monitored(monitor.alerts),
  ["/api/db/test"]               = monitored(monitor.test),
  ["/admin/generations"]         = { scope = "admin", GET = function()
    return { generations = json.array(generations.list()) }, 200
  end },
  ["/admin/reload"]              = { scope = "admin", POST = reload },
}

local function refuse(status, code, message, ...)
  error(errors.new { status = status, code = code, message = message:format(...) }, 0)
end

local function serve(request)
  local route = routes[request.path]
  if route == routes["/mcp"] and not host.mcp then
    refuse(404, "NOT_FOUND", "this host does not speak the Model Context Protocol: \z
      MOONPOOL_MCP=on switches it on")
  end
  if not route then
    refuse(
      404, "NOT_FOUND", "there is nothing at %s; operations are called with POST /api/ops/NAME",
      request.path)
  end
  if not route.open then
    if not request.who then
      refuse(401, "UNAUTHORIZED", "this needs a token: Authorization: Bearer mp_...")
    end
    if route.scope and not has(request.who, route.scope) then
      refuse(403, "FORBIDDEN", "this token lacks the scope %s", route.scope)
    end
  end
  local page = route[request.method] or request.method == "HEAD" and route.GET
  if not page then
    refuse(405, "METHOD_NOT_ALLOWED", "%s is not for %s", request.method, request.path)
  end
  if route.scope == "monitor" then crew.numbers() end
  return page(request)
end

--- (method, path, query, body, who, draining, head) -> status, content type, body, the
--- Content-Security-Policy of a page, and true for an answer that continues as a stream. `who`: the
--- caller as its token says, nil without a token.
return function(method, path, query, body, who, draining, head)
  local ok, answer, status, content_type, policy, follow = pcall(serve, {
    method = method, path = path, params = params_of(query), body = body, who = who,
    draining = draining, head = head,
  })
  if not ok then
    if not errors.is(answer) then
      answer = errors.new { code = "INTERNAL_ERROR", status = 500, message = tostring(answer) }
    end
    local fault = answer.status >= 500
      and host.call_failed("page " .. path, answer.code, answer.status)
    if fault == "operator" then error(answer, 0) end -- for the log, under the request's id
    answer, status = { error = border.far(answer) }, answer.status
  end
  if type(answer) == "string" then return status, content_type, answer, policy, follow end
  return status, "application/json", json.encode(answer, { sorted = true }) .. "\n"
end
