-- Five states of a host, told apart: what /health and /api/db/health say, metrics and alerts, while
-- the pool is full, the server read-only or gone, or the host stops. And who asks is found out
-- whatever the load.
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"

local function operation(fields, body)
  return (
    'local moonpool = require "moonpool"\nreturn moonpool.operation { summary = "x", %s run = \z
      function(tx) %s end }')
    :format(fields or "", body)
end

local files = {
  ["scripts/waits.lua"] = operation("timeout = 20,", [[
    tx:exec "select id from health_spec.t for update"; return { done = true }]]),
  ["scripts/hello.lua"] = operation("timeout = 1,", 'return { n = tx:value "select 1" }'),
}

local function health_of(host)
  local answer = service.ask(host, "GET", "/api/db/health")
  return answer.json.status, answer.status, answer.json
end

local function await_state(host, wanted)
  return scratch.await("the state " .. wanted, function()
    local state, status, body = health_of(host)
    return state == wanted and { status = status, body = body }
  end)
end

describe("a host whose connections are all in use", function()
  local host, schema, token, monitor, calls
  local held, over, ended = false, false, false

  setup(function()
    schema = scratch.schema("health_spec", { "create table health_spec.t (id int)",
                                             "insert into health_spec.t values (1)" })
    moonpool.spawn(function()
      schema.owner.transaction({ timeout = 120 }, function(tx)
        tx:query "select id from health_spec.t for update"
        held = true
        while not over do moonpool.sleep(0.01) end
      end)
      ended = true
    end)
    scratch.await("the lock", function() return held end)
    host = service.start(files, { env = { DB_POOL_MAX = "2" } })
    token, monitor = service.token "--scopes ops:*", service.token "--scopes monitor"
    calls = {}
    for i = 1, 3 do
      calls[i] = host:send { ["do"] = "call", name = "waits", input = json.object() }
    end
  end)
  teardown(function()
    over = true
    scratch.await("the lock's end", function() return ended end)
    for _, call in ipairs(calls) do call.finish() end
    host:stop()
    schema.drop()
  end)

  it("is saturated, which is not dead", function()
    local said = await_state(host, "saturated")
    assert.are.equal(200, said.status)
    assert.matches("connections are in use", said.body.message)
    local ready = service.ask(host, "GET", "/health")
    assert.are.same({ 200, { healthy = true } }, { ready.status, ready.json })
  end)

  it("knows who asks, whoever he is", function()
    await_state(host, "saturated")
    local page = service.ask(host, "GET", "/api/db/overview", { token = monitor }).json
    assert.is_true(page.health)
    assert.are.equal("saturated", page.state.name)
    assert.matches("waits", page.state.holders)
    assert.is_string(page.state.advice)
    local text = service.ask(host, "GET", "/metrics", { token = monitor }).body
    assert.matches('moonpool_health_state{state="saturated"} 1\n', text)
    assert.matches('moonpool_health_state{state="healthy"} 0\n', text)
    assert.matches("\nmoonpool_database_up 1\n", text)
    local unknown = service.ask(host, "GET", "/metrics",
                                { token = "mp_" .. ("a"):rep(12) .. "_" .. ("b"):rep(43) })
    assert.are.equal(401, unknown.status)
  end)

  it("ends calls at their deadline, whoever asks", function()
    await_state(host, "saturated")
    local from = moonpool.host.clock()
    local answer = service.ask(host, "POST", "/api/ops/hello", { token = token })
    assert.are.same({ 504, "DEADLINE_EXCEEDED" }, { answer.status, answer.json.error.code })
    assert.is_true(moonpool.host.clock() - from < 1.9) -- one second is the call's
  end)
end)

describe("a host that stops", function()
  it("says that it is draining, until it is gone", function()
    local output = scratch.script([[
      local moonpool, host = require "moonpool", require "moonpool.host"
      local monitor, metrics = require "moonpool.watch.monitor", require "moonpool.metrics"
      print((monitor.health()).status)
      host.stop()
      local body, status = monitor.health()
      print(body.status, status, (monitor.ready()).healthy)
      print(metrics.health().advice ~= nil,
        metrics.text():match 'health_state{state="draining"} %d')
    ]])
    assert.matches("^healthy\ndraining\t503\tfalse\ntrue\thealth_state{state=\"draining\"} 1",
                   output)
  end)
end)
