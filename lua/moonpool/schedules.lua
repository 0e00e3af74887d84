-- moonpool.schedules: runs the operations that have `every` in a host that serves.
--
-- Of many hosts one runs each due time: the one whose UPDATE moves the row's `due` on (moonpool.schedule). That holds no
-- connection and no lock while the operation runs; `held_until` keeps another host from starting it meanwhile, and ends by
-- itself when the host dies. A time that nobody was there for is counted, and not made up for: after a pause the last one
-- is run, once.
local db          = require "moonpool.db"
local due         = require "moonpool.due"
local errors      = require "moonpool.errors"
local generations = require "moonpool.generations"
local host        = require "moonpool.host"
local moonpool    = require "moonpool"

local schedules = {}

local HELD_S, AGAIN_S = 60, 30 -- beyond the operation's timeout; after a failure of the database

local known   = 0  -- the generation that `entries` are of
local entries = {} -- operation -> { due, every, timeout, seen, next }
local running = {} -- operation -> true
local wait_until = 0

-- The operations with a schedule, when the generation has changed.
local function read_operations()
  local number = generations.current()
  if number == known then return end
  local fresh = {}
  for _, op in ipairs(generations.operations()) do
    if op.every then
      local old = entries[op.name]
      local same = old and old.every == op.every
      fresh[op.name] = { due = due.parse(op.every), every = op.every, timeout = op.timeout, seen = same and old.seen or nil }
    end
  end
  known, entries = number, fresh
end

-- The row's last due time; a schedule that is new begins with its next one.
local function seen_by_all(name, entry, now)
  local seen = db.value("select floor(extract(epoch from due))::bigint from moonpool.schedule where operation = $1", name)
  if seen then return seen end
  local last = entry.due.interval and now // entry.due.interval * entry.due.interval or now
  db.exec("insert into moonpool.schedule (operation, due) values ($1, to_timestamp($2)) on conflict do nothing", name, last)
  return db.value("select floor(extract(epoch from due))::bigint from moonpool.schedule where operation = $1", name)
end

-- Moves `due` on for this host; false: another host was faster, or runs it still.
local function claim(name, entry, at, missed)
  return db.exec([[
    update moonpool.schedule
       set due = to_timestamp($3), host = $4, started_at = clock_timestamp(), finished_at = null, runs = runs + 1,
           missed = missed + $5, failures = failures + case when held_until is null then 0 else 1 end,
           held_until = clock_timestamp() + make_interval(secs => $6)
     where operation = $1 and floor(extract(epoch from due))::bigint = $2
       and (held_until is null or held_until < clock_timestamp())]],
    name, entry.seen, at, host.name, missed, entry.timeout + HELD_S) == 1
end

local function release(name, at, failure)
  db.exec([[
    update moonpool.schedule
       set held_until = null, finished_at = clock_timestamp(), last_error = $3,
           failures = failures + case when $3::text is null then 0 else 1 end
     where operation = $1 and due = to_timestamp($2)]], name, at, failure)
end

local function run(name, at)
  local ok, failure = pcall(generations.call, name, nil, nil)
  if ok then failure = nil else failure = tostring(failure) end
  if failure then host.log("error", ("%s, due at %s: %s"):format(name, os.date("!%FT%TZ", at), failure)) end
  release(name, at, failure)
end

local function start(name, at)
  running[name] = true
  moonpool.spawn(function()
    local ok, failure = pcall(run, name, at)
    running[name] = nil
    if not ok then host.log("error", ("the schedule of %s: %s"):format(name, tostring(failure))) end
  end)
end

local function look(name, entry, now)
  if running[name] then return end
  entry.seen = entry.seen or seen_by_all(name, entry, now)
  if entry.next and now < entry.next then return end
  if not entry.due:catch_up(entry.seen, now, due.local_offset) then
    entry.next = entry.due:next(entry.seen, due.local_offset)
    return
  end
  entry.seen = seen_by_all(name, entry, now) -- another host may have been here
  local at, missed = entry.due:catch_up(entry.seen, now, due.local_offset)
  if not at then return end
  if claim(name, entry, at, missed) then start(name, at) end
  entry.seen, entry.next = nil, nil
end

local function report(failure)
  local code = errors.is(failure) and failure.sqlstate
  local missing = code == "42P01" or code == "3F000" or code == "42501"
  host.log("warn", missing and "schedules do not run: the host's own tables are not there; run `moonpool migrate up`"
    or "schedules: " .. tostring(failure))
end

-- One look at all schedules; starts what is due. To be called each second.
function schedules.tick()
  local now = os.time()
  if now < wait_until then return end
  local ok, failure = pcall(function()
    read_operations()
    for name, entry in pairs(entries) do look(name, entry, now) end
  end)
  if not ok then
    wait_until = now + AGAIN_S
    report(failure)
  end
end

-- list() -> for each schedule of the current generation { operation, every, next_due, last_due, runs, missed, failures, … }
function schedules.list()
  read_operations()
  local list, names = {}, {}
  for name in pairs(entries) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local entry = entries[name]
    local row = db.first([[select due, host, started_at, finished_at, runs, failures, missed, last_error
                             from moonpool.schedule where operation = $1]], name)
    local item = { operation = name, every = entry.every,
                   next_due = os.date("!%FT%TZ", entry.due:next(os.time(), due.local_offset)) }
    for column, value in pairs(row or {}) do item[column == "due" and "last_due" or column] = value end
    list[i] = item
  end
  return list
end

return schedules
