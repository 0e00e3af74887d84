-- Seals the audit log: what was committed is covered by a hash chain for each dealership.
--   moonpool run scripts/tools/seal_audit.lua              once
--   moonpool run scripts/tools/seal_audit.lua --every 10   until it is ended, each time 10 seconds
--                                                          after the last one
-- Several hosts may do so: one at a time seals, the others notice that and skip their turn.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local seal     = require "lib.seal"

local usage = "usage: moonpool run scripts/tools/seal_audit.lua [--once | --every SECONDS]\n"

local every
do
  local given = { ... }
  if given[1] == "--every" then
    every = tonumber(given[2])
    if not every or every <= 0 or every > 86400 then
      io.stderr:write("seal_audit: --every needs a number of seconds, at most 86400\n", usage)
      return 2
    end
    given = { table.unpack(given, 3) }
  elseif given[1] == "--once" then
    given = { table.unpack(given, 2) }
  end
  if given[1] then
    io.stderr:write("seal_audit: unknown argument ", given[1], "\n", usage)
    return 2
  end
end

local function on_seal(dealership_id, number, entries)
  print(("%s: seal %d covers %d %s"):format(dealership_id, number, entries,
                                            entries == 1 and "entry" or "entries"))
end

-- 0 or 1, as an exit status.
local function pass()
  local done = seal.seal_all(db, on_seal)
  if not done then
    if not every then print("nothing done: another host is sealing") end
    return 0
  end
  for _, failed in ipairs(done.failures) do
    io.stderr:write(("seal_audit: %s is left for the next time: %s\n"):format(failed.dealership_id,
      tostring(failed.reason)))
  end
  if not every then
    print(done.entries == 0 and "nothing to seal" or ("sealed %d entries"):format(done.entries))
  end
  return done.failures[1] and 1 or 0
end

if not every then return pass() end

while true do
  local ok, failure = pcall(pass)
  if not ok then io.stderr:write(("seal_audit: will try again: %s\n"):format(tostring(failure))) end
  io.stdout:flush()
  moonpool.sleep(every)
end
