-- `moonpool serve` with several workers: threads carry out the calls of one host, and a caller or
-- an operator cannot tell.
local command  = require "spec.support.process.command"
local http     = require "spec.support.client.http"
local json     = require "moonpool.json"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"

local WORKERS, POOL = 3, 6

local function operation(fields, body)
  return ('local moonpool, is = require "moonpool", require "moonpool.is"\n' ..
    'return moonpool.operation { %s run = function(tx, input) %s end }'):format(fields, body)
end

local function hello(version) return operation("", ("return %d"):format(version)) end

local files = {
  ["scripts/hello.lua"] = hello(1),
  ["scripts/smoke.lua"] = [[
    local db = require "moonpool.db"
    local turn = db.value "select nextval('workers_spec.loads')"
    if turn == db.value "select n from workers_spec.counts where k = 'refused load'" then
      error "this load is refused"
    end]],
  -- Reads and writes without a lock: only the lane keeps two calls apart.
  ["scripts/count.lua"] = operation('lane = "count:$k", input = is.object { k = is.string },', [[
    local n = tx:value("select n from workers_spec.counts where k = $k", input)
    tx:exec("update workers_spec.counts set n = $n where k = $k", { n = n + 1, k = input.k })
    return n + 1]]),
  ["scripts/narrow.lua"] = operation(
    'lane = { { key = "narrow", width = 3 }, { key = "few:$k", width = 2 } },\n\z
     input = is.object { k = is.string },', [[
    tx:value "select workers_spec.hold_shared(4711)"
    local most = 0
    for _ = 1, 5 do
      most = math.max(most, tx:value "select workers_spec.inside()")
      moonpool.sleep(0.001)
    end
    return most]]),
  ["scripts/fail.lua"] = operation("", 'moonpool.fail("NOT_NOW", "not now")'),
  ["scripts/break.lua"] = operation("", 'error "it breaks"'),
  ["scripts/keep.lua"] = operation("input = is.object { value = is.string:optional() },", [[
    local cache = require "moonpool.cache"
    if input.value then cache.set("workers", input.value) end
    return cache.get "workers"]]),
  ["scripts/wait.lua"] = operation("", [[
    tx:exec "insert into workers_spec.seen default values"
    return tx:value "select workers_spec.hold_shared(781)"]]),
  ["scripts/hold.lua"] = operation("", [[
    tx:exec "update workers_spec.counts set n = n + 1 where k = 'locked'"
    return tx:value "select workers_spec.hold_shared(782)"]]),
  ["scripts/want.lua"] = operation("",
    [[tx:exec "update workers_spec.counts set n = n + 1 where k = 'locked'"]]),
  ["scripts/gauge.lua"] = [[
    local moonpool, is = require "moonpool", require "moonpool.is"
    local last = moonpool.metrics.gauge "workers_last"
    local added = moonpool.metrics.gauge "workers_added"
    return moonpool.operation { input = is.object { n = is.integer }, run = function(_, input)
      last:set(input.n)
      added:add(1)
    end }]],
  ["scripts/tick.lua"] = operation('every = "1s",',
                                   'tx:exec "insert into workers_spec.ticks default values"'),
}

describe("a host with several workers", function()
  local host, token, schema

  local function start(env)
    local all = { MOONPOOL_WORKERS = tostring(WORKERS), DB_POOL_MAX = tostring(POOL) }
    for name, value in pairs(env or {}) do all[name] = value end
    host = service.start(files, { env = all })
  end

  setup(function()
    schema = scratch.schema("workers_spec", {
      "create table workers_spec.counts (k text primary key, n bigint not null)",
      "insert into workers_spec.counts select 'k' || i, 0 from generate_series(1, 8) i",
      "insert into workers_spec.counts values ('refused load', 0), ('locked', 0)",
      "create table workers_spec.seen (id bigint generated always as identity)",
      "create table workers_spec.ticks (at timestamptz not null default now())",
      "create sequence workers_spec.loads",
      [[create function workers_spec.inside() returns bigint language sql as $$
        select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and granted $$]],
      "grant execute on function workers_spec.inside() to moonpool_app",
      scratch.powers "workers_spec",
    })
    token = service.token "--scopes ops:*,monitor"
    start()
  end)
  teardown(function()
    host:stop()
    schema.drop()
  end)

  local function request(name, input)
    local body = json.encode(input or json.decode "{}")
    return ("POST /api/ops/%s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n" ..
      "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(name, token, #body,
        body)
  end

  -- Sends all at once, each on a connection of its own; the answers in their order.
  local function together(requests)
    local clients, answers = {}, {}
    for i, one in ipairs(requests) do clients[i] = assert(http.connect(host.port)).send(one) end
    for i, client in ipairs(clients) do
      answers[i] = assert(client.answer(), "no answer")
      client.close()
    end
    return answers
  end

  local function times(n, one)
    local list = {}
    for i = 1, n do list[i] = type(one) == "function" and one(i) or one end
    return list
  end

  local function page(path) return service.ask(host, "GET", path, { token = token }) end

  local function counter(name)
    return tonumber(page("/metrics").body:match("\n" .. name:gsub("%p", "%%%0") .. " ([%d.e+-]+)"))
  end

  it("spreads calls over them; lists and numbers are of all", function()
    local name = 'moonpool_transactions_total{operation="hello",isolation="read committed",\z
      outcome="committed"}'
    local before = counter(name) or 0
    local ids = {}
    for _, answer in ipairs(together(times(12, request "hello"))) do
      assert.are.equal(200, answer.status)
      ids[answer.headers["x-call-id"]] = true
    end
    assert.are.equal(before + 12, counter(name))
    local seen, found = {}, 0
    for _, call in ipairs(page("/api/db/calls?limit=100").json.calls) do
      if ids[call.id] then
        found, seen[call.worker] = found + 1, true
        local one = page("/api/db/call?id=" .. call.id)
        assert.are.same({ 200, call.id }, { one.status, one.json and one.json.id })
      end
    end
    assert.are.equal(12, found, host:log())
    assert.are.same({ [0] = true, true, true }, seen)
    local total = 0
    for _, entry in ipairs(page("/api/db/operations").json.operations) do
      if entry.operation == "hello" then total = total + entry.total end
    end
    assert.are.equal(before + 12, total)
  end)

  it("keeps all together to the width of a lane", function()
    local most = 0
    for _, answer in ipairs(together(times(60, function(i)
      return request("narrow", { k = "k" .. i % 3 })
    end))) do
      assert.are.equal(200, answer.status, answer.body)
      most = math.max(most, json.decode(answer.body).result)
    end
    assert.is_true(most > 1 and most <= 3, tostring(most))
    local workers = {}
    for _, call in ipairs(page("/api/db/calls?limit=100").json.calls) do
      if call.operation == "narrow" then workers[call.worker] = true end
    end
    assert.are.same({ [0] = true, true, true }, workers)
  end)

  it("keeps the calls of a lane apart, whichever worker they come to", function()
    local answers = together(times(80, function(i)
      return request("count", { k = "k" .. i % 8 + 1 })
    end))
    local seen = {}
    for i, answer in ipairs(answers) do
      assert.are.equal(200, answer.status, answer.body)
      local lane = i % 8 + 1
      seen[lane] = seen[lane] or {}
      seen[lane][json.decode(answer.body).result] = true
    end
    for lane = 1, 8 do
      for n = 1, 10 do assert.is_true(seen[lane][n], ("lane %d has no %d"):format(lane, n)) end
    end
  end)

  it("answers failures as one worker does, and counts them", function()
    local name = 'moonpool_calls_failed_total{operation="fail",code="NOT_NOW",fault="caller"}'
    local before = counter(name) or 0
    for _, answer in ipairs(together(times(6, request "fail"))) do
      assert.are.same({ 400, "NOT_NOW" }, { answer.status, json.decode(answer.body).error.code })
    end
    for _, answer in ipairs(together(times(3, request "break"))) do
      assert.are.same({ 500, "SCRIPT_ERROR" },
                      { answer.status, json.decode(answer.body).error.code })
    end
    for _, answer in ipairs(together(times(3, request "no_such"))) do
      assert.are.equal(404, answer.status)
    end
    for _, answer in ipairs(together(times(3, request("count", { k = 1 })))) do
      assert.are.same({ 400, "VALIDATION_ERROR" },
                      { answer.status, json.decode(answer.body).error.code })
    end
    assert.are.equal(before + 6, counter(name))
    local kinds = {}
    for _, kind in ipairs(page("/api/db/failed-calls").json.failures) do
      kinds[kind.operation .. " " .. kind.code] = kind.count
    end
    assert.are.equal(before + 6, kinds["fail NOT_NOW"])
    assert.are.equal(3, kinds["break SCRIPT_ERROR"])
  end)

  it("shows what was set last of a gauge, and the sum of what was added", function()
    for n = 1, 2 * WORKERS do -- they take turns
      assert.are.equal(200, together({ request("gauge", { n = n }) })[1].status)
      assert.are.equal(n, counter "workers_last")
      assert.are.equal(n, counter "workers_added")
    end
  end)

  it("has one cache", function()
    -- Each worker clears it once, when it begins to listen for what other hosts invalidate.
    scratch.await("all have the value", function()
      assert.are.equal(200, together({ request("keep", { value = "kept" }) })[1].status)
      for _, answer in ipairs(together(times(9, request "keep"))) do
        if json.decode(answer.body).result ~= "kept" then return false end
      end
      return true
    end)
  end)

  it("runs a schedule once", function()
    scratch.await("three runs", function()
      return schema.owner.value "select count(*) >= 3 from workers_spec.ticks"
    end)
    local row = schema.owner.one [[select count(*) as runs,
      count(distinct date_trunc('second', at)) as seconds from workers_spec.ticks]]
    assert.is_true(row.runs < 2 * row.seconds, ("%d runs in %d s"):format(row.runs, row.seconds))
  end)

  it("ends the work of a caller who is gone, at each worker", function()
    schema.owner.lease(function(conn)
      conn.exec "select pg_advisory_lock(781)"
      local clients = {}
      for i = 1, WORKERS do clients[i] = assert(http.connect(host.port)).send(request "wait") end
      scratch.await("all wait", function()
        return conn.value [[select count(*) >= 3 from pg_locks
          where locktype = 'advisory' and objid = 781 and not granted]]
      end)
      for _, client in ipairs(clients) do client.close() end
      scratch.await("none waits", function()
        return conn.value [[select count(*) = 0 from pg_locks
          where locktype = 'advisory' and objid = 781 and not granted]]
      end)
      conn.exec "select pg_advisory_unlock(781)"
    end)
    assert.are.equal(0, schema.owner.value "select count(*) from workers_spec.seen")
  end)

  it("names the call that holds a lock, whichever worker has it", function()
    local function running(name) -- the call, once it waits at the database
      local found
      scratch.await(name .. " to run", function()
        for _, call in ipairs(page("/api/db/calls?limit=100").json.calls) do
          if call.operation == name and call.outcome == "running" then found = call end
        end
        return found
      end)
      return found
    end
    schema.owner.lease(function(conn)
      conn.exec "select pg_advisory_lock(782)"
      local clients = { assert(http.connect(host.port)).send(request "hold") }
      local holder = running "hold"
      scratch.await("the row to be held", function()
        return conn.value [[select count(*) = 1 from pg_locks
          where locktype = 'advisory' and objid = 782 and not granted]]
      end)
      clients[2] = assert(http.connect(host.port)).send(request "want")
      local waiter, note = running "want", nil
      scratch.await("it to be seen", function()
        for _, one in ipairs(page("/api/db/call?id=" .. waiter.id).json.notes) do
          if one.kind == "blocked" then note = one.text end
        end
        return note
      end)
      assert.are_not.equal(holder.worker, waiter.worker)
      assert.truthy(note:find "^hold at scripts/hold%.lua:%d+, call ", note)
      assert.truthy(note:find(holder.id, 1, true), note)
      conn.exec "select pg_advisory_unlock(782)"
      for _, client in ipairs(clients) do
        assert.are.equal(200, client.answer().status)
        client.close()
      end
    end)
  end)

  it("reloads all of them, or none", function()
    host.folder.write("scripts/hello.lua", hello(2))
    -- The second worker that loads refuses.
    schema.owner.exec [[update workers_spec.counts
      set n = (select last_value + 2 from workers_spec.loads) where k = 'refused load']]
    local report = host:reload()
    assert.is_false(report.ok)
    assert.truthy(report.report:find("this load is refused", 1, true), report.report)
    for _, answer in ipairs(together(times(9, request "hello"))) do
      assert.are.equal(1, json.decode(answer.body).result)
    end
    local before = host:ask { ["do"] = "status" }.generation
    report = host:reload()
    assert.is_true(report.ok, report.report)
    assert.are.equal(before + 1, report.generation)
    for _, answer in ipairs(together(times(9, request "hello"))) do
      assert.are.equal(2, json.decode(answer.body).result)
    end
  end)

  it("says how many there are, and why there are fewer than asked for", function()
    local again = host
    assert.truthy(host:log():find("workers: 3", 1, true), host:log())
    start { MOONPOOL_WORKERS = "5" }
    assert.truthy(host:log():find("3 workers instead of 5", 1, true), host:log())
    assert.truthy(host:log():find("workers: 3", 1, true), host:log())
    host:stop()
    host = again
  end)

  it("ends with status 1 when a worker hangs", function()
    local again = host
    local sign = host.folder.path .. "/hang"
    start(command.preloaded { HANGING_THREAD = "worker 1," .. sign,
                              MOONPOOL_WORKER_TIMEOUT = "1000", MOONPOOL_DRAIN_TIMEOUT = "0" })
    again.folder.write("hang", "")
    assert.are.equal(1, host:wait())
    assert.truthy(host:log():find("worker 1 does not answer any more: the host ends", 1, true),
                  host:log())
    host:stop()
    host = again
  end)

  it("answers all that was sent when it is told to stop, and ends", function()
    local again = host
    start()
    local answered, dropped = service.stop_under_load(host, token, 12)
    assert.are.equal(0, dropped)
    assert.is_true(answered >= 60)
    assert.are.equal(0, host:wait())
    assert.is_nil(host:log():find("Sanitizer", 1, true), host:log())
    host:stop()
    host = again
  end)
end)
