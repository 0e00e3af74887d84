-- Callers make deals while backends are ended under them: by pg_terminate_backend, by kill -9 (then
-- the whole server recovers), by an immediate stop of the server and a new start. What the callers
-- were told is compared with what is stored.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local cluster  = require "spec.support.process.cluster"
local ledger   = require "spec.support.data.ledger"
local random   = require "spec.support.data.random"

local backend_kills = {}

local busy = [[
  select pid from pg_stat_activity
   where usename = $1 and backend_type = 'client backend' order by state = 'active' desc, random()
     limit 1]]

local harm = {
  terminate = function(own, role)
    own:ask("select pg_terminate_backend(pid) from (" .. busy .. ") b", role)
  end,
  kill = function(own, role)
    local pid = own:ask(busy, role)
    if pid then os.execute(("kill -9 %d 2>/dev/null"):format(pid)) end
  end,
  stop = function(own) own:crash "QUIT" end,
}

-- When to do what: n of the calls that were answered -> a kind of harm; evenly spread, in the
-- seed's order.
local function plan(options, calls)
  local kinds, at, draw = {}, {}, random.new(options.seed)
  for _, kind in ipairs { "terminate", "kill", "stop" } do
    for _ = 1, options[kind] or 0 do table.insert(kinds, draw(#kinds + 1), kind) end
  end
  for i, kind in ipairs(kinds) do at[i * calls // (#kinds + 1)] = kind end
  return at
end

--- On a cluster of its own; or on the given one, which then stays.
--- last: called when all is done, before the check. env: further settings of the callers' host.
---@param options { callers: integer, each: integer, seed: integer, terminate?: integer,
---                 kill?: integer, stop?: integer, own?: table, last?: fun(own: table),
---                 env?: table<string, string> }
---@return table<string, integer> report of the ledger, and: harmed, retried
---@return string[] details
function backend_kills.run(options)
  local own, book = options.own or cluster.start(), ledger.new()
  local _ <close> = setmetatable({}, { __close = function() -- after a failure, too
    if not options.own then own:stop() end
  end })
  local role = own.url:match "^%a+://([^:@/]+)" or own.url:match "user=([^&]*)"
  local at, answered, harmed, failures, told = plan(options, options.callers * options.each), 0, 0,
    {}, nil
  local stream = own:script(("spec/support/workload/deal_stream.lua %d %d"):format(options.callers,
    options.each), options.env)
  for line in stream:lines() do
    local id, number, key = line:match "^made (%S+) (%S+) (%S+)$"
    local code, open, of = line:match "^failed (%S+) (%S+) (%S+)"
    if id then
      book:tell(key, "made", id, number)
    elseif code then
      book:tell(of, open == "true" and "unknown" or "failed")
      if #failures < 10 then failures[#failures + 1] = line end
    elseif line:find "^dealership " then
      book:place(line:match "%S+$")
    elseif line:find "^end " then
      told = moonpool.json.decode(line:sub(5))
    end
    if id or code then
      answered = answered + 1
      if at[answered] then
        harm[at[answered]](own, role)
        harmed = harmed + 1
      end
    end
  end
  local _, _, exit = stream:close()
  assert(exit == 0 and told, "the callers' host failed")
  if options.last then options.last(own) end
  moonpool.sleep(0) -- reading from the host has kept this one's loop from turning
  local owner = db.open { url = own.owner_url, max = 1 }
  local report, details = book:check(owner)
  owner.close()
  for _, line in ipairs(failures) do details[#details + 1] = line end
  report.harmed, report.retried, report.left = harmed, told.retried,
    told.active + told.waiting + told.live
  return report, details
end

return backend_kills
