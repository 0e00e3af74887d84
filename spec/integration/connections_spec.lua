-- How many connections a host has under load: those of the pool, one for its own questions, one
-- that listens. `moonpool help deploying` says so, for whoever sets max_connections.
local command  = require "spec.support.process.command"
local http     = require "spec.support.client.http"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local outbox   = require "moonpool.outbox"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"
local test     = require "moonpool.test"

local POOL, CLIENTS, ANSWERS = 3, 12, 40

local function operation(fields, body)
  return ('local moonpool = require "moonpool"\n' ..
    'return moonpool.operation { summary = "x", %s run = function(tx) %s end }'):format(fields,
      body)
end

-- Each kind of work that asks for a connection.
local files = {
  ["scripts/conn_call.lua"] = operation("", [[
    tx:publish("connections.told", { at = tx:now() })
    tx:after_commit(function() require("moonpool.db").value "select pg_sleep(0.01)::text" end)
    return { slept = tx:value "select pg_sleep(0.05)::text" }]]),
  ["scripts/conn_lane.lua"] = operation('lane = "one", isolation = "serializable",',
    [[tx:exec "insert into connections_spec.calls default values" return {}]]),
  ["scripts/conn_hears.lua"] = operation('on = "connections.told",',
    [[tx:exec "insert into connections_spec.heard default values"]]),
  ["scripts/conn_job.lua"] = operation('every = "1s",',
    [[tx:exec "insert into connections_spec.ran default values"]]),
}

describe("a host under load", function()
  local schema, host, token, id
  setup(function()
    schema = scratch.schema("connections_spec", {
      "create table connections_spec.calls (id bigint generated always as identity)",
      "create table connections_spec.heard (id bigint generated always as identity)",
      "create table connections_spec.ran (id bigint generated always as identity)",
    })
    token, id = service.token ""
    local url = moonpool.host.app_url
    url = url .. (url:find("?", 1, true) and "&" or "?") .. "application_name=counted"
    host = service.start(files, { env = { DATABASE_URL = url, DB_POOL_MAX = tostring(POOL) } })
  end)
  teardown(function()
    host:stop()
    schema.drop()
    outbox.forget "conn_hears"
    command.run("token revoke " .. id, { dir = moonpool.app_dir })
  end)

  local allowed = { counted = POOL, ["counted host"] = 1, ["counted listen"] = 1 }

  -- The most of each kind that the server has seen at once. A connection that the host has closed
  -- and replaced can be seen for a moment longer: more than allowed counts when it stays.
  local most = {}
  local function count()
    local now
    pcall(scratch.await, "connections that were closed", function()
      now = {}
      local rows = test.admin().query [[select application_name as name, count(*) as n
        from pg_stat_activity where application_name like 'counted%' group by 1]]
      local within = true
      for _, row in ipairs(rows) do
        now[row.name] = row.n
        within = within and row.n <= (allowed[row.name] or 0)
      end
      return within
    end)
    for name, n in pairs(now) do most[name] = math.max(most[name] or 0, n) end
  end

  local function send(client, name)
    local head = "POST /api/ops/%s HTTP/1.1|Host: a|Authorization: Bearer %s|Content-Length: 2||"
    client.send((head:format(name, token):gsub("|", "\r\n")), "{}")
  end

  it("has DB_POOL_MAX connections, one for its own questions and one that listens", function()
    local clients, answers = {}, 0
    for i = 1, CLIENTS do
      clients[i] = assert(http.connect(host.port))
      send(clients[i], i % 3 == 0 and "conn_lane" or "conn_call")
    end
    local limit = moonpool.host.clock() + 60 -- a slow machine takes longer to fill the pool
    while answers < ANSWERS or (most.counted or 0) < POOL and moonpool.host.clock() < limit do
      for i, client in ipairs(clients) do
        count()
        local answer = client.answer()
        assert.are.equal(200, answer and answer.status, answer and answer.body)
        answers = answers + 1
        send(client, i % 3 == 0 and "conn_lane" or "conn_call")
      end
    end
    for _, client in ipairs(clients) do client.answer() client.close() end
    scratch.await("the deliveries", function()
      count()
      return schema.owner.value "select count(*) > 10 from connections_spec.heard"
    end)
    scratch.await("a run", function()
      count()
      return schema.owner.value "select count(*) > 0 from connections_spec.ran"
    end)
    assert.are.same(allowed, most, json.encode(most))
  end)
end)
