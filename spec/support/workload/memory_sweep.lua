-- create_deal while Lua's memory fails: from the n-th block of a call on some are refused, n = 1,
-- 2, 3 … until the call asks for fewer. Whatever fails, the caller is told, nothing is left behind,
-- and the database holds all of the deal or nothing.
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local host       = require "moonpool.host"
local ledger     = require "spec.support.data.ledger"
local metrics    = require "moonpool.metrics"
local moonpool   = require "moonpool"
local output     = require "moonpool.operation.output"
local scratch    = require "spec.support.data.scratch"

local sweep = {}

local function quiet()
  local transactions, pool, lanes = metrics.transactions(), metrics.pool(), host.lanes()
  return transactions.live_transactions == 0 and pool.active_connections == 0
    and pool.waiting_clients == 0
    and lanes.active == 0 and lanes.waiting == 0
end

local function a_turn() moonpool.sleep(0) end
local function all_over() scratch.await("the end of a call that nobody waits for", quiet) end

-- Also while blocks are refused: some tries later they are not.
local function surely(fn)
  for _ = 1, 10 do
    if pcall(fn) then return end
  end
  fn()
end

-- A task of its own keeps what the call has said: handing it on may fail as well, and so may the
-- wait for it, before it began.
local function in_task(start)
  return function(input)
    local told = { done = false, ok = false, result = false }
    local ok, e = pcall(start, function()
      local fine, result = pcall(moonpool.call, "create_deal", input)
      told.done, told.ok, told.result = true, fine, result
    end)
    if not told.done then
      surely(a_turn) -- it begins
      surely(all_over)
      surely(a_turn) -- it hears its answer
    end
    if not told.done then error(ok and "nothing was told" or e, 0) end
    if not told.ok then error(told.result, 0) end
    return told.result
  end
end

--- Ways to call it: fn(input) -> result.
sweep.ways = {
  call      = function(input) return moonpool.call("create_deal", input) end,
  with_info = function(input) return (moonpool.call_info("create_deal", input)) end,
  with_key  = function(input)
    return moonpool.call("create_deal", input, { key = "sweep " .. input.customer_data.last_name })
  end,
  limited   = in_task(function(fn)
    host.spawn_limited({ cpu_ms = 10000, memory = 64 << 20 }, fn):wait()
  end),
  in_time   = in_task(function(fn) moonpool.timeout(20, fn) end),
  together  = in_task(function(fn) moonpool.all { fn, function() moonpool.sleep(0) end } end),
}

local function input_of(ours, key)
  return { dealership_id = ours.id, salesperson_id = ours.salesperson.id,
           customer_data = { first_name = "Caller", last_name = key } }
end

--- `count` blocks in a row. Gives the ledger's report and details, how many blocks a call asks for,
--- and the codes of the errors.
function sweep.run(way, count)
  -- Only specs and `moonpool call` look at results once more when they are stored; a host that
  -- serves needs no memory then.
  local mode <const> = output.mode
  local _ <close> = setmetatable({}, { __close = function() output.mode = mode end })
  output.mode = nil
  local book, ours = ledger.new(), dealership.new()
  local call, codes, n = assert(sweep.ways[way]), {}, 0
  book:place(ours.id)
  local function try(key, first)
    local input = input_of(ours, key)
    collectgarbage()
    if first then host.fault.memory("fail", first, count) end
    local ok, result = pcall(call, input)
    local asked, refused = host.fault.memory()
    if way == "with_key" and not ok and result.code == "RESULT_UNWRITABLE" then
      ok, result = pcall(call, input)
    end
    if ok then
      local deal = result.deal
      book:tell(key, "made", tostring(deal.id), tostring(deal.deal_number))
    else
      local code = type(result) == "table" and result.code or tostring(result)
      codes[code] = (codes[code] or 0) + 1
      book:tell(key, code == "OUTCOME_UNKNOWN" and "unknown" or "failed")
    end
    scratch.await("the end of what call " .. key .. " has begun", quiet)
    return refused, asked
  end
  -- what is made once: connections, prepared statements, types of parameters
  for i = 1, 3 do try("warm " .. i) end
  local refused, asked
  repeat
    n = n + 1
    refused, asked = try(tostring(n), n)
  until refused == 0
  local owner <close> = setmetatable({ db.open { url = host.owner_url, max = 1 } },
                                     { __close = function(o) o[1].close() end })
  local report, details = book:check(owner[1])
  return report, details, asked, codes
end

return sweep
