-- A server becomes read-only, or the address leads to another server than the connections that are open: calls go on on the
-- right server, and the host says which state it is in meanwhile.
local cluster  = require "spec.support.cluster"
local db       = require "moonpool.db"
local json     = require "moonpool.json"
local scratch  = require "spec.support.scratch"
local service  = require "spec.support.http_service"
local standby  = require "spec.support.standby"

local function operation(fields, body)
  return ('local moonpool = require "moonpool"\nreturn moonpool.operation { summary = "x", %s run = function(tx) %s end }')
    :format(fields or "", body)
end

local files = {
  ["scripts/adds.lua"]  = operation(nil, 'tx:exec "insert into failover_spec.t default values"; return { done = true }'),
  ["scripts/reads.lua"] = operation("read_only = true,", 'return { n = tx:value "select count(*) from failover_spec.t" }'),
  ["scripts/wrongs.lua"] = operation("read_only = true,", 'tx:exec "insert into failover_spec.t default values"; return {}'),
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
    host = service.start(files, { env = { DATABASE_URL = server.url, DB_POOL_MAX = "3", DB_POOL_MIN = "3" } })
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
  it("is followed: the call is done again there", function()
    local primary = cluster.start()
    local admin = table_for(primary.admin_url)
    local second = standby.of(primary)
    -- The address is a link to the folder of a server's socket.
    local link = primary.folder.path .. "/address"
    local function lead_to(folder) assert(os.execute(("ln -sfn '%s' '%s'"):format(folder, link))) end
    lead_to(second.dir .. "/run")
    local url = primary.url:gsub("host=[^&]*", "host=" .. link)
    local output
    local ok, fault = pcall(function()
      output = scratch.script([[
        local db, moonpool = require "moonpool.db", require "moonpool"
        print("reads", db.value "select pg_is_in_recovery()")
        os.execute "ln -sfn ']] .. primary.url:match "host=([^&]*)":gsub("%%2F", "/") .. [[' ']] .. link .. [['"
        local op = moonpool.operation { run = function(tx)
          tx:exec "insert into failover_spec.t default values"
          return tx:value "select pg_is_in_recovery()"
        end }
        print("operation", moonpool.call(op, {}))
      ]], { DATABASE_URL = url, DB_POOL_MIN = "2", MOONPOOL_LOG_LEVEL = "error" })
    end)
    admin.close()
    second:stop()
    primary:stop()
    assert(ok, fault)
    assert.are.equal("reads\ttrue\noperation\tfalse\n", output)
  end)
end)
