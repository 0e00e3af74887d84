-- A connection string with several servers of which one is silent: it takes connections, or does
-- not even that, and never says a word. Each has its share of the time, then the next one; what was
-- silent is tried last for a while.
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local moonpool = require "moonpool"
local proxy    = require "spec.support.process.proxy"
local scratch  = require "spec.support.data.scratch"
local uv       = require "luv"

-- A port that takes connections and never speaks; with `full`, it does not even take any more.
local function silent_port(full, address, number)
  local server = uv.new_tcp()
  assert(server:bind(address or "127.0.0.1", number or 0))
  server:listen(full and 1 or 100, function() end)
  local port, clients = server:getsockname().port, {}
  for i = 1, full and 8 or 0 do
    clients[i] = uv.new_tcp()
    clients[i]:connect("127.0.0.1", port, function() end)
  end
  return port, function()
    for _, client in ipairs(clients) do client:close() end
    server:close()
    uv.run "nowait"
  end
end

-- Connects to servers in this order and tells how long the first and the second connection took.
local script = [[
  local db, host = require "moonpool.db", require "moonpool.host"
  local function timed(what, fn)
    local from = host.clock()
    local ok, value = pcall(fn)
    print(what, ok, ok and value or value.code, host.clock() -
      from, ok or value.sqlstate, ok or value.message)
  end
  timed("first", function() return db.value "select 42" end)
  local other = db.open { max = 1 }
  timed("second", function() return other.value "select 43" end)
  print("health", require("moonpool.metrics").health().state)
]]

describe("a connection string with several servers", function()
  local wire
  setup(function() wire = proxy.start() end)
  teardown(function() wire:stop() end)

  local function run(hosts, more, env)
    local url = wire:url(moonpool.host.app_url):gsub("@127%.0%.0%.1:%d+/", "@" .. hosts .. "/")
      .. (more or "")
    local settings = { DATABASE_URL = url, DB_POOL_MIN = "0", MOONPOOL_LOG_LEVEL = "error" }
    for name, value in pairs(env or {}) do settings[name] = value end
    local output = scratch.script(script, settings)
    local seen = {}
    for what, ok, value, took, sqlstate, message in
      output:gmatch "(%a+)\t(%a+)\t(%S+)\t([%d.e-]+)\t(%S+)\t([^\n]*)" do
      seen[what] = { ok = ok == "true", value = value, took = tonumber(took), sqlstate = sqlstate,
                     message = message }
    end
    seen.health = output:match "health\t(%S+)"
    return seen, output
  end

  for kind, full in pairs { ["takes connections and never speaks"] = false,
                            ["does not take connections any more"] = true } do
    it("goes on to the next when the first " .. kind, function()
      local port, close = silent_port(full)
      local seen, output = run(("127.0.0.1:%d,127.0.0.1:%d"):format(port, wire.port),
                               "&connect_timeout=2")
      close()
      assert.are.equal("42", seen.first.value, output)
      assert.is_true(seen.first.took < 6, output)
      assert.are.equal("43", seen.second.value, output)
      assert.is_true(seen.second.took < 1.5, output) -- it knows by now whom to ask first
      assert.are.equal("healthy", seen.health, output)
    end)
  end

  it("shares DB_CONNECT_TIMEOUT among its servers, and honours target_session_attrs", function()
    local port, close = silent_port(false)
    local seen, output = run(("127.0.0.1:%d,127.0.0.1:%d"):format(port, wire.port),
                             "&target_session_attrs=read-write",
      { DB_CONNECT_TIMEOUT = "3000" })
    close()
    assert.are.equal("42", seen.first.value, output)
    assert.is_true(seen.first.took < 2.9, output)
  end)

  it("ends with one error that names who was silent, when all are", function()
    local one, close_one = silent_port(false)
    local two, close_two = silent_port(false)
    local seen, output = run(("127.0.0.1:%d,127.0.0.1:%d"):format(one, two), nil,
                             { DB_CONNECT_TIMEOUT = "600" })
    close_one()
    close_two()
    assert.are.same({ false, "NO_DATABASE" }, { seen.first.ok, seen.first.value }, output)
    assert.matches("no answer", seen.first.message, nil, true)
    assert.are.equal("unreachable", seen.health, output)
  end)

  it("names the reason when a server refuses", function()
    local seen, output = run(("127.0.0.1:1,127.0.0.1:%d"):format(wire.port),
                             "&dbname=no_such_database")
    assert.are.same({ "NO_DATABASE", "3D000" }, { seen.first.value, seen.first.sqlstate }, output)
    assert.are.equal("unreachable", seen.health, output)
  end)

  describe("that is one name of several addresses", function()
    local function ask(addresses)
      local env = command.preloaded { NAME_OF_SEVERAL = "db.moonpool.test," .. addresses }
      return run(("db.moonpool.test:%d"):format(wire.port), "&connect_timeout=2", env)
    end

    it("goes on to the next address when the first refuses", function()
      local seen, output = ask "127.0.0.2,127.0.0.1"
      assert.are.equal("42", seen.first.value, output)
      assert.are.equal("43", seen.second.value, output)
    end)

    it("goes on to the next address when the first is silent, and tries it last then", function()
      local _, close = silent_port(false, "127.0.0.2", wire.port)
      local seen, output = ask "127.0.0.2,127.0.0.1"
      close()
      assert.are.equal("42", seen.first.value, output)
      assert.is_true(seen.first.took > 1 and seen.first.took < 6, output)
      assert.are.equal("43", seen.second.value, output)
      assert.is_true(seen.second.took < 1.5, output)
    end)

    it("names the address that was silent", function()
      local _, close = silent_port(false, "127.0.0.2", wire.port)
      local seen, output = ask "127.0.0.2"
      close()
      assert.are.same({ false, "NO_DATABASE" }, { seen.first.ok, seen.first.value }, output)
      assert.matches("127.0.0.2:" .. wire.port, seen.first.message, nil, true)
    end)
  end)
end)

-- Otherwise a half-open connection would hold its locks on the server, and its caller here, for
-- hours.
describe("a connection over TCP", function()
  local wire, folder
  setup(function()
    wire = proxy.start()
    folder = command.folder {}
  end)
  teardown(function()
    wire:stop()
    folder.remove()
  end)

  -- The options of its socket by their numbers in Linux, and what the server is told.
  local function options_of(name, more)
    local file = folder.path .. "/" .. name
    local output = scratch.script([[
      local db = require "moonpool.db"
      for row in db.stream "select name, reset_val from pg_settings where name like 'tcp%'" do
        print(row.name, row.reset_val)
      end]],
      command.preloaded { SOCKET_OPTIONS = file, DB_POOL_MIN = "0",
                          DATABASE_URL = wire:url(moonpool.host.app_url) .. more })
    local set = {}
    for line in io.lines(file) do
      local level, option, value = line:match "(%d+) (%d+) (%d+)"
      set[level .. " " .. option] = tonumber(value)
    end
    return { alive = set["1 9"], idle = set["6 4"], interval = set["6 5"], count = set["6 6"],
             user_timeout = set["6 18"] }, output
  end

  it("is given up by both sides within half a minute when nothing answers", function()
    local set, output = options_of("usual", "")
    assert.are.same({ alive = 1, idle = 10, interval = 5, count = 3, user_timeout = 25000 }, set)
    assert.matches("tcp_keepalives_idle\t10", output)
    assert.matches("tcp_keepalives_interval\t5", output)
    assert.matches("tcp_keepalives_count\t3", output)
    assert.matches("tcp_user_timeout\t25000", output)
  end)

  it("has what the connection string says instead", function()
    local set = options_of("others", "&keepalives_idle=33&tcp_user_timeout=7000")
    assert.are.same({ alive = 1, idle = 33, interval = 5, count = 3, user_timeout = 7000 }, set)
  end)
end)

describe("a pool of db.open whose server falls silent", function()
  it("uses none of its other connections there, and goes to the next server", function()
    local first, second = proxy.start(), proxy.start()
    local url = first:url(moonpool.host.app_url)
      :gsub("@127%.0%.0%.1:%d+/", ("@127.0.0.1:%d,127.0.0.1:%d/"):format(first.port, second.port))
    local pool = db.open { url = url, max = 3 }
    local function ask() return pool.value "select pg_sleep(0.05)::text" end
    moonpool.all { ask, ask, ask }
    second:watch()
    first:watch "B 1 freeze"
    local ok, e = pcall(pool.lease, function(conn) return conn.value "select 1" end,
      { timeout = 0.1 })
    assert.is_false(ok, e)
    assert.are.same({}, second:list())
    assert.are.equal(1, pool.value "select 1")
    assert.truthy(#second:list() > 0)
    pool.close()
    first:stop()
    second:stop()
  end)

  it("breaks those that are in use, as soon as another server has answered", function()
    local first, second = proxy.start(), proxy.start()
    local url = first:url(moonpool.host.app_url)
      :gsub("@127%.0%.0%.1:%d+/", ("@127.0.0.1:%d,127.0.0.1:%d/"):format(first.port, second.port))
    local pool = db.open { url = url, max = 3 }
    local function ask() return pool.value "select pg_sleep(0.05)::text" end
    moonpool.all { ask, ask, ask }
    first:watch("B 1 freeze", "B 2 freeze", "B 3 freeze")
    local function wait()
      return pcall(pool.lease, function(conn) return conn.value "select 1" end, { timeout = 60 })
    end
    local a, b = moonpool.spawn(wait), moonpool.spawn(wait)
    pcall(pool.lease, function(conn) return conn.value "select 1" end, { timeout = 0.1 })
    assert.are.equal(1, pool.value "select 1")
    for _, task in ipairs { a, b } do
      local ok, e = task:wait()
      assert.is_false(ok)
      assert.matches("no longer answers", e.message)
    end
    pool.close()
    first:stop()
    second:stop()
  end)
end)
