-- Traces for a collector of OpenTelemetry: what spans a call becomes, how they get there, what is
-- lost when nobody takes them.
local command  = require "spec.support.process.command"
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local metrics  = require "moonpool.metrics"
local moonpool = require "moonpool"
local otlp     = require "moonpool.watch.otlp"
local receiver = require "spec.support.process.receiver"
local service  = require "spec.support.process.http_service"
local serving  = require "spec.support.process.serving"
local test     = require "moonpool.test"

local function counted(result)
  return tonumber(metrics.text()
    :match('moonpool_otlp_calls_total{result="' .. result .. '"} (%d+)'))
end

-- { { key =, value = { stringValue = } }, … } -> key -> value
local function plain(attributes)
  local found = {}
  for _, one in ipairs(attributes) do
    found[one.key] = one.value.stringValue or tonumber(one.value.intValue)
  end
  return found
end

local function spans_of(request)
  return json.decode(request.body).resourceSpans[1].scopeSpans[1].spans
end

-- The spans of one operation that have come, by name.
local function find(there, operation)
  for _, request in ipairs(there.requests) do
    local spans, trace = {}, nil
    for _, span in ipairs(spans_of(request)) do
      if span.name == operation then trace = span.traceId end
      if span.traceId == trace then spans[span.name] = span end
    end
    if trace then return spans, request end
  end
end

local function operation(name, run, lane)
  local op = moonpool.operation { run = run, lane = lane }
  require("moonpool.operation.definition").of(op).name = name
  return op
end

local files = { ["scripts/hello.lua"] = [[
  local moonpool = require "moonpool"
  return moonpool.operation { summary = "hello", run = function(tx)
    return tx:value "select 1" end }]] }

describe("traces", function()
  local there
  after_each(function()
    otlp.stop()
    if there then there:stop() end
    there = nil
  end)

  local function start(path, answer)
    there = receiver.start(answer or function() return 200 end)
    otlp.start(("http://127.0.0.1:%d%s"):format(there.port, path), { pause = 0.001 })
  end

  it("are a span for the call, for each attempt and for each round trip", function()
    start "/collector/"
    local before = counted "delivered"
    local answer, info = moonpool.call_info(operation("otlp_spec", function(tx)
      local number = tx:value "select 41 + 1"
      tx:exec("select $1::text", "hush-hush")
      return number
    end, "hush-hush"), {}, { as = "018f0000-0000-7000-8000-0000000000aa" })
    assert.are.equal(42, answer)
    receiver.await("the call", function() return find(there, "otlp_spec") end)
    local spans, request = find(there, "otlp_spec")
    assert.are.same({ "POST", "/collector/v1/traces", "application/json" },
      { request.method, request.path, request.headers["content-type"] })
    local body = json.decode(request.body)
    local resource = plain(body.resourceSpans[1].resource.attributes)
    assert.are.same({ "moonpool", host.version, host.name },
      { resource["service.name"], resource["service.version"], resource["service.instance.id"] })

    local root, attempt, first, second = spans.otlp_spec, spans["attempt 1"], spans["round trip 1"],
      spans["round trip 2"]
    assert.are.equal((info.id:gsub("-", "")), root.traceId)
    assert.is_nil(root.parentSpanId)
    assert.are.same({ root.spanId, attempt.spanId, attempt.spanId },
      { attempt.parentSpanId, first.parentSpanId, second.parentSpanId })
    local ids = {}
    for _, span in pairs(spans) do
      assert.matches("^%x+$", span.spanId)
      assert.are.equal(16, #span.spanId)
      assert.is_nil(ids[span.spanId])
      ids[span.spanId] = true
      assert.matches("^%d+$", span.startTimeUnixNano)
      assert.is_true(span.startTimeUnixNano <= span.endTimeUnixNano)
      assert.is_true(root.startTimeUnixNano <= span.startTimeUnixNano
                     and span.endTimeUnixNano <= root.endTimeUnixNano)
    end
    assert.is_true(first.endTimeUnixNano <= second.startTimeUnixNano)
    assert.are.same({ 1, 1, 3, 3 }, { root.kind, attempt.kind, first.kind, second.kind })
    assert.is_nil(root.status)
    local about = plain(root.attributes)
    assert.are.same({ info.id, "committed", 1, 2 },
      { about["moonpool.call_id"], about["moonpool.outcome"], about["moonpool.attempts"],
        about["moonpool.round_trips"] })
    local of_first = plain(first.attributes)
    assert.are.same({ "postgresql", "begin" },
                    { of_first["db.system.name"], of_first["moonpool.with"] })
    assert.are.equal("statement", first.events[1].name)
    assert.are.equal("select $1 + $2", plain(first.events[1].attributes)["db.query.text"])
    for _, hidden in ipairs { "hush", "0000000000aa" } do
      assert.is_nil(request.body:find(hidden, 1, true))
    end
    receiver.await("the counter", function() return counted "delivered" > before end)
  end)

  it("tell of attempts that failed, and of calls that did", function()
    start ""
    pcall(moonpool.call, operation("otlp_spec_fails", function(tx) tx:value "select 1/0" end), {})
    local spans = receiver.await("the call", function() return find(there, "otlp_spec_fails") end)
    assert.are.equal(2, spans.otlp_spec_fails.status.code)
    assert.matches("division by zero", spans.otlp_spec_fails.status.message)
    assert.are.equal(2, spans["attempt 1"].status.code)

    test.fail_next { sqlstate = "40001" }
    moonpool.call(operation("otlp_spec_again", function(tx) return tx:value "select 1" end), {})
    spans = receiver.await("the call", function() return find(there, "otlp_spec_again") end)
    assert.is_nil(spans.otlp_spec_again.status)
    assert.are.equal(2, spans["attempt 1"].status.code)
    assert.is_nil(spans["attempt 2"].status)
    assert.is_true(spans["attempt 1"].endTimeUnixNano <= spans["attempt 2"].startTimeUnixNano)
  end)

  it(
    "are sent again, the same, and given up in the end; what the recorder forgot meanwhile is \z
      counted", function()
    local status
    start("", function() return status end)
    local failed, dropped = counted "failed", counted "dropped"
    local op = operation("otlp_spec_lost", function() return 1 end)
    moonpool.call(op, {})
    local first = there:hear(1)
    for _ = 1, 250 do moonpool.call(op, {}) end -- the recorder keeps 200
    status = 503
    there.clients[1]:close()
    receiver.await("the end of the first batch", function() return counted "failed" > failed end)
    for i = 2, 4 do assert.are.equal(first.body, there.requests[i].body) end
    status = 200
    moonpool.call(operation("otlp_spec_late", function() return 1 end), {})
    receiver.await("the next call", function() return find(there, "otlp_spec_late") end)
    assert.is_true(counted "dropped" - dropped >= 50)
  end)

  it(
    "of a host that serves belong to the caller's trace; a collector that never answers does not \z
      stop it", function()
    there = receiver.start(function() end)
    local served = service.start(files, { env = { MOONPOOL_DRAIN_TIMEOUT = "60000",
      MOONPOOL_OTLP_ENDPOINT = ("http://127.0.0.1:%d/s3cret"):format(there.port) } })
    local answer = service.ask(served, "POST", "/api/ops/hello",
                               { token = service.token "--scopes ops:*", json = {},
      headers = { traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" } })
    assert.are.equal(200, answer.status)
    local root = receiver.await("the call", function() return find(there, "hello") end).hello
    assert.are.same({ "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 2 },
      { root.traceId, root.parentSpanId, root.kind })
    assert.are_not.equal("b7ad6b7169203331", root.spanId)
    assert.are.equal("/s3cret/v1/traces", there.requests[1].path)
    served:signal "TERM"
    assert.are.equal(0, served:wait())
    assert.is_nil(served:log():find("s3cret", 1, true))
    served:stop()
  end)

  it("leave out calls whose caller does not sample the trace", function()
    there = receiver.start(function() return 200 end)
    local endpoint = ("http://127.0.0.1:%d"):format(there.port)
    local served = service.start(files, { env = { MOONPOOL_OTLP_ENDPOINT = endpoint } })
    local token = service.token "--scopes ops:*"
    for _, flags in ipairs { "00", "01" } do
      service.ask(served, "POST", "/api/ops/hello", { token = token, json = {},
        headers = { traceparent = ("00-0af7651916cd43dd8448eb211c8031%s-b7ad6b7169203331-%s")
          :format(flags, flags) } })
    end
    local function came(flags)
      for _, request in ipairs(there.requests) do
        if request.body:find("0af7651916cd43dd8448eb211c8031" .. flags, 1, true) then
          return true
        end
      end
    end
    receiver.await("the sampled call", function() return came "01" end) -- it ended after the other
    assert.is_nil(came "00")
    served:stop()
  end)

  it("do not hold a host up that cannot serve", function()
    local served = serving.start(files,
                                 { broken = true, env = { MOONPOOL_LISTEN = "nonsense",
                                                          MOONPOOL_DRAIN_TIMEOUT = "60000",
      MOONPOOL_OTLP_ENDPOINT = "http://127.0.0.1:1" } })
    assert.are.equal(2, served:wait(), served:log())
    served:stop()
  end)

  it("have no place to go if that is no URL", function()
    local folder = command.folder {}
    local output, code = command.run("serve --listen off", { dir = folder.path,
      env = { MOONPOOL_OTLP_ENDPOINT = "collector:4318/s3cret",
              MOONPOOL_STATE = folder.path .. "/state" } })
    assert.are.equal(2, code, output)
    assert.matches("moonpool serve: MOONPOOL_OTLP_ENDPOINT is not a URL", output)
    assert.is_nil(output:find("s3cret", 1, true))
    folder.remove()
  end)
end)
