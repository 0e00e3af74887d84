-- The dashboard without a browser: a shell that anybody may have, and the numbers that need a
-- token.
local http    = require "spec.support.client.http"
local json    = require "moonpool.json"
local service = require "spec.support.process.http_service"

local hello =
  'return require "moonpool".operation { summary = "x", run = function(tx) return tx:value \z
    "select 42" end }'

describe("the dashboard", function()
  local host, monitor, caller
  setup(function()
    host = service.start { ["scripts/hello.lua"] = hello }
    monitor, caller = service.token "--scopes monitor", service.token "--scopes ops:*"
  end)
  teardown(function() host:stop() end)

  it("is a shell without data, the same for all but its nonce", function()
    assert.equal(200, service.ask(host, "POST", "/api/ops/hello", { token = caller }).status)
    local function shell(options)
      local answer = service.ask(host, "GET", "/", options)
      assert.equal(200, answer.status)
      assert.matches("^text/html", answer.headers["content-type"])
      assert.equal("no-store", answer.headers["cache-control"])
      local policy = answer.headers["content-security-policy"]
      local nonce = policy:match "script%-src 'nonce%-(%x+)'"
      assert.is_true(#nonce >= 32)
      return answer.body:gsub(nonce, ""), nonce, policy
    end
    local first, one, policy = shell()
    local second, two = shell { token = monitor }
    assert.equal(first, second)
    assert.not_equal(one, two)
    assert.matches("default%-src 'none'", policy)
    assert.matches("frame%-ancestors 'none'", policy)
    assert.is_nil(policy:find("unsafe", 1, true))
    assert.is_nil(first:find("hello", 1, true))
  end)

  it("holds all it needs: no other file, no inline handler", function()
    local body = service.ask(host, "GET", "/").body
    assert.is_nil(body:find "%shref=\"[^d]")
    assert.is_nil(body:find "%ssrc=")
    assert.is_nil(body:find "%son%l+=")
    assert.is_nil(body:find "%sstyle=")
    assert.is_nil(body:find "innerHTML")
    for id in body:gmatch '[$]%("([%w-]+)"%)' do
      assert.truthy(body:find(('id="%s"'):format(id), 1, true), id)
    end
    assert.truthy(body:find("The MIT License", 1, true)) -- of uPlot, which travels along
    for _, mark in ipairs { "NONCE", ">STYLE<", ">SCRIPT<" } do
      assert.is_nil(body:find(mark, 1, true), mark)
    end
  end)

  it("gets its numbers with the scope monitor alone", function()
    assert.equal(401, service.ask(host, "GET", "/api/db/overview").status)
    assert.equal(403, service.ask(host, "GET", "/api/db/overview", { token = caller }).status)
    service.ask(host, "POST", "/api/ops/hello", { token = caller })
    local answer = service.ask(host, "GET", "/api/db/overview", { token = monitor })
    assert.equal(200, answer.status)
    local now = answer.json
    assert.is_true(now.health)
    for _, path in ipairs { "pool.totalConnections", "pool.activeConnections",
                            "pool.idleConnections", "pool.uptime",
        "pool.waitingClients", "pool.maxConnections", "transactions.totalTransactions",
        "lanes.active", "lanes.waiting",
        "lag.sum", "lag.count", "generations.current", "generations.open", "generations.startedAt",
        "generations.loaded",
        "generations.refused", "threshold" } do
      local value = now
      for key in path:gmatch "%a+" do value = value[key] end
      assert.is_number(value, path)
    end
    for _, list in ipairs { "operations", "alerts", "retries", "slowQueries" } do
      assert.is_table(now[list], list)
    end
    local found
    for _, entry in ipairs(now.operations) do
      found = found or entry.operation == "hello" and entry.total >= 1
    end
    assert.is_true(found)
  end)

  local function watch(token)
    local client = assert(http.connect(host.port))
    client.send(
      ("GET /api/db/overview/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
        :format(token))
    return client
  end

  local function line_of(client, n)
    local lines = {}
    http.wait("line " .. n, function()
      lines = {}
      for line in client.received:gmatch "(%b{})\n" do lines[#lines + 1] = line end
      return #lines >= n or client.ended
    end)
    assert(lines[n], client.received)
    return json.decode(lines[n])
  end

  it("streams them to those who may see them, one line after the other", function()
    assert.equal(401, service.ask(host, "GET", "/api/db/overview/stream").status)
    assert.equal(403, service.ask(host, "GET", "/api/db/overview/stream",
                                  { token = caller }).status)
    local one, two = watch(monitor), watch(monitor)
    local first = line_of(one, 1)
    assert.truthy(one.received:find("Transfer-Encoding: chunked\r\n", 1, true))
    assert.truthy(one.received:find("Content-Type: application/x-ndjson\r\n", 1, true))
    assert.is_true(first.health)
    assert.is_number(first.pool.totalConnections)
    local before = first.transactions.totalTransactions
    assert.equal(200, service.ask(host, "POST", "/api/ops/hello", { token = caller }).status)
    assert.equal(before + 1, line_of(one, 3).transactions.totalTransactions)
    two.close() -- in the middle: the others go on
    assert.is_string(line_of(one, 4).timestamp)
    one.close()
  end)

  it("ends the stream with a word when the host stops", function()
    local other = service.start { ["scripts/hello.lua"] = hello }
    finally(function() other:stop() end)
    local client = assert(http.connect(other.port))
    client.send(
      ("GET /api/db/overview/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
        :format(monitor))
    line_of(client, 1)
    other:signal "TERM"
    assert.matches('{"stopping":true}\n\r\n0\r\n\r\n$', client.rest())
    client.close()
    assert.equal(0, other:wait())
  end)

  it("tells of the last calls, and of one with all its steps", function()
    local id = service.ask(host, "POST", "/api/ops/hello",
                           { token = caller }).headers["x-request-id"]
    assert.is_string(id)
    local list = service.ask(host, "GET", "/api/db/calls?limit=5", { token = monitor }).json.calls
    assert.equal("hello", list[1].operation)
    local call = service.ask(host, "GET", "/api/db/call?id=" .. list[1].id,
                             { token = monitor }).json
    assert.equal(list[1].id, call.id)
    assert.is_true(#call.notes > 0)
    assert.equal(404, service.ask(host, "GET", "/api/db/call?id=none", { token = monitor }).status)
    assert.equal(403, service.ask(host, "GET", "/api/db/calls", { token = caller }).status)
  end)
end)
