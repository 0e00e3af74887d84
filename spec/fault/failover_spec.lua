-- A server becomes read-only, or the address leads to another server than the connections that are
-- open: calls go on on the right server, and the host says which state it is in meanwhile.
local cluster  = require "spec.support.process.cluster"
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local json     = require "moonpool.json"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"
local standby  = require "spec.support.process.standby"

local function operation(fields, body)
  return (
    'local moonpool = require "moonpool"\nreturn moonpool.operation { summary = "x", %s run = \z
      function(tx) %s end }')
    :format(fields or "", body)
end

local files = {
  ["scripts/adds.lua"]  = operation(nil,
                                    'tx:exec "insert into failover_spec.t default values"; \z
                                      return { done = true }'),
  ["scripts/reads.lua"] = operation("read_only = true,",
                                    'return { n = tx:value "select count(*) \z
                                      from failover_spec.t" }'),
  ["scripts/wrongs.lua"] = operation("read_only = true,",
                                     'tx:exec "insert into failover_spec.t default values"; \z
                                       return {}'),
}

local function health_of(host)
  local answer = service.ask(host, "GET", "/api/db/health")
  return answer.json.status, answer.status
end

local function call(host, name)
  local answer = host:call(name, json.object())
  return answer.result and "ok" or answer.error and answer.error.code or json.encode(answer), answer
end

local function table_for(url)
  local admin = db.open { url = url, max = 1 }
  admin.exec "create schema failover_spec"
  admin.exec "create table failover_spec.t (id bigint generated always as identity primary key)"
  admin.exec "grant usage on schema failover_spec to moonpool_app"
  admin.exec "grant select, insert on all tables in schema failover_spec to moonpool_app"
  return admin
end

describe("a server that becomes read-only", function()
  local server, admin, host
  setup(function()
    server = cluster.start()
    admin = table_for(server.admin_url)
    host = service.start(files,
                         { env = { DATABASE_URL = server.url, DB_POOL_MAX = "3",
                                   DB_POOL_MIN = "3" } })
  end)
  teardown(function()
    host:stop()
    admin.close()
    server:stop()
  end)

  local function set(value)
    admin.exec("alter system set default_transaction_read_only = " .. value)
    admin.exec "select pg_reload_conf()"
  end

  it("is a state of its own: writes are refused for now, reads are served", function()
    assert.are.equal("ok", (call(host, "adds")))
    set "on"
    scratch.await("the state read_only", function() return health_of(host) == "read_only" end)
    local state, status = health_of(host)
    assert.are.same({ "read_only", 503 }, { state, status })
    assert.are.equal(200, service.ask(host, "GET", "/health").status)
    local code, answer = call(host, "adds")
    assert.are.same({ "DATABASE_READ_ONLY", 503 }, { code, answer.error.status })
    assert.are.equal("ok", (call(host, "reads")))
    set "off"
    scratch.await("the state healthy", function() return health_of(host) == "healthy" end)
    assert.are.equal("ok", (call(host, "adds")))
  end)

  it("is not blamed for an operation that wished only to read", function()
    local code, answer = call(host, "wrongs")
    assert.are.same({ "READ_ONLY", 500 }, { code, answer.error.status })
  end)
end)

describe("an address that leads to another server than the connections that are open", function()
  local primary, admin, second, link, url
  setup(function()
    primary = cluster.start()
    admin = table_for(primary.admin_url)
    second = standby.of(primary)
    -- The address is a link to the folder of a server's socket.
    link = primary.folder.path .. "/address"
    url = primary.url:gsub("host=[^&]*", "host=" .. link)
  end)
  teardown(function()
    admin.close()
    second:stop()
    primary:stop()
  end)

  local function lead_to(folder) return ("ln -sfn '%s' '%s'"):format(folder, link) end

  -- Runs the code when the connections lead to the standby, and the address to the primary.
  local function run(code, min)
    assert(os.execute(lead_to(second.dir .. "/run")))
    return scratch.script(([[
      local db, moonpool = require "moonpool.db", require "moonpool"
      print("reads", db.value "select pg_is_in_recovery()")
      os.execute %q
      local insert = "insert into failover_spec.t default values returning pg_is_in_recovery()"
      %s
    ]]):format(lead_to(primary.url:match "host=([^&]*)":gsub("%%2F", "/")), code),
      { DATABASE_URL = url, DB_POOL_MIN = min or "2", MOONPOOL_LOG_LEVEL = "error" })
  end

  it("is followed: the call is done again there", function()
    assert.are.equal("reads\ttrue\noperation\tfalse\n", run [[
      local op = moonpool.operation { run = function(tx) return tx:value(insert) end }
      print("operation", moonpool.call(op, {}))]])
  end)

  it("is followed by a statement of its own", function()
    assert.are.equal("reads\ttrue\nstatement\tfalse\n",
      run [[print("statement", db.value(insert))]])
  end)

  it("is told to who keeps a connection, which nobody gets after him", function()
    assert.are.equal("reads\ttrue\nkept\tDATABASE_READ_ONLY\t503\nafter\tfalse\n", run([[
      db.lease(function(conn)
        local _, err = pcall(conn.value, insert)
        print("kept", err.code, err.status)
      end)
      print("after", db.value "select pg_is_in_recovery()")]], "1"))
  end)
end)

describe("a listener", function()
  local primary, admin, second, link, url, process
  setup(function()
    primary = cluster.start()
    admin = table_for(primary.admin_url)
    second = standby.of(primary)
    link = primary.folder.path .. "/address"
    url = primary.url:gsub("host=[^&]*", "host=" .. link)
  end)
  teardown(function()
    if process then process:close() end
    admin.close()
    second:stop()
    primary:stop()
  end)

  local function lead_to(folder)
    assert(os.execute(("ln -sfn '%s' '%s'"):format(folder, link)))
  end

  it("hears what is sent on the server that takes the writes by now", function()
    lead_to((primary.url:match "host=([^&]*)":gsub("%%2F", "/")))
    local folder = command.folder { ["script.lua"] = [[
      local db, moonpool = require "moonpool.db", require "moonpool"
      local heard
      local handle = db.listen("failover_spec", function(payload, event)
        io.write(payload or event, "\n")
        io.flush()
        heard = payload
      end)
      io.write("listens\n")
      io.flush()
      local limit = os.time() + 40
      while not heard and os.time() < limit do moonpool.sleep(0.01) end
      handle:close()]] }
    process = command.start("run script.lua", { dir = folder.path,
      env = { DATABASE_URL = url, DB_POOL_MIN = "0", MOONPOOL_LOG_LEVEL = "error" } })
    assert.are.equal("listens", process:read "l")
    second:promote()
    lead_to(second.dir .. "/run")
    admin.exec "alter system set default_transaction_read_only = on"
    admin.exec "select pg_reload_conf()"
    assert.are.equal("reconnected", process:read "l")
    local other = db.open { url = primary.admin_url:gsub("host=[^&]*", "host=" .. link), max = 1 }
    other.notify("failover_spec", "from the new primary")
    other.close()
    assert.are.equal("from the new primary", process:read "l")
    folder.remove()
  end)
end)
