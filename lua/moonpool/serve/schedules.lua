-- moonpool.serve.schedules: runs the operations that have `every`, in a serving host.
--
-- Each schedule is a row of moonpool.schedule. An operation with `for_each` has one row for each
-- tenant; the tenants' times are spread over the interval. Each due time is run by one host: the
-- host whose UPDATE moves the row's `due` on. During the run the host holds no connection and no
-- lock for the schedule, only a lease (`held_until`). It renews the lease during the run; if the
-- host dies, the lease expires soon after. All times are those of the database's clock. Due times
-- at which no host was running are counted as missed. They are not repeated: after a pause only the
-- last due time is run, once.
local db          = require "moonpool.db"
local due         = require "moonpool.operation.due"
local errors      = require "moonpool.errors"
local generations = require "moonpool.generations"
local host        = require "moonpool.host"
local json        = require "moonpool.json"
local meters      = require "moonpool.watch.meters"
local sorted      = require "moonpool.script.sorted"
local store       = require "moonpool.outbox.store"

local schedules = {}

local LEASE_S, RENEW_S = 10, 2
local AGAIN_S     = 5       -- pause after a failure of the database
local CLOCK_S     = 10      -- between two queries of the database's clock
local TENANTS_S   = 60      -- longest time between two queries of the tenants
local MEASURE_S   = 10
local CONCURRENCY = 4       -- default of `concurrency`: tenants at a time, on one host

local known   = 0  -- the number of the generation that `entries` belong to
local entries = {} -- operation -> { due, every, for_each, jobs, queue, workers, … }
local running = {} -- the set of jobs that run on this host
local renewer
local wait_until, measure_at = 0, 0

-- -- time -----------------------------------------------------------------------------------------

local epoch, epoch_at -- the database's clock, and host.clock() when it was read

-- The time of the database's clock, in seconds since 1970.
local function now()
  if not epoch or host.clock() - epoch_at > CLOCK_S then
    epoch, epoch_at = db.value "select extract(epoch from clock_timestamp())::float8", host.clock()
  end
  return math.floor(epoch + host.clock() - epoch_at)
end

local function written(at) return os.date("!%FT%TZ", at) end

-- -- jobs -----------------------------------------------------------------------------------------

-- The number of seconds after a due time over which the tenants' times are spread. For an interval:
-- the whole interval. For a cron line, which names a time of the day: a tenth of the time to the
-- next due time, at most an hour.
local function spread_of(schedule, at)
  if schedule.interval then return schedule.interval end
  local first = schedule:next(at, due.local_offset)
  local second = first and schedule:next(first, due.local_offset)
  return second and math.max(1, math.min((second - first) // 10, 3600)) or 1
end

-- The seconds by which a tenant's times are later than the due time; the same on every host.
local function offset_of(operation, tenant, spread)
  local hash = 5381
  for _, byte in ipairs { (operation .. "\0" .. tenant):byte(1, -1) } do
    hash = (hash * 33 + byte) & 0xffffffff
  end
  return hash % spread
end

local function new_job(entry, tenant)
  local offset = tenant == "" and 0 or offset_of(entry.name, tenant, entry.spread)
  return { entry = entry, tenant = tenant, offset = offset }
end

-- Reads the operations that have a schedule, if the generation has changed.
local function read_operations()
  local number = generations.current()
  if number == known then return end
  local fresh = {}
  for _, op in ipairs(generations.operations()) do
    if op.every then
      local old = entries[op.name]
      local same = old and old.every == op.every and old.for_each == op.for_each
      local entry = same and old or { name = op.name, due = due.parse(op.every), every = op.every,
        for_each = op.for_each, jobs = {}, queue = {}, workers = 0, tenants_at = 0 }
      entry.most = op.for_each and (op.concurrency or CONCURRENCY) or 1
      if not same and not op.for_each then entry.jobs[""] = new_job(entry, "") end
      fresh[op.name] = entry
    end
  end
  for name in pairs(entries) do
    if not fresh[name] then meters.set_schedule(name, nil) end
  end
  known, entries, measure_at = number, fresh, 0
end

-- The `due` that the row of a new job starts with, as if the job had run then: `at` less the job's
-- offset, for an interval rounded down to a due time.
local function begins(job, at)
  local interval, from = job.entry.due.interval, at - job.offset
  return interval and from // interval * interval or from
end

-- Inserts the rows of new tenants, deletes the rows of tenants that are not in the list any more,
-- and then reads the due times of all tenants.
local function keep_rows(entry, tenants, at)
  local names, dues = {}, {}
  for i, tenant in ipairs(tenants) do names[i], dues[i] = tenant, begins(entry.jobs[tenant], at) end
  db.exec([[
    insert into moonpool.schedule (operation, tenant, due)
    select $1, t, to_timestamp(d) from unnest($2::text[], $3::bigint[]) as new(t, d)
    on conflict do nothing]],
    entry.name, names, dues)
  db.exec([[
    delete from moonpool.schedule
     where operation = $1 and tenant <> '' and tenant <> all($2::text[])]], entry.name, names)
  for _, row in ipairs(db.query([[
      select tenant, floor(extract(epoch from due))::bigint as due from moonpool.schedule
       where operation = $1 and tenant <> '']], entry.name)) do
    local job = entry.jobs[row.tenant]
    if job and not job.busy then job.seen, job.next = row.due, nil end
  end
end

-- Reads the current tenants of an operation with `for_each`.
local function read_tenants(entry, at)
  if not entry.for_each or host.clock() < entry.tenants_at then return end
  local again_s = math.max(1, math.min(TENANTS_S, entry.due.interval or TENANTS_S))
  entry.tenants_at = host.clock() + again_s
  local ok, rows = pcall(store.with, function(conn)
    return conn.query("select tenant from moonpool.tenants($1) as tenant", entry.for_each)
  end)
  if not ok then
    host.log(
      "error", ("%s: its tenants (for_each) cannot be read; runs of the known ones go on: %s%s")
        :format(
      entry.name, tostring(rows), errors.is(rows) and rows.sqlstate == "42501" and
      "; it is read as moonpool_system, which needs to be granted select on it" or ""))
    return
  end
  entry.spread = spread_of(entry.due, at)
  local tenants, jobs = {}, {}
  for i, row in ipairs(rows) do
    tenants[i] = row.tenant
    jobs[row.tenant] = entry.jobs[row.tenant] or new_job(entry, row.tenant)
  end
  entry.jobs = jobs
  keep_rows(entry, tenants, at)
end

-- -- a run ----------------------------------------------------------------------------------------

local function name_of(job)
  return job.tenant == "" and job.entry.name or job.entry.name .. " of tenant " .. job.tenant
end

local function row_of(job)
  return db.value([[select floor(extract(epoch from due))::bigint from moonpool.schedule
                     where operation = $1 and tenant = $2]], job.entry.name, job.tenant)
end

-- The last due time of the job's row. If it lies after the next due time, a host with a wrong clock
-- has written it, and all hosts would wait for it: it is set back.
local function read_due(job, at)
  local seen = row_of(job)
  if not seen then
    db.exec([[
      insert into moonpool.schedule (operation, tenant, due) values ($1, $2, to_timestamp($3))
      on conflict do nothing]], job.entry.name, job.tenant, begins(job, at))
    seen = row_of(job)
  end
  local ahead = job.entry.due:next(at, due.local_offset)
  if not seen or not ahead or seen <= ahead then return seen end
  local back = begins(job, at)
  host.log(
    "warn", (
      "%s: its last due time, %s, lies in the future: a clock was wrong; it is set back to %s")
    :format(name_of(job), written(seen), written(back)))
  db.exec([[
    update moonpool.schedule set due = to_timestamp($4)
     where operation = $1 and tenant = $2 and floor(extract(epoch from due))::bigint = $3]],
    job.entry.name, job.tenant, seen, back)
  return row_of(job)
end

-- Acquires a due time for this host: moves the row's `due` on. Returns false if another host was
-- faster, or still runs the job.
local function claim(job, at, missed)
  return db.exec([[
    update moonpool.schedule
       set due = to_timestamp($4), host = $5, started_at = clock_timestamp(), finished_at = null,
           runs = runs + 1, missed = missed + $6,
           failures = failures + case when held_until is null then 0 else 1 end,
           failing = failing + case when held_until is null then 0 else 1 end,
           held_until = clock_timestamp() + make_interval(secs => $7)
     where operation = $1 and tenant = $2 and floor(extract(epoch from due))::bigint = $3
       and to_timestamp($4) <= clock_timestamp()
       and (held_until is null or held_until < clock_timestamp())]],
    job.entry.name, job.tenant, job.seen, at, host.name, missed, LEASE_S) == 1
end

local function release(job, at, failure)
  db.exec([[
    update moonpool.schedule
       set held_until = null, finished_at = clock_timestamp(), last_error = $4,
           failures = failures + case when $4::text is null then 0 else 1 end,
           failing = case when $4::text is null then 0 else failing + 1 end,
           succeeded_at = case when $4::text is null then clock_timestamp() else succeeded_at end
     where operation = $1 and tenant = $2 and due = to_timestamp($3) and host = $5]],
    job.entry.name, job.tenant, at, failure, host.name)
end

-- Renews the leases of all runs on this host.
local function renew()
  local names, tenants = {}, {}
  for job in pairs(running) do
    names[#names + 1], tenants[#tenants + 1] = job.entry.name, job.tenant
  end
  if #names == 0 then
    renewer:stop()
    renewer = nil
    return
  end
  db.exec([[
    update moonpool.schedule s set held_until = clock_timestamp() + make_interval(secs => $4)
      from unnest($1::text[], $2::text[]) as run(operation, tenant)
     where s.operation = run.operation and s.tenant = run.tenant and s.host = $3
       and s.held_until is not null]],
    names, tenants, host.name, LEASE_S)
end

-- The reason why a run failed, with the id of its call.
local function reason(answer, detail)
  local id = json.decode(answer).callId
  local text = detail:match "^[^\n]*"
  return id and ("%s (call %s)"):format(text, id) or text
end

local function run(job, at)
  local name, tenant = job.entry.name, job.tenant ~= "" and job.tenant or nil
  running[job] = true
  meters.running:add(1, { operation = name })
  renewer = renewer or host.every(RENEW_S, "leases of schedules", renew)
  local _ <close> = setmetatable({}, { __close = function()
    running[job] = nil
    meters.running:add(-1, { operation = name })
  end })
  local ok, answer, _, _, detail = generations.call_json(name, nil, { tenant = tenant })
  local failure = not ok and reason(answer, detail) or nil
  meters.runs:add { operation = name, result = ok and "ok" or "failed" }
  -- The metrics are updated at once if the job has begun or ceased to fail.
  if job.failed ~= (failure ~= nil) then
    job.failed, measure_at = failure ~= nil, 0
  end
  if failure then
    host.log("error", ("%s, due at %s, failed: %s"):format(name_of(job), written(at), failure))
  end
  release(job, at, failure)
end

-- Reads the row of a job that seems to be due, and runs the job if it is due.
local function attend(job)
  local at = now()
  job.seen = read_due(job, at)
  local last, missed = job.entry.due:catch_up(job.seen, at - job.offset, due.local_offset)
  job.next = nil
  if not last or not claim(job, last, missed) then return end
  job.seen = last
  run(job, last)
end

-- SQLSTATEs of missing tables, schemas, privileges, columns and functions.
local missing = { ["42P01"] = true, ["3F000"] = true, ["42501"] = true, ["42703"] = true,
                  ["42883"] = true }

local function report(failure)
  wait_until = host.clock() + AGAIN_S
  host.log("warn", errors.is(failure) and missing[failure.sqlstate] and
    "schedules do not run: the host's own tables are not there, or older than this host; " ..
    "run `moonpool migrate up`" or "schedules: " .. tostring(failure))
end

-- The body of a worker task: runs the jobs in the operation's queue.
local function work(entry)
  while #entry.queue > 0 and not host.stopping() do
    local job = table.remove(entry.queue, 1)
    local ok, failure = pcall(attend, job)
    job.busy = nil
    if not ok then report(failure) end
  end
  entry.workers = entry.workers - 1
end

-- -- the check of all jobs ------------------------------------------------------------------------

local function is_due(job, at)
  if not job.seen then return true end
  job.next = job.next or (job.entry.due:next(job.seen, due.local_offset) or math.huge) + job.offset
  return at >= job.next
end

local function look(entry, at)
  local found = {}
  for _, job in pairs(entry.jobs) do
    if not job.busy and is_due(job, at) then found[#found + 1] = job end
  end
  table.sort(found, function(a, b) return (a.next or 0) < (b.next or 0) end)
  for _, job in ipairs(found) do
    job.busy = true
    entry.queue[#entry.queue + 1] = job
  end
  while entry.workers < entry.most and entry.workers < #entry.queue do
    entry.workers = entry.workers + 1
    host.spawn(work, entry)
  end
end

-- Updates the metrics of all schedules.
local function measure(at)
  if host.clock() < measure_at then return end
  measure_at = host.clock() + MEASURE_S
  for _, row in ipairs(db.query [[
      select operation, min(floor(extract(epoch from due)))::bigint as due, max(failing) as failing,
             count(*) filter (where failing > 0 and tenant <> '') as tenants_failing,
             coalesce(extract(epoch from max(succeeded_at)), 0)::float8 as last_success
        from moonpool.schedule group by operation]]) do
    local entry = entries[row.operation]
    if entry then
      local following = entry.due:next(row.due, due.local_offset) or at
      local behind = at - following - (entry.spread or 0)
      meters.set_schedule(row.operation, {
        late = math.max(0, behind), last_success = row.last_success,
        next_run = math.max(following, entry.due:next(at - 1, due.local_offset) or at),
        failing = entry.for_each and row.tenants_failing or row.failing })
    end
  end
end

-- Checks all schedules, and starts the jobs that are due. Must be called every second.
function schedules.tick()
  if host.clock() < wait_until then return end
  local ok, failure = pcall(function()
    read_operations()
    if not next(entries) then return end
    local at = now()
    for _, entry in pairs(entries) do
      read_tenants(entry, at)
      look(entry, at)
    end
    measure(at)
  end)
  if not ok then report(failure) end
end

-- -- for people -----------------------------------------------------------------------------------

local COLUMNS = [[tenant, due as last_due, host, started_at, finished_at, succeeded_at
                  as last_success, runs, failures, failing, missed, last_error,
                  floor(extract(epoch from due))::bigint as seen]]

local function shown(entry, row, at)
  local item, offset = {}, 0
  if row.tenant ~= "" then offset = offset_of(entry.name, row.tenant, entry.spread or 1) end
  for column, value in pairs(row) do item[column] = value end
  local following = entry.due:next(math.max(row.seen, at - offset), due.local_offset)
  item.next_due, item.seen = following and written(following + offset), nil
  item.tenant = row.tenant ~= "" and row.tenant or nil
  return item
end

-- list() -> for each schedule of the current generation { operation, every, next_due, last_due,
-- runs, missed, failures, … }; for an operation with `for_each` the same for each tenant, in
-- `tenants`, up to 1000.
function schedules.list()
  read_operations()
  local list, at = {}, now()
  for i, name in ipairs(sorted(entries)) do
    local entry = entries[name]
    local rows = db.query("select " .. COLUMNS .. [[
        from moonpool.schedule where operation = $1 and (tenant <> '') = $2
       order by tenant limit 1000]], name, entry.for_each ~= nil)
    local item = not entry.for_each and rows[1] and shown(entry, rows[1], at) or {}
    if entry.for_each then
      item.tenants = json.array()
      for n, row in ipairs(rows) do item.tenants[n] = shown(entry, row, at) end
    end
    item.next_due = item.next_due or written(entry.due:next(at, due.local_offset))
    item.operation, item.every, item.for_each = name, entry.every, entry.for_each
    list[i] = item
  end
  return list
end

return schedules
