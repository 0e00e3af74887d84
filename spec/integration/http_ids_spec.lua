-- The ids of a request: every answer and every log line of its call carries them, and the recorder
-- knows the call by its.
local command  = require "spec.support.process.command"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"

local files = {
  ["scripts/say.lua"] = [[
    local moonpool = require "moonpool"
    return moonpool.operation { run = function(tx, input)
      moonpool.log.info "from the script"
      moonpool.spawn(function() moonpool.log.info "from a task of it" end):wait()
      tx:after_commit(function()
        moonpool.log.info "from the hook"
        error "the hook fails"
      end)
      tx:value "select pg_sleep(0.005)"
      return 1
    end }]],
  ["scripts/break.lua"] =
    'return require "moonpool".operation { run = function() error "it breaks" end }',
  ["scripts/fail.lua"]  = [[
    local moonpool = require "moonpool"
    return moonpool.operation { run = function() moonpool.fail("NOT_NOW", "not now") end }]],
}

local TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

describe("a request over HTTP", function()
  local host, token

  setup(function()
    host = service.start(files,
                         { env = { MOONPOOL_LOG = "json", MOONPOOL_LOG_LEVEL = "info",
                                   DB_SLOW_QUERY_THRESHOLD = "1" } })
    token = service.token "--scopes ops:*,monitor"
  end)
  teardown(function() host:stop() end)

  local function call(name, headers)
    return service.ask(host, "POST", "/api/ops/" .. name,
                       { token = token, headers = headers, json = {} })
  end

  -- The log lines with this text that came since.
  local function lines(text)
    local found = {}
    for line in host:log():gmatch "[^\n]+" do
      local event = line:find(text, 1, true) and json.decode(line)
      if event and event.message:find(text, 1, true) then found[#found + 1] = event end
    end
    return found
  end

  -- The last log line with this text; with `id`, the last one of that call: statements of the
  -- host itself may be slow too.
  local function last_line(text, id)
    local found
    scratch.await("the log line " .. text, function()
      moonpool.sleep(0.002)
      for _, event in ipairs(lines(text)) do
        if not id or event.call_id == id then found = event end
      end
      return found
    end)
    return found
  end

  it(
    "has its ids in each log line of its call: the script's, its tasks', its hooks', \z
      the host's own", function()
    local answer = call("say", { ["X-Request-Id"] = "spec-1",
                                 traceparent = ("00-%s-%s-01"):format(TRACE, SPAN) })
    assert.are.equal(200, answer.status)
    local id = answer.headers["x-call-id"]
    assert.matches("^%x+%-%x+%-7%x+%-%x+%-%x+$", id)
    local span
    for _, text in ipairs { "from the script", "from a task of it", "slow:", "from the hook",
                            "the hook fails" } do
      local event = last_line(text, id)
      assert.are.same({ "say", "spec-1", TRACE },
        { event.operation, event.request_id, event.trace_id }, text)
      assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$", event.span_id)
      span = span or event.span_id
      assert.are.equal(span, event.span_id)
      assert.are_not.equal(SPAN, span)
    end
  end)

  it("that fails tells the same id to its caller, the log and the recorder", function()
    local answer = call "break"
    assert.are.equal(500, answer.status)
    local id = answer.headers["x-call-id"]
    assert.are.equal(id, answer.json.error.callId)
    assert.are.equal(answer.headers["x-request-id"], answer.json.error.requestId)
    local event = last_line "it breaks"
    assert.are.same({ id, answer.headers["x-request-id"], "break" },
                    { event.call_id, event.request_id, event.operation })
    assert.are.equal(id, call("fail").json.error.callId ~= id and id) -- each has its own
    local output, code = command.run("why " .. id,
                                     { dir = host.folder.path,
                                       env = { MOONPOOL_STATE = host.env.MOONPOOL_STATE } })
    assert.are.equal(0, code, output)
    assert.truthy(output:find(id .. "  break", 1, true), output)
    assert.truthy(output:find(answer.headers["x-request-id"], 1, true), output)
  end)

  it("without a trace, or with a malformed one, begins one", function()
    local malformed = {
      false, "", "00", ("00-%s-%s"):format(TRACE, SPAN), ("00-%s-%s-01-"):format(TRACE, SPAN),
      ("00-%s-%s-01-more"):format(TRACE, SPAN), ("ff-%s-%s-01"):format(TRACE, SPAN),
      ("0-%s-%s-01"):format(TRACE, SPAN),
      ("00-%s-%s-01"):format(TRACE:upper(), SPAN), ("00-%s-%s-01"):format(("0"):rep(32), SPAN),
      ("00-%s-%s-01"):format(TRACE, ("0"):rep(16)), ("00-%s-%s-0g"):format(TRACE, SPAN),
      ("00_%s-%s-01"):format(TRACE, SPAN),
      ("01-%s-%s-01more"):format(TRACE, SPAN), ("x"):rep(55),
    }
    local seen = {}
    for i, value in ipairs(malformed) do
      call("say", { ["X-Request-Id"] = "malformed-" .. i, traceparent = value or nil })
    end
    for _, event in ipairs(lines "from the script") do
      local i = tonumber((event.request_id or ""):match "^malformed%-(%d+)$")
      if i then
        assert.matches("^%x+$", event.trace_id)
        assert.are.equal(32, #event.trace_id)
        assert.are_not.equal(TRACE, event.trace_id, tostring(malformed[i]))
        assert.is_nil(seen[event.trace_id])
        seen[event.trace_id] = true
      end
    end
    assert.is_truthy(next(seen))
  end)

  it("goes on with a trace of a later version", function()
    call("say", { ["X-Request-Id"] = "later",
                  traceparent = ("cc-%s-%s-01-what.is.new"):format(TRACE, SPAN) })
    for _, event in ipairs(lines "from the script") do
      if event.request_id == "later" then assert.are.equal(TRACE, event.trace_id) end
    end
  end)

  it("that is no call has no call's id", function()
    local answer = service.ask(host, "GET", "/health")
    assert.is_nil(answer.headers["x-call-id"])
    assert.truthy(answer.headers["x-request-id"])
  end)
end)

describe("the log on a terminal", function()
  it("names operation, call and request behind the text", function()
    local host = service.start(files,
                               { env = { MOONPOOL_LOG = "text", MOONPOOL_LOG_LEVEL = "info" } })
    local token = service.token "--scopes ops:*"
    local answer = service.ask(host, "POST", "/api/ops/say",
      { token = token, headers = { ["X-Request-Id"] = "spec-2" }, json = {} })
    local log = host:log()
    host:stop()
    assert.truthy(
      log:find(("info  script: from the script (say, call %s, request spec-2, trace "):format(
      answer.headers["x-call-id"]), 1, true), log)
  end)
end)
