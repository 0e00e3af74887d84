-- A crowd that leaves at once: 700 clients whose calls are at work, wait in a lane, for a group or
-- for a connection, close their connections together, while backends are ended and scripts are
-- loaded anew. The host answers who comes next, keeps nothing of them, and (in a build with
-- sanitizers) reads nothing that was freed and leaks nothing.
local test    = require "moonpool.test"
local http    = require "spec.support.client.http"
local scratch = require "spec.support.data.scratch"
local service = require "spec.support.process.http_service"

local CROWD = 700

local operation = [[
  local moonpool = require "moonpool"
  local is = require "moonpool.is"
  return moonpool.operation { summary = "x", timeout = 60, %s,
    input = is.object { n = is.integer },
    run = function(tx, input)
      tx:exec("update crowd.counters set n = n + 1 where id = 1")
      tx:value "select 1"
      tx:exec("update crowd.counters set n = n + 1 where id = $n + 2", { n = input.n %% 7 })
      return input.n
    end }]]

local files = {
  ["scripts/lined_up.lua"] = operation:format 'lane = "one", isolation = "serializable"',
  ["scripts/grouped.lua"]  = operation:format 'lane = "g:$n", group = 16, groups = 2',
  ["scripts/waiting.lua"]  = operation:format 'lane = "two", group = 8',
  ["scripts/free.lua"]     = operation:format 'retries = 2',
}

describe("a crowd that leaves at once", function()
  local schema, serve, token, watching

  setup(function()
    schema = scratch.schema("crowd", {
      "create table crowd.counters (id int primary key, n int not null)",
      "insert into crowd.counters select i, 0 from generate_series(1, 9) i" })
    token = service.token "--scopes ops:*"
    watching = service.token "--scopes monitor"
    serve = service.start(files)
  end)
  teardown(function() schema.drop() end)

  local function request(name, n, keyed)
    local body = ('{"n":%d}'):format(n)
    return (
      "POST /api/ops/%s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n%sContent-Length: %d\r\n"
      .. "Content-Type: application/json\r\n\r\n%s"):format(name, token,
      keyed and ("Idempotency-Key: %s-%d\r\n"):format(keyed, n) or "", #body, body)
  end

  local function metric(name)
    local answer = service.ask(serve, "GET", "/metrics", { token = watching })
    return answer.status == 200 and tonumber(answer.body:match("\n" .. name .. " (%d+)")) or nil
  end

  local function arrive(names, keyed)
    local clients = {}
    for i = 1, CROWD do
      clients[i] = assert(http.connect(serve.port)).send(request(names[i % #names + 1], i, keyed))
    end
    return clients
  end

  local function blocked()
    return test.admin().value [[
      select count(*) from pg_stat_activity where wait_event_type = 'Lock'
        and query like '%crowd.counters%']]
  end

  local function end_backends()
    test.admin().value [[
      select count(pg_terminate_backend(pid)) from pg_stat_activity
       where wait_event_type = 'Lock' and query like '%crowd.counters%']]
  end

  -- They come while the row that all want is locked, and leave; `meanwhile` is done between that
  -- and the row's release.
  local function round(names, options)
    schema.owner.lease(function(conn)
      conn.exec "begin"
      conn.exec "update crowd.counters set n = 0 where id = 1"
      local clients = arrive(names, options.keyed)
      scratch.await("some of them to work", function() return blocked() > 0 end)
      if options.lanes then
        scratch.await("the others to wait", function()
          return (metric "moonpool_lane_waiters" or 0) >= options.lanes
        end)
      end
      if options.kill then end_backends() end
      if options.reload then assert.is_true(serve:reload().ok) end
      for _, client in ipairs(clients) do client.close() end
      if options.kill then end_backends() end
      if options.reload then assert.is_true(serve:reload().ok) end
      conn.exec "rollback"
    end)
    scratch.await("nobody to wait any more", function()
      return metric "moonpool_lane_waiters" == 0
    end)
    for name in pairs(files) do
      name = name:match "([%w_]+)%.lua"
      local answer = service.ask(serve, "POST", "/api/ops/" .. name,
                                 { token = token, json = { n = 1 } })
      assert.are.same({ 200, 1 }, { answer.status, answer.json.result }, answer.body)
    end
  end

  it("while it waits in one lane", function() round({ "lined_up" }, { lanes = CROWD - 1 }) end)

  it("while it waits in one lane, and its backends are ended", function()
    round({ "lined_up", "waiting" }, { lanes = CROWD - 40, kill = true })
  end)

  it("while it waits for groups, and scripts are loaded anew", function()
    round({ "grouped", "waiting" }, { kill = true, reload = true })
  end)

  it("with keys, in lanes and without, while scripts are loaded anew", function()
    round({ "free", "lined_up", "grouped", "waiting" },
          { keyed = "leaving", kill = true, reload = true })
  end)

  it("and nothing of it is left when the host ends", function()
    serve:signal "TERM"
    local code, log = serve:wait(), serve:log()
    serve.folder.remove()
    assert.are.equal(0, code, log)
    assert.is_nil(log:find("Sanitizer", 1, true), log)
  end)
end)

describe("a script that ends whoever waits for it", function()
  it("ends at its next wait, and nothing of its transaction is used any more", function()
    local output, code = scratch.script [[
      local moonpool = require "moonpool"
      local db = require "moonpool.db"
      local task
      local function work(tx, looks)
        if looks then tx:value "select 1" end
        task:cancel()
        pcall(function() return 1 end)
        pcall(function() return tx.attempt end)
        pcall(db.value, "select 1")
      end
      local op = moonpool.operation { lane = "one", run = function(tx) work(tx, true) end }
      for round = 1, 60 do
        task = moonpool.spawn(function()
          if round % 3 == 0 then return moonpool.call(op, {}) end
          db.transaction(function(tx) work(tx, round % 3 == 1) end)
        end)
        pcall(task.wait, task)
      end
      print "all have ended"
    ]]
    assert.are.equal(0, code, output)
    assert.truthy(output:find("all have ended", 1, true), output)
  end)
end)
