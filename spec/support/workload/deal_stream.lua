-- A host of its own, started with `moonpool run` on a database that will fail: callers that make
-- deals one after the other. Arguments: callers, deals per caller. Makes as many dealerships as
-- callers / 5, prints `dealership ID` for each, `made ID NUMBER KEY` for each deal that was
-- acknowledged, `failed CODE UNKNOWN KEY MESSAGE` for each that was not, and `end JSON`.
-- KEY is the last name of the customer.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"

local callers, each = math.tointeger((...)), math.tointeger((select(2, ...)))

local function say(...)
  io.stdout:write(table.concat({ ... }, " "), "\n")
  io.stdout:flush()
end

local places = {}
for i = 1, math.max(1, callers // 5) do
  places[i] = dealership.new()
  say("dealership", places[i].id)
end

local retried = 0
local work = {}
for i = 1, callers do
  work[i] = function()
    local place = places[i % #places + 1]
    for n = 1, each do
      local key = i .. "-" .. n
      local ok, result, info = pcall(moonpool.call_info, "create_deal", place:deal_input {
        customer_data = { first_name = "Caller", last_name = key } }, { timeout = 60 })
      if ok then
        retried = retried + info.attempts - 1
        say("made", result.deal.id, result.deal.deal_number, key)
      else
        say("failed", result.code, tostring(rawget(result, "outcome_unknown") or false), key,
            (tostring(result):gsub("\n", " ")),
            "(attempt " .. tostring(rawget(result, "attempts"))
              .. (rawget(result, "retryable") and ", retryable)" or ")"))
      end
    end
  end
end
moonpool.all(work)
for _ = 1, 1000 do
  if moonpool.metrics.pool().active_connections == 0 then break end
  db.value "select 1"
end
local pool = moonpool.metrics.pool()
say("end", moonpool.json.encode { retried = retried, active = pool.active_connections,
                                  waiting = pool.waiting_clients,
  healthy = pool.healthy, lost = pool.lost,
  live = moonpool.metrics.transactions().live_transactions })
