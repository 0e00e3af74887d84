-- The dashboard without a browser: a shell that anybody may have, and the numbers that need a token.
local service = require "spec.support.http_service"

local hello = 'return require "moonpool".operation { summary = "x", run = function(tx) return tx:value "select 42" end }'

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
    for _, mark in ipairs { "NONCE", ">STYLE<", ">SCRIPT<" } do assert.is_nil(body:find(mark, 1, true), mark) end
  end)

  it("gets its numbers with the scope monitor alone", function()
    assert.equal(401, service.ask(host, "GET", "/api/db/overview").status)
    assert.equal(403, service.ask(host, "GET", "/api/db/overview", { token = caller }).status)
    service.ask(host, "POST", "/api/ops/hello", { token = caller })
    local answer = service.ask(host, "GET", "/api/db/overview", { token = monitor })
    assert.equal(200, answer.status)
    local now = answer.json
    assert.is_true(now.health)
    for _, path in ipairs { "pool.totalConnections", "pool.activeConnections", "pool.idleConnections", "pool.uptime",
        "pool.waitingClients", "pool.maxConnections", "transactions.totalTransactions", "lanes.active", "lanes.waiting",
        "lag.sum", "lag.count", "generations.current", "generations.open", "generations.startedAt", "generations.loaded",
        "generations.refused", "threshold" } do
      local value = now
      for key in path:gmatch "%a+" do value = value[key] end
      assert.is_number(value, path)
    end
    for _, list in ipairs { "operations", "alerts", "retries", "slowQueries" } do assert.is_table(now[list], list) end
    local found
    for _, entry in ipairs(now.operations) do found = found or entry.operation == "hello" and entry.total >= 1 end
    assert.is_true(found)
  end)
end)
