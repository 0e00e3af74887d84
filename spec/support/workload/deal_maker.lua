-- A host of its own, started with `moonpool run`: makes deals for one dealership, all at once, when
-- it is told to begin. Arguments: dealership, salesperson, how many, key of the advisory lock that
-- holds it back until all hosts are ready. Prints `ready`, then one line of JSON: what became of
-- the calls.
local moonpool = require "moonpool"
local db       = require "moonpool.db"

local dealership_id, salesperson_id, calls, gate = ...

db.value "select 1"
print "ready"
io.stdout:flush()
db.lease(function(conn)
  conn.value("select pg_advisory_lock_shared($1::bigint)::text", math.tointeger(gate))
  conn.value("select pg_advisory_unlock_shared($1::bigint)", math.tointeger(gate))
end)

local told = { ok = 0, failed = 0, attempts = 0, serialization = 0, connection = 0,
               most_connections = 0, errors = {},
               slowest_ms = 0 }
local work = {}
for i = 1, math.tointeger(calls) do
  work[i] = function()
    local ok, result, info = pcall(moonpool.call_info, "create_deal", {
      dealership_id = dealership_id, salesperson_id = salesperson_id,
      customer_data = { first_name = "Caller", last_name = tostring(i) },
    }, { timeout = 500 }) -- how long it takes is the machine's matter
    told.most_connections = math.max(told.most_connections,
                                     moonpool.metrics.pool().total_connections)
    if ok then
      told.ok = told.ok + 1
      told.attempts = told.attempts + info.attempts
      told.serialization = told.serialization + info.retries_serialization
      told.connection = told.connection + info.retries_connection
      told.slowest_ms = math.max(told.slowest_ms, math.floor(info.duration_ms + info.lane_ms))
    else
      told.failed = told.failed + 1
      if #told.errors < 5 then told.errors[#told.errors + 1] = tostring(result) end
    end
  end
end
local from = moonpool.host.clock()
moonpool.all(work)
told.ms = math.floor((moonpool.host.clock() - from) * 1000)
local till = moonpool.host.clock() + 20
-- what is on its way back
while moonpool.metrics.pool().active_connections > 0 and moonpool.host.clock() < till do
  moonpool.sleep(0.005)
end
local pool = moonpool.metrics.pool()
told.active, told.waiting = pool.active_connections, pool.waiting_clients
told.live = moonpool.metrics.transactions().live_transactions
print(moonpool.json.encode(told))
