-- The primary hangs with its sockets open (SIGSTOP), and the standby is promoted: calls go on over
-- the promoted server, what was acknowledged is there once, and no caller is told that the outcome
-- is unknown where it can be found out.
local cluster  = require "spec.support.process.cluster"
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local freezer  = require "spec.support.process.freezer"
local host_of  = require "moonpool.host"
local http     = require "spec.support.client.http"
local json     = require "moonpool.json"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"
local standby  = require "spec.support.process.standby"

local files = {
  ["scripts/adds.lua"] = [[
    local moonpool, is = require "moonpool", require "moonpool.is"
    return moonpool.operation {
      summary = "x", input = is.object { id = is.string },
      run = function(tx, input)
        tx:exec("insert into frozen_spec.t (id) values ($id)", { id = input.id })
        tx:publish("frozen.added", { id = input.id }, input.id)
        local id = tx:value("select id from frozen_spec.t where id = $id", { id = input.id })
        return { id = id }
      end,
    }]],
  -- The relay holds a connection for as long as it runs.
  ["scripts/hears.lua"] = [[
    local moonpool = require "moonpool"
    return moonpool.operation {
      summary = "x", on = "frozen.added",
      run = function(tx, message)
        tx:exec("insert into frozen_spec.heard (id) values ($id)", { id = message.payload.id })
      end,
    }]],
}

files["scripts/sleeps.lua"] = [[
  local moonpool = require "moonpool"
  return moonpool.operation {
    summary = "x", read_only = true,
    run = function(tx) return { slept = tx:value "select pg_sleep(8)::text" } end,
  }]]

local CLIENTS, PATIENCE_S = 8, 40

-- Callers that call again as soon as they are answered.
local function storm(host, token)
  local self = { acknowledged = {}, failed = {}, calls = 0, slowest_s = 0 }
  local clients = {}

  local function send(client)
    self.calls = self.calls + 1
    client.id, client.since = ("call %d"):format(self.calls), host_of.clock()
    local body = json.encode { id = client.id }
    client.send((("POST /api/ops/adds HTTP/1.1|Host: a|Authorization: Bearer %s|" ..
      "Content-Type: application/json|Content-Length: %d||"):format(token, #body)
      :gsub("|", "\r\n")), body)
  end

  local function take(client)
    local answer = client.answer()
    local took = host_of.clock() - client.since
    self.slowest_s = math.max(self.slowest_s, took)
    if answer and answer.status == 200 then
      self.acknowledged[#self.acknowledged + 1] = client.id
      client.after = (client.after or 0) + 1
    else
      self.failed[#self.failed + 1] = ("%s after %.1f s: %s"):format(client.id, took,
        answer and answer.body or "no answer")
    end
  end

  for i = 1, CLIENTS do
    clients[i] = assert(http.connect(host.port))
    send(clients[i])
  end

  --- Goes on until each has had so many answers since.
  function self.go_on(n)
    for _, client in ipairs(clients) do client.after = 0 end
    local until_s = host_of.clock() + PATIENCE_S
    local function done()
      for _, client in ipairs(clients) do if client.after < n then return false end end
      return true
    end
    while not done() do
      assert(host_of.clock() < until_s, "no success: " .. table.concat(self.failed, "\n"))
      http.wait("an answer", function()
        for _, client in ipairs(clients) do
          if client.received ~= "" or client.ended then return true end
        end
      end)
      for _, client in ipairs(clients) do
        if client.received ~= "" or client.ended then
          take(client)
          send(client)
        end
      end
    end
  end

  function self.stop()
    for _, client in ipairs(clients) do take(client) end
    for _, client in ipairs(clients) do client.close() end
  end
  return self
end

describe("a primary that hangs, whose standby is promoted", function()
  local primary, second, host, frozen, token

  local function folder_of(url) return (url:match "host=([^&]*)":gsub("%%2F", "/")) end

  before_each(function()
    primary = cluster.start()
    local admin = db.open { url = primary.admin_url, max = 1 }
    admin.exec "create schema frozen_spec"
    admin.exec "create table frozen_spec.t (id text not null)"
    admin.exec "create table frozen_spec.heard (id text not null)"
    admin.exec "grant usage on schema frozen_spec to moonpool_app"
    admin.exec "grant select, insert on all tables in schema frozen_spec to moonpool_app"
    second = standby.of(primary)
    -- What is acknowledged is on the standby.
    admin.exec "alter system set synchronous_standby_names = '*'"
    admin.exec "select pg_reload_conf()"
    admin.close()
    token = service.token("", primary.env)
  end)
  after_each(function()
    if frozen then frozen:thaw() end
    if host then host:stop() end
    if second then second:stop() end
    if primary then primary:stop() end
    frozen, host, second, primary = nil, nil, nil, nil
  end)

  local function serve(url, env)
    local settings = { DATABASE_URL = url, DB_POOL_MIN = "4", DB_POOL_MAX = "6" }
    for name, value in pairs(env or {}) do settings[name] = value end
    host = service.start(files, { env = settings })
  end

  -- What was acknowledged is stored, and all that is stored is there once; so is what it published.
  local function assert_stored(calls)
    local url = primary.admin_url:gsub("host=[^&]*", "host=" .. second.dir .. "/run")
    local admin <close> = setmetatable({ db = db.open { url = url, max = 1 } },
      { __close = function(self) self.db.close() end })
    local function counts_of(name)
      local counts = {}
      local rows = admin.db.query("select id, count(*) as n from frozen_spec." .. name ..
        " group by id")
      for _, row in ipairs(rows) do counts[row.id] = row.n end
      return counts
    end
    scratch.await("the deliveries", function()
      return admin.db.value [[select not exists (select id from frozen_spec.t
                                except select id from frozen_spec.heard)]]
    end)
    local stored, heard = counts_of "t", counts_of "heard"
    for _, id in ipairs(calls.acknowledged) do
      assert.are.equal(1, stored[id], id .. " was acknowledged")
    end
    for id in pairs(stored) do assert.are.same({ 1, 1 }, { stored[id], heard[id] }, id) end
  end

  local function hang_and_promote(calls, move)
    calls.go_on(3)
    frozen = freezer.server(primary:postmaster())
    second:promote()
    if move then move() end
    local from = host_of.clock()
    calls.go_on(3)
    local took = host_of.clock() - from
    calls.stop()
    if os.getenv "MP_CALLS" then
      print(("\n%d calls, %d acknowledged, all served again after %.1f s, slowest %.1f s\n%s")
        :format(calls.calls, #calls.acknowledged, took, calls.slowest_s, host:log()))
    end
    assert.are.same({}, calls.failed)
    assert_stored(calls)
  end

  it("is left for the other one that the connection string names", function()
    local both = folder_of(primary.url) .. "," .. second.dir .. "/run"
    serve((primary.url:gsub("host=[^&]*", "host=" .. both)))
    hang_and_promote(storm(host, token))
  end)

  for workers = 1, 2 do
    it(("is left by %d workers when its address leads to the other one"):format(workers), function()
      local link = primary.folder.path .. "/address"
      local function lead_to(folder)
        assert(os.execute(("ln -sfn '%s' '%s'"):format(folder, link)))
      end
      lead_to(folder_of(primary.url))
      serve(primary.url:gsub("host=[^&]*", "host=" .. link),
            { MOONPOOL_WORKERS = tostring(workers) })
      hang_and_promote(storm(host, token), function() lead_to(second.dir .. "/run") end)
    end)
  end

  -- `moonpool run` looks at the database only while something takes long.
  it("is left by a host that does not serve, too", function()
    local both = folder_of(primary.url) .. "," .. second.dir .. "/run"
    local folder = command.folder { ["script.lua"] = [[
      local db, moonpool = require "moonpool.db", require "moonpool"
      local insert = moonpool.operation { run = function(tx)
        return tx:value "insert into frozen_spec.t values ('run') returning pg_backend_pid()::text"
      end }
      moonpool.call(insert, {})
      print "inserted"
      io.stdout:flush()
      io.read "l"
      local tasks = {}
      for i = 1, 4 do tasks[i] = moonpool.spawn(moonpool.call, insert, {}) end
      for _, task in ipairs(tasks) do task:wait() end
      print "inserted more"]] }
    local fifo = folder.path .. "/go"
    assert(os.execute("mkfifo " .. fifo))
    local process = command.start("run script.lua < " .. fifo, { dir = folder.path,
      env = { DATABASE_URL = primary.url:gsub("host=[^&]*", "host=" .. both), DB_POOL_MIN = "0",
              MOONPOOL_LOG_LEVEL = "error" } })
    local go = assert(io.open(fifo, "w"))
    assert.are.equal("inserted", process:read "l")
    frozen = freezer.server(primary:postmaster())
    second:promote()
    local from = host_of.clock()
    go:write "go\n"
    go:close()
    local output, code = command.finish(process)
    assert.are.same({ "inserted more\n", 0 }, { output, code })
    assert.is_true(host_of.clock() - from < 20)
    folder.remove()
  end)

  it("is not left because one backend hangs", function()
    serve((primary.url:gsub("host=[^&]*",
      "host=" .. folder_of(primary.url) .. "," .. second.dir .. "/run")), { DB_POOL_MIN = "1" })
    local function backend()
      return primary:ask [[select max(pid) from pg_stat_activity
        where application_name = 'moonpool host' and state is not null]]
    end
    local sleeper = host:send { ["do"] = "call", name = "sleeps", input = json.object() }
    local hung = scratch.await("the host's connection", backend)
    scratch.await("the sleeper", function()
      return primary:ask "select true from pg_stat_activity where wait_event = 'PgSleep'"
    end)
    frozen = freezer.one(hung)
    scratch.await("another connection", function()
      return primary:ask([[select true from pg_stat_activity
        where application_name = 'moonpool host' and pid <> $1::int]], hung)
    end)
    scratch.await("the state healthy", function()
      return service.ask(host, "GET", "/api/db/health").json.status == "healthy"
    end)
    assert.is_table(host:call("adds", { id = "one" }).result)
    local slept = sleeper.finish()
    assert.is_table(slept.result, json.encode(slept))
    assert.is_nil(host:log():find("read_only", 1, true), host:log())
  end)
end)
