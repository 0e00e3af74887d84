-- What the host counts of HTTP, and what the dashboard is told of it.
local http    = require "spec.support.client.http"
local page    = require "spec.support.client.metrics_page"
local service = require "spec.support.process.http_service"

local files = { ["scripts/ping.lua"] = [[
  local moonpool = require "moonpool"
  return moonpool.operation { run = function(_, input)
    if input.broken then error "on purpose" end
    return "pong"
  end }]] }

describe("the metrics of HTTP", function()
  local host, token
  setup(function()
    host = service.start(files)
    token = service.token "--scopes ops:*,monitor"
  end)
  teardown(function() host:stop() end)

  local function read()
    return page.read(service.ask(host, "GET", "/metrics", { token = token }).body)
  end
  local function ping(input, with)
    return service.ask(host, "POST", "/api/ops/ping", { token = with or token, json = input })
  end

  it("count answers by what was asked for and by status", function()
    local before = read()
    for _ = 1, 3 do assert.are.equal(200, ping({}).status) end
    assert.are.equal(500, ping({ broken = true }).status)
    assert.are.equal(401, ping({}, "mp_nobody").status)
    assert.are.equal(404, service.ask(host, "GET", "/nowhere").status)
    local now = read()
    local function more(route, code)
      local labels = { route = route, code = tostring(code) }
      return now:value("moonpool_http_requests_total",
                       labels) - (before:value("moonpool_http_requests_total", labels) or 0)
    end
    assert.are.equal(3, more("operation", 200))
    assert.are.equal(1, more("operation", 500))
    assert.are.equal(1, more("operation", 401))
    assert.are.equal(1, more("page", 404))
    assert.are.equal(1, more("page", 200)) -- the page that we read first
    local timed = { route = "operation" }
    assert.are.equal(5, now:value("moonpool_http_request_duration_seconds_count", timed)
      - before:value("moonpool_http_request_duration_seconds_count", timed))
  end)

  it("tell of clients that are there, and of those that were dismissed", function()
    local before = read()
    local quiet = assert(http.connect(host.port)).send "POST /api/ops/ping HTTP/1.1\r\nHost: a\r\n"
    local wrong = assert(http.connect(host.port)).send "GET / HTTP/1.1\r\nHost : a\r\n\r\n"
    assert.are.equal(400, wrong.answer().status)
    local now = read()
    assert.are.equal(1, now:value "moonpool_http_requests_active") -- who asks
    assert.is_true(now:value "moonpool_http_connections" >= 2)
    assert.are.equal(1, now:value("moonpool_http_refused_total", { reason = "malformed" })
      - before:value("moonpool_http_refused_total", { reason = "malformed" }))
    quiet.close()
    wrong.close()
  end)

  it("are on the dashboard, by class of status", function()
    local function told()
      return service.ask(host, "GET", "/api/db/overview", { token = token }).json.http
    end
    local before = told()
    ping({})
    ping({ broken = true })
    service.ask(host, "GET", "/nowhere")
    local now = told()
    assert.are.equal(4, now.answers - before.answers) -- and the overview before
    assert.are.equal(1, now.clientErrors - before.clientErrors)
    assert.are.equal(1, now.serverErrors - before.serverErrors)
    assert.is_true(now.connections >= 1)
  end)
end)
