-- The alert webhook: what arrives, in which order, what is tried again, and that no receiver holds
-- anybody up. First in the spec's own host, with changes made up; then in a real `moonpool serve`,
-- whose alerts rise by themselves.
local alerts   = require "moonpool.alerts"
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local metrics  = require "moonpool.metrics"
local moonpool = require "moonpool"
local receiver = require "spec.support.process.receiver"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"
local webhook  = require "moonpool.watch.webhook"

local function counted(result)
  return tonumber(metrics.text()
    :match('moonpool_alert_webhook_total{result="' .. result .. '"} (%d+)'))
end

-- How many more there are of each since now.
local function counter()
  local before = {}
  for _, result in ipairs { "delivered", "failed", "dropped" } do
    before[result] = counted(result)
  end
  return function(result) return counted(result) - before[result] end
end

describe("host.post", function()
  local there
  after_each(function() if there then there:stop() end there = nil end)

  local function post(options)
    options.body, options.timeout_ms = options.body or "", options.timeout_ms or 20000
    local task = moonpool.spawn(function() return { pcall(host.post, options) } end)
    local result
    moonpool.spawn(function() result = task:wait() end)
    receiver.await("the end of the post", function() return result end)
    return table.unpack(result)
  end

  local function url() return ("http://127.0.0.1:%d/in?x=1"):format(there.port) end

  it("sends body and headers, and gives the status", function()
    there = receiver.start(function() return 201 end)
    local body = ("ä\0"):rep(200000)
    assert.are.same({ true, 201 },
                    { post { url = url(), body = body,
                             headers = { ["X-A"] = "b", ["Content-Type"] = "a/b" } } })
    local request = there.requests[1]
    assert.are.same({ "POST", "/in?x=1", "b", "a/b" },
      { request.method, request.path, request.headers["x-a"], request.headers["content-type"] })
    assert.is_true(request.body == body)
  end)

  it("does not follow a redirect", function()
    there = receiver.start(function()
      return "HTTP/1.1 302 X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
    end)
    assert.are.same({ true, 302 }, { post { url = url() } })
    assert.are.equal(1, #there.requests)
  end)

  it("gives the seconds of Retry-After, told as a number or as a date", function()
    local wait
    there = receiver.start(function()
      return ("HTTP/1.1 503 X\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n"):format(wait)
    end)
    wait = "17"
    assert.are.same({ true, 503, 17 }, { post { url = url() } })
    wait = os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() + 1000)
    local _, _, seconds = post { url = url() }
    assert.is_true(seconds > 900 and seconds <= 1000)
    for _, wrong in ipairs { "soon", "-1", "0", "Thu, 01 Jan 1970 00:00:00 GMT" } do
      wait = wrong
      assert.are.same({ true, 503 }, { post { url = url() } })
    end
  end)

  it("does not wait for the rest of a long answer", function()
    there = receiver.start(function() return "HTTP/1.1 200 X\r\n\r\n" .. ("x"):rep(100000) end)
    assert.are.same({ true, 200 }, { post { url = url() } })
  end)

  it(
    "raises when nobody listens, nobody answers, or what answers is no HTTP; the error holds \z
      nothing of the URL", function()
    there = receiver.start(function(_, request)
      return request.body == "odd" and "what?\r\n\r\n" or nil
    end)
    local gone = receiver.start(error)
    gone:stop()
    for _, case in ipairs {
      { "IO_ERROR", { url = ("http://127.0.0.1:%d/s3cret"):format(gone.port) } },
      { "IO_ERROR", { url = url() .. "s3cret", body = "odd" } },
      { "IO_ERROR", { url = url():gsub("^http", "https") .. "s3cret" } },
      { "DEADLINE_EXCEEDED", { url = url() .. "s3cret", timeout_ms = 30 } },
    } do
      local ok, fault = post(case[2])
      assert.is_false(ok)
      assert.are.equal(case[1], fault.code)
      assert.is_nil(fault.message:find("s3cret", 1, true))
    end
  end)

  it("refuses what is no URL, or a header with a line end", function()
    for _, wrong in ipairs { "", "hooks.example/s3cret", "ftp://a/s3cret", "file:///s3cret",
                             "http://a b/s3cret",
                             "http:///s3cret", "http://a:99999/s3cret" } do
      local ok, fault = post { url = wrong }
      assert.are.same({ false, "INVALID_ARGUMENT" }, { ok, fault.code })
      assert.is_nil(fault.message:find("s3cret", 1, true))
    end
    local ok, fault = post { url = "http://127.0.0.1:1/", headers = { A = "b\r\nC: d" } }
    assert.are.same({ false, "INVALID_ARGUMENT" }, { ok, fault.code })
  end)

  it("ends at once with the task that waits for it", function()
    there = receiver.start(function() end)
    local task = moonpool.spawn(host.post, { url = url(), body = "", timeout_ms = 600000 })
    there:hear(1)
    assert.is_true(task:cancel())
    receiver.await("the end of the connection", function() return there.clients[1]:is_closing() end)
  end)
end)

describe("the alert webhook", function()
  local there
  after_each(function()
    webhook.stop()
    alerts.stop()
    if there then there:stop() end
    there = nil
  end)

  local told

  local function start(options)
    options.pause = 0.001
    webhook.start(("http://127.0.0.1:%d/s3cret"):format(there.port), options)
    if told then return end
    told = 0
    alerts.on_change(function() told = told + 1 end) -- behind the webhook's own
  end

  -- So many changes: what failed counts from the start of the alerts.
  local function change(n)
    local before = told
    for _ = 1, n do
      alerts.start()
      for _ = 1, 11 do pcall(db.query, "select no_such_column_here") end
      alerts.tick()
      alerts.stop()
    end
    scratch.await("the changes", function() return told == before + n end)
  end

  it("posts a change as JSON", function()
    there = receiver.start(function() return 204 end)
    start {}
    local more = counter()
    change(1)
    local request = there:hear(1)
    assert.are.same({ "POST", "/s3cret", "application/json" },
      { request.method, request.path, request.headers["content-type"] })
    local body = json.decode(request.body)
    assert.are.same(
      { "failed_queries", "Failed queries per hour", json.null, "warning", 11, 10, host.name },
      { body.rule, body.title, body.from, body.to, body.value, body.threshold, body.host })
    assert.are.equal("11 queries failed within an hour, constraints and retried ones not counted",
                     body.message)
    assert.are.equal(("warning: %s; %s (%s)"):format(body.message, body.action, host.name),
                     body.text)
    assert.matches("^%d+%-%d+%-%d+T%d+:%d+:%d+%.%d+Z$", body.time)
    assert.matches("^%d+%-%d+%-%d+T%d+:%d+:%d+Z$", body.since)
    receiver.await("the counter", function() return more "delivered" == 1 end)
  end)

  it("tries again what was not taken, the same and in order", function()
    there = receiver.start(function(n) return n <= 2 and 500 or 200 end)
    start {}
    local more = counter()
    change(2)
    there:hear(4)
    receiver.await("the counter", function() return more "delivered" == 2 end)
    local bodies = {}
    for i, request in ipairs(there.requests) do bodies[i] = request.body end
    assert.are.same({ bodies[1], bodies[1], bodies[4] }, { bodies[2], bodies[3], bodies[4] })
    assert.is_true(json.decode(bodies[1]).time < json.decode(bodies[4]).time)
    assert.are.equal(0, more "failed")
  end)

  it("waits as long as the receiver says before it tries again", function()
    local second = 0
    there = receiver.start(function(n)
      if n > 1 then second = host.clock() return 200 end
      return "HTTP/1.1 429 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    end)
    start {}
    local began = host.clock()
    change(1)
    there:hear(2)
    assert.is_true(second - began >= 1)
  end)

  it("gives a change up in the end, and goes on with the next", function()
    there = receiver.start(function(n) return n <= 3 and 404 or 200 end)
    start { attempts = 3 }
    local more = counter()
    change(2)
    there:hear(4)
    receiver.await("the counters", function()
      return more "delivered" == 1 and more "failed" == 1
    end)
    assert.are.equal(4, #there.requests)
    assert.are_not.equal(there.requests[3].body, there.requests[4].body)
  end)

  it("keeps a bounded queue, whose oldest give way, while nobody answers", function()
    local taken = false
    there = receiver.start(function() return taken and 200 or nil end)
    start { limit = 3, timeout_ms = 600000 }
    local more = counter()
    change(1)
    local first = json.decode(there:hear(1).body)
    change(4)
    assert.are.equal(2, more "dropped")
    taken = true
    there.clients[1]:close() -- what was under way has failed
    there:hear(4)
    local times = {}
    for i, request in ipairs(there.requests) do times[i] = json.decode(request.body).time end
    assert.are.equal(first.time, times[2])
    assert.is_true(times[2] < times[3] and times[3] < times[4])
    receiver.await("the counter", function() return more "delivered" == 3 end)
    assert.are.equal(2, more "dropped")
  end)

  it("counts what it leaves behind when it is stopped, and posts no more", function()
    there = receiver.start(function() end)
    start { timeout_ms = 600000 }
    local more = counter()
    change(2)
    there:hear(1)
    webhook.stop()
    assert.are.equal(2, more "dropped")
    receiver.await("the end of the connection", function() return there.clients[1]:is_closing() end)
    change(1)
    assert.are.equal(2, more "dropped")
  end)
end)

describe("moonpool serve with a webhook", function()
  local files = { ["scripts/breaks.lua"] = [[
    local moonpool = require "moonpool"
    return moonpool.operation { summary = "breaks",
      run = function(tx) tx:exec "select no_such_column_here" end }]] }

  local function serve(port)
    return service.start(files,
                         { env = { MOONPOOL_LOG_LEVEL = "debug", MOONPOOL_DRAIN_TIMEOUT = "60000",
      MOONPOOL_ALERT_WEBHOOK = ("http://user:s3cret-1@127.0.0.1:%d/s3cret-2?token=s3cret-3")
        :format(port) } })
  end

  local function raise_alert(served)
    for _ = 1, 11 do served:call("breaks", {}) end
  end

  it(
    "posts what rises by itself, warns once of an outage, stops although nobody answers, and \z
      keeps the secret", function()
    local patient = receiver.start(function(n) return n <= 2 and 500 or 200 end)
    local silent = receiver.start(function() end)
    local served, stuck = serve(patient.port), serve(silent.port)
    raise_alert(served)
    raise_alert(stuck)

    local request = patient:hear(3)
    assert.are.equal("Basic dXNlcjpzM2NyZXQtMQ==", request.headers.authorization)
    assert.are.equal("/s3cret-2?token=s3cret-3", request.path)
    local monitor, pages = service.token "--scopes monitor", {}
    receiver.await("the counter", function()
      pages.metrics = service.ask(served, "GET", "/metrics", { token = monitor }).body
      local delivered =
        pages.metrics:match 'moonpool_alert_webhook_total{result="delivered"} (%d+)\n'
      return tonumber(delivered) == #patient.requests - 2
    end)
    local rules = {}
    for _, posted in ipairs(patient.requests) do rules[json.decode(posted.body).rule] = true end
    assert.is_true(rules.failed_queries)
    for _, name in ipairs { "alerts", "overview", "metrics", "query-history", "calls" } do
      pages[name] = service.ask(served, "GET", "/api/db/" .. name, { token = monitor }).body
    end
    for _, order in ipairs { "status", "generations", "metrics", "why" } do
      pages["do " .. order] = json.encode(served:ask { ["do"] = order })
    end
    pages.config = command.run("config --json", { dir = served.folder.path, env = served.env }) ..
                   command.run("config", { dir = served.folder.path, env = served.env })
    assert.truthy(pages.config:find('"MOONPOOL_ALERT_WEBHOOK": {"value": "(set)"', 1, true))

    silent:hear(1)
    for _, one in ipairs { served, stuck } do
      one:signal "TERM"
      assert.are.equal(0, one:wait())
      pages["log of " .. one.port] = one:log()
    end
    local _, warnings = served:log()
      :gsub("webhook at 127%.0%.0%.1:%d+ takes nothing: it answered 500", "")
    assert.are.equal(1, warnings)
    assert.matches("webhook at 127%.0%.0%.1:%d+ is back", served:log())
    assert.matches(
      "%d changes of alerts were not delivered to the alert webhook at 127%.0%.0%.1:%d+",
      stuck:log())
    for name, page in pairs(pages) do assert.is_nil(page:find("s3cret", 1, true), name) end

    served:stop()
    stuck:stop()
    patient:stop()
    silent:stop()
  end)

  it("does not start with what is no URL, and does not repeat it", function()
    local folder = command.folder(files)
    for _, wrong in ipairs { "hooks.example/s3cret", "ftp://hooks.example/s3cret",
                             "http://hooks example/s3cret" } do
      local output, code = command.run("serve --listen off", { dir = folder.path,
        env = { MOONPOOL_ALERT_WEBHOOK = wrong, MOONPOOL_STATE = folder.path .. "/state" } })
      assert.are.equal(2, code, output)
      assert.matches("moonpool serve: MOONPOOL_ALERT_WEBHOOK is not a URL", output)
      assert.is_nil(output:find("s3cret", 1, true))
    end
    folder.remove()
  end)

  it("is nothing that scripts could use", function()
    local served = service.start { ["scripts/looks.lua"] = [[
      local moonpool = require "moonpool"
      return moonpool.operation { summary = "looks", run = function()
        local found = moonpool.json.array()
        for _, name in ipairs { "moonpool.host", "moonpool.watch.webhook", "moonpool.alerts" } do
          if pcall(require, name) then found[#found + 1] = name end
        end
        return { found = found, post = pcall(function() return moonpool.host.post end) }
      end }]] }
    assert.are.same({ found = {}, post = false }, served:call("looks", {}).result)
    served:stop()
  end)
end)
