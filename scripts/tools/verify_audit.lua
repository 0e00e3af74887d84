-- Verifies the audit log against its seals, and names the first entry of each dealership that was
-- altered, removed or inserted, and the first seal that is not what it was.
--   moonpool run scripts/tools/verify_audit.lua                    all dealerships
--   moonpool run scripts/tools/verify_audit.lua --dealership ID    one
--   moonpool run scripts/tools/verify_audit.lua --head             prints the newest seals, to keep
--                                                                  elsewhere
--   moonpool run scripts/tools/verify_audit.lua --against FILE     compares with such a print, too
-- Exit status 1 when something is wrong. Works as the application role, in a transaction of each
-- dealership: it can alter nothing. The owner of the tables could make all seals and heads again;
-- only --against shows that.
local db   = require "moonpool.db"
local is   = require "moonpool.is"
local seal = require "lib.seal"

local usage =
  "usage: moonpool run scripts/tools/verify_audit.lua [--dealership ID] [--head | --against FILE]\n"

local function refuse(text, ...)
  io.stderr:write("verify_audit: ", text:format(...), "\n", usage)
  return 2
end

-- A line of `verify_audit --head`: dealership, number of its newest seal, hash.
local function heads_in(path)
  local file, reason = io.open(path, "r")
  if not file then return nil, reason end
  local heads = {}
  for line in file:lines() do
    local id, seq, hash = line:match "^(%x+%-%x+%-%x+%-%x+%-%x+) (%d+) (%x+)$"
    if id and #hash == 64 then
      heads[id:lower()] = { seq = math.tointeger(tonumber(seq)), hash = hash:lower() }
    elseif line:find "%S" then
      file:close()
      return nil, ("%s: not a line of verify_audit --head: %s"):format(path, line)
    end
  end
  file:close()
  return heads
end

local only, heads_only, against
do
  local given, i = { ... }, 1
  while given[i] do
    local name, value = given[i], given[i + 1]
    if name == "--head" then
      heads_only = true
      i = i + 1
    elseif name == "--dealership" or name == "--against" then
      if not value then return refuse("%s needs a value", name) end
      if name == "--dealership" then
        if not pcall(is.uuid.check, is.uuid, value) then
          return refuse("%s is not the id of a dealership", value)
        end
        only = value:lower()
      else
        local reason
        against, reason = heads_in(value)
        if not against then return refuse("%s", reason) end
      end
      i = i + 2
    else
      return refuse("unknown argument %s", name)
    end
  end
end

-- One state of the tables, as the dealership itself sees them.
local function look(id, fn)
  local options = { tenant = id, isolation = "repeatable read", read_only = true, timeout = 86400 }
  return db.transaction(options, function(tx)
    return fn(function(sql, params) return tx:query(sql, params) end)
  end)
end

local ids, known = {}, {}
for _, id in ipairs(seal.dealerships(db.query)) do
  known[id] = true
  if not only or id == only then ids[#ids + 1] = id end
end
if only and not known[only] then return refuse("there is no dealership %s", only) end

if heads_only then
  for _, id in ipairs(ids) do
    local head = look(id, function(query) return seal.head(query, id) end)
    if head and head.seq > 0 then print(("%s %d %s"):format(id, head.seq, head.hash)) end
  end
  return 0
end

local function count(n, one, many) return ("%d %s"):format(n, n == 1 and one or many) end

local faulty = 0
local function report_fault(id, ...)
  faulty = faulty + 1
  for _, text in ipairs { ... } do print(id .. ": " .. text) end
end

for _, id in ipairs(ids) do
  local report = look(id, function(query) return seal.check(query, id, against and against[id]) end)
  local lines = {}
  if report.chain then lines[1] = report.chain.text end
  if report.entry then
    lines[#lines + 1] = report.entry.text
      .. (report.faults > 1 and (", the first of %d such entries"):format(report.faults) or "")
  end
  if lines[1] then
    report_fault(id, table.unpack(lines))
  else
    print(("%s: %s, %s, %d not sealed yet: as it was written"):format(id,
      count(report.seals, "seal", "seals"),
      count(report.entries, "entry", "entries"), report.pending))
  end
end
for id in pairs(against or {}) do
  if not known[id] and (not only or only == id) then
    report_fault(id, "the dealership is missing: a head of it was kept elsewhere")
  end
end
print(faulty == 0 and count(#ids, "dealership", "dealerships") .. ", nothing is wrong"
      or count(faulty, "dealership is", "dealerships are") .. " not as written")
return faulty == 0 and 0 or 1
