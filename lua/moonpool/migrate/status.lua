-- moonpool.migrate.status: `status` lists the migrations and the faults; `verify` prints only the
-- faults, or that there are none. Neither acquires the lock or changes anything.
local checksum   = require "moonpool.migrate.checksum"
local db         = require "moonpool.db"
local files      = require "moonpool.migrate.files"
local indexes    = require "moonpool.migrate.indexes"
local json       = require "moonpool.json"
local objects    = require "moonpool.migrate.objects"
local problem    = require "moonpool.migrate.problem"
local record     = require "moonpool.migrate.record"
local runner     = require "moonpool.migrate.runner"
local session    = require "moonpool.migrate.session"
local system     = require "moonpool.migrate.system"

local status = {}

-- Returns one entry for each file or record, by number. Its state is applied, pending, half-done,
-- changed (the file was changed after it was applied), missing (the file is missing) or late (the
-- file is not applied, but a later one is).
local function entries_of(dir)
  local entries, by_version = {}, {}
  for _, file in ipairs(files.all(dir)) do
    local entry = { version = file.version, name = file.name, state = "pending",
                    checksum = file.checksum, file = file }
    entries[#entries + 1], by_version[file.version] = entry, entry
  end
  local newest = 0
  for _, row in ipairs(record.applied(db)) do
    local entry = by_version[row.version]
    if not entry then
      entry = { version = row.version, name = row.name, state = "missing" }
      entries[#entries + 1] = entry
    else
      entry.state = checksum.matches(entry.file.up, row.checksum) and "applied" or "changed"
    end
    entry.applied_at, entry.applied_checksum, entry.statements = row.applied_at, row.checksum,
      row.statements
    newest = math.max(newest, row.version)
  end
  for _, entry in ipairs(entries) do
    if entry.state == "pending" and entry.version < newest then entry.state = "late" end
  end
  local half = record.half_done(db)
  if half then
    local entry = by_version[half.version]
    if not entry then
      entry = { version = half.version, name = half.name }
      entries[#entries + 1] = entry
    end
    entry.state, entry.done, entry.direction = "half-done", half.done, half.direction
  end
  table.sort(entries, function(a, b) return a.version < b.version end)
  return entries
end

-- Returns one line for each fault.
local function faults_of(dir, entries, invalid)
  local faults = {}
  local function add(...) faults[#faults + 1] = string.format(...) end
  for _, entry in ipairs(entries) do
    if entry.state == "changed" then
      add("%s/%s was changed after it was applied: undo the change, and write a new migration", dir,
          entry.name)
    elseif entry.state == "missing" then
      add("%s/%s is missing: bring it back from version control", dir, entry.name)
    elseif entry.state == "late" then
      add("%s/%s is not applied, but a later one is: give it a number after all applied ones", dir,
          entry.name)
    elseif entry.state == "half-done" then
      local holder = session.holder(db)
      local word, count = entry.direction == "up" and "applied" or "undone",
        problem.plural(entry.done, "statement")
      if holder then
        add("%s is being %s right now (%s done) by %s", entry.name, word, count, holder)
      else
        add("%s is half %s (%s done): finish it with moonpool migrate %s", entry.name, word, count,
            entry.direction)
      end
    end
  end
  for _, index in ipairs(invalid) do
    if index.builder then
      add("the index %s on %s is being built by process %d", index.full, index.on, index.builder)
    else
      add("the index %s on %s is INVALID: moonpool migrate up repairs it", index.full, index.on)
    end
  end
  return faults
end

local function print_json(entries, invalid, faults, pending)
  local list, bad = json.array {}, json.array {}
  for _, entry in ipairs(entries) do
    list[#list + 1] = { version = entry.version, name = entry.name, state = entry.state,
                        checksum = entry.checksum,
                        appliedAt = entry.applied_at, appliedChecksum = entry.applied_checksum,
                        statements = entry.statements, statementsDone = entry.done,
                        direction = entry.direction }
  end
  for _, index in ipairs(invalid) do
    bad[#bad + 1] = { name = index.full, table = index.on, builtBy = index.builder }
  end
  print(json.encode { migrations = list, pending = pending, invalidIndexes = bad,
                      faults = json.array(faults),
                      sound = #faults == 0,
                      system = { version = system.version(db), latest = system.latest } })
end

local function look(dir)
  local entries, invalid, pending = entries_of(dir), indexes.invalid(db), 0
  for _, entry in ipairs(entries) do
    if entry.state == "pending" then pending = pending + 1 end
  end
  return entries, invalid, pending
end

---@return integer exit
function status.list(dir, as_json)
  local entries, invalid, pending = look(dir)
  local faults = faults_of(dir, entries, invalid)
  if as_json then
    print_json(entries, invalid, faults, pending)
    return #faults == 0 and 0 or 1
  end
  for _, entry in ipairs(entries) do
    print(
      (string.format("%-10s%-40s %s", entry.state, entry.name, entry.applied_at or ""):gsub("%s+$",
        "")))
    if entry.state == "changed" then
      print("          applied " .. entry.applied_checksum)
      print("          file    " .. entry.checksum)
    elseif entry.state == "half-done" then
      print("          " .. problem.plural(entry.done, "statement") .. " done, going "
            .. entry.direction)
    end
  end
  for _, index in ipairs(invalid) do
    print(string.format("%-10sindex %s on %s%s", index.builder and "building" or "INVALID",
                        index.full, index.on,
                        index.builder and " by process " .. index.builder or ""))
  end
  local version = system.version(db)
  if version ~= system.latest then
    print(
      string.format("the host's own tables: schema moonpool is at version %d, this host's is %d%s",
                    version, system.latest,
                    version < system.latest and ": moonpool migrate up" or ""))
  end
  print(string.format("%s, %d pending", problem.plural(#entries, "migration"), pending))
  return #faults == 0 and 0 or 1
end

--- Checks the same as `status`, and also that every part of every file can be parsed, and that the
--- database has the objects that the migrations made.
---@return integer exit
function status.verify(dir, as_json)
  local entries, invalid, pending = look(dir)
  local faults = faults_of(dir, entries, invalid)
  for _, entry in ipairs(entries) do
    for _, direction in ipairs { "up", "down" } do
      if entry.file and entry.file[direction] then
        local ok, failure = pcall(runner.read, db, entry.file, direction)
        if not ok then
          if not problem.is(failure) then error(failure, 0) end
          faults[#faults + 1] = failure.message
        end
      end
    end
  end
  local differences, noted = objects.differences()
  table.move(differences, 1, #differences, #faults + 1, faults)
  if as_json then
    print_json(entries, invalid, faults, pending)
  elseif #faults == 0 then
    print(string.format("sound: %s, %d pending, no INVALID index",
                        problem.plural(#entries, "migration"), pending))
    if not noted and pending < #entries then
      print "what they made is not noted yet, so nothing was compared: moonpool migrate up notes it"
    end
  else
    for _, fault in ipairs(faults) do io.stderr:write(fault, "\n") end
    io.stderr:write(problem.plural(#faults, "fault"), "\n")
    if differences[1] then
      io.stderr:write(
        "make it what it was, or take what is there for right: moonpool migrate verify --accept\n")
    end
  end
  return #faults == 0 and 0 or 1
end

return status
