-- The kill matrix: create_deal through the proxy, its connection cut at one message of one
-- direction, before, within or behind it; for each of the messages. And twice: where COMMIT's
-- answer is lost, the connection that finds out what became of it is cut as well.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local caller     = require "spec.support.process.caller"
local dealership = require "spec.support.data.dealership"
local ledger     = require "spec.support.data.ledger"
local proxy      = require "spec.support.process.proxy"
local random     = require "spec.support.data.random"

local kill_matrix = {}

-- The places of a message where the connection is cut.
local function places(message)
  local list = { "before", "within 1" }
  if message.bytes > 4 then list[#list + 1] = "within " .. message.bytes // 2 end
  if message.bytes > 2 then list[#list + 1] = "within " .. message.bytes - 1 end
  list[#list + 1] = "after"
  return list
end

-- Every case of a clean run's messages. `start` is warm (the connection is there and knows all
-- statements) or cold.
local function enumerate(start, messages, cases)
  for _, message in ipairs(messages) do
    for _, place in ipairs(places(message)) do
      cases[#cases + 1] = {
        start = start, faults = { ("%s %d cut %s"):format(message.side, message.n, place) },
        about = ("%s %s %s"):format(message.side, message.name, message.command),
        commits = message.command == "COMMIT",
      }
    end
  end
end

-- All around COMMIT, and of the others as many as are wanted.
local function sample(cases, wanted, draw)
  local chosen, others = {}, {}
  for _, case in ipairs(cases) do table.insert(case.commits and chosen or others, case) end
  while #chosen < wanted and others[1] do
    local i = draw(#others)
    chosen[#chosen + 1] = others[i]
    others[i] = others[#others]
    others[#others] = nil
  end
  return chosen
end

-- COMMIT is lost, and one of the messages behind it, which belong to the question what became of
-- it, is lost too.
local function twice(messages, wanted, draw, cases)
  local commit = {}
  for _, message in ipairs(messages) do
    if message.command == "COMMIT" then commit[message.side] = message.n end
  end
  for _ = 1, wanted do
    local side, other = draw(2) == 1 and "F" or "B", draw(2) == 1 and "F" or "B"
    local place = ({ "before", "within 3", "after" })[draw(3)]
    cases[#cases + 1] = {
      start = "warm", about = "COMMIT, and again", commits = true,
      faults = { ("%s commit cut before"):format(side),
                 ("%s %d cut %s"):format(other, commit[other] + draw(60), place) },
    }
  end
end

--- Runs it on the specs' database. `cases`: how many, chosen by the seed; without it all of them.
--- `twice`: how many more are cut twice. `together`: not one call is cut, but so many at once for
--- one dealership; the one before the last names a vehicle that there is not. `group`: so many may
--- share a transaction.
---@param options { cases?: integer, twice?: integer, together?: integer, group?: integer,
---                 seed: integer }
function kill_matrix.run(options)
  local owner = db.open { url = moonpool.host.owner_url, max = 2 }
  local wire = proxy.start()
  -- One connection: which message comes when is the same in each run.
  local host = caller.start(wire:url(moonpool.host.app_url), { DB_POOL_MAX = "1" })
  local book, serial, place = ledger.new(), 0, nil

  local function new_place()
    place = dealership.new()
    place.stock = place:trade_vehicle().id
    book:place(place.id)
  end

  local size = options.together or 1

  local function input_of(key, i)
    return place:deal_input { customer_data = { first_name = "Cut", last_name = key },
                              trade_vehicle_id = place.stock,
                              vehicle_id = size > 1 and i == size - 1 and moonpool.uuid()
                                or place:vehicle().id }
  end

  local function tell(key, answer)
    if answer.ok then
      book:tell(key, "made", answer.result.deal.id, answer.result.deal.number)
    elseif size > 1 and answer.error.code == "RESOURCE_NOT_FOUND" then
      answer.refused = true
      book:tell(key, "refused")
    else
      book:tell(key, answer.error.outcome_unknown and "unknown" or "failed")
    end
  end

  local function call(faults)
    if serial % 50 < size then new_place() end
    local keys, inputs = {}, {}
    for i = 1, size do
      serial = serial + 1
      keys[i] = "call" .. serial
      inputs[i] = input_of(keys[i], i)
    end
    wire:watch(table.unpack(faults or {}))
    local answers = size == 1 and { host:call("create_deal", inputs[1]) }
      or host:call_together("create_deal", inputs, options.group)
    for i, key in ipairs(keys) do tell(key, answers[i]) end
    return answers
  end

  call()
  call()
  local cases, draw = {}, random.new(options.seed)
  local warm = wire:list()
  enumerate("warm", warm, cases)
  wire:order "drop"
  host:cold()
  call()
  enumerate("cold", wire:list(), cases)
  local all = #cases
  if options.cases then cases = sample(cases, options.cases, draw) end
  twice(warm, options.twice or 0, draw, cases)

  local told = { messages = all, cuts = 0, missed = 0, retried = 0, grouped = 0, failed = {} }
  for _, case in ipairs(cases) do
    if case.start == "warm" then
      call()
    else
      wire:order "drop"
      host:cold()
    end
    local answers = call(case.faults)
    local happened = false
    for _ = 1, 50 do -- the last messages may still be on their way
      happened = wire:order "told" ~= "none"
      if happened then break end
      moonpool.sleep(0.001)
    end
    if not happened then
      told.missed = told.missed + 1
    else
      told.cuts = told.cuts + 1
    end
    for _, answer in ipairs(answers) do
      if answer.ok and answer.info.attempts > 1 then told.retried = told.retried + 1 end
      if answer.ok and answer.info.group > 1 then told.grouped = told.grouped + 1 end
      if not answer.ok and not answer.refused then
        told.failed[#told.failed + 1] =
          ("%s, %s (%s): %s %s"):format(case.start, table.concat(case.faults, ", "), case.about,
          answer.error.code, answer.error.message)
      end
    end
  end
  wire:watch()
  host:stop()
  local report, details = book:check(owner)
  wire:stop()
  owner.close()
  for name, value in pairs(told) do report["cut_" .. name] = value end
  return report, details
end

return kill_matrix
