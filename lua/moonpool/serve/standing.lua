-- moonpool.serve.standing: checks the project of a serving host: are the migrations of migrations/
-- applied to the database, and does scripts/ have any operation? The queries run as the
-- application's role. Faults are reported in the log, and by the alert `deployment` on the
-- dashboard.
local alerts      = require "moonpool.alerts"
local checksum    = require "moonpool.migrate.checksum"
local db          = require "moonpool.db"
local errors      = require "moonpool.errors"
local files       = require "moonpool.migrate.files"
local generations = require "moonpool.generations"
local host        = require "moonpool.host"
local lfs         = require "lfs"
local meters      = require "moonpool.watch.meters"
local problem     = require "moonpool.migrate.problem"
local record      = require "moonpool.migrate.record"
local system      = require "moonpool.migrate.system"

local INTERVAL_S = 30

local standing = { faults = {} }

-- "3 migrations are not applied: 0002_pears.sql, …"
local function listed(faults, names, one, many)
  if #names == 0 then return end
  local shown = table.concat(names, ", ", 1, math.min(5, #names)) .. (#names > 5 and ", …" or "")
  faults[#faults + 1] = ("%s %s: %s"):format(problem.plural(#names, "migration"),
                                             #names == 1 and one or many, shown)
end

local function compare(faults, list, by_version, rows)
  local pending, changed, missing, applied = {}, {}, {}, {}
  for _, row in ipairs(rows) do
    local file = by_version[row.version]
    applied[row.version] = true
    if not file then
      missing[#missing + 1] = row.name
    elseif not checksum.matches(file.up, row.checksum) then
      changed[#changed + 1] = file.name
    end
  end
  for _, file in ipairs(list) do
    if not applied[file.version] then pending[#pending + 1] = file.name end
  end
  listed(faults, pending, "is not applied", "are not applied")
  listed(faults, changed, "was changed after it was applied",
         "were changed after they were applied")
  listed(faults, missing, "was applied, but its file is missing",
         "were applied, but their files are missing")
end

-- Compares the database with migrations/. -> the differences, one line each. Raises if the database
-- cannot be queried. A project may be deployed without that folder: then its migrations are not
-- compared.
local function of_migrations()
  local dir, faults = host.app_dir .. "/migrations", {}
  local there = lfs.attributes(dir, "mode") == "directory"
  local rows = record.applied(db)
  if not there and #rows == 0 then return faults end
  if record.is_half_done(db) then faults[1] = "a migration is under way, or half done" end
  local ok, list, by_version = true, {}, {}
  if there then ok, list, by_version = pcall(files.all, dir) end
  if not ok then
    if not problem.is(list) then error(list, 0) end
    faults[#faults + 1] = tostring(list):match "^[^\n]*"
    return faults
  end
  if there then compare(faults, list, by_version, rows) end
  local version = system.version(db)
  if version < system.latest then
    faults[#faults + 1] = ("the host's own tables are of version %d, this host's is %d")
      :format(version, system.latest)
  end
  return faults
end

local function unknown(fault)
  if errors.is(fault) and fault.sqlstate == "42501" then
    return
      "whether the migrations are applied cannot be seen: run `moonpool migrate up` once, it \z
        grants what is needed"
  end
  return "whether the migrations are applied cannot be seen: "
    .. (errors.is(fault) and fault.message or tostring(fault))
end

--- Checks now. -> the faults, one line each; true if the migrations could be checked; if not, the
--- reason.
function standing.look()
  local ok, faults = pcall(of_migrations)
  if not ok then
    if errors.is(faults) and faults.sqlstate ~= "42501" then
      return standing.faults, false, unknown(faults)
    end
    faults = { unknown(faults) }
  end
  for _, generation in ipairs(generations.list()) do
    if generation.number == generations.current() and generation.operations == 0 then
      faults[#faults + 1] = "there is no operation: no file of scripts/ returns one"
    end
  end
  standing.faults = faults
  alerts.deployment(faults)
  meters.deployment:set(#faults)
  return faults, ok, not ok and faults[1] or nil
end

--- Raises unless all migrations are applied: for `serve --require-migrated`.
function standing.require()
  local faults, known, why = standing.look()
  if known and not faults[1] then return end
  local message = known and table.concat(faults, "\n  ") or why
  error(errors.new { code = "NOT_MIGRATED", status = 503, message = message ..
    "\nnothing is served (--require-migrated): moonpool migrate status shows more, " ..
    "moonpool migrate up applies what is pending" }, 0)
end

local told

local function tick()
  local faults = standing.look()
  local text = table.concat(faults, "; ")
  if text ~= "" and text ~= told then
    host.log("warn", text .. "; moonpool migrate status shows more")
  elseif text == "" and told and told ~= "" then
    host.log("info", "migrations and operations are as they should be again")
  end
  told = text
end

--- From now on checks every INTERVAL_S seconds, in a task, because a host must also start without
--- its database.
function standing.start()
  meters.deployment:set(0) -- until the first check
  host.spawn(function()
    tick()
    alerts.tick()
  end)
  return host.every(INTERVAL_S, "standing", tick)
end

return standing
