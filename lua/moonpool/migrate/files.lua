-- moonpool.migrate.files: reads migrations/NNNN_name.sql in their order, and writes a new file.
--
-- The text before the line `-- migrate:down` is applied; the text after it undoes the migration.
-- The checksum is made from the first part.
local checksum = require "moonpool.migrate.checksum"
local lfs      = require "lfs"
local markers  = require "moonpool.migrate.markers"
local problem  = require "moonpool.migrate.problem"

---@class moonpool.migrate.file
---@field version integer
---@field name string       "0001_core.sql"
---@field path string
---@field up string
---@field down? string
---@field down_line? integer  line of the file at which `down` begins
---@field checksum string

local files = {}

local function read(path)
  local file, reason = io.open(path, "rb")
  if not file then problem.raise("cannot read the migration: %s", reason) end
  local text = file:read "a"
  file:close()
  return text
end

local function load(dir, name)
  local file = { version = math.tointeger(tonumber(name:match "^%d+")), name = name,
                 path = dir .. "/" .. name }
  local text = read(file.path)
  if text:sub(1, 3) == "\u{FEFF}" then text = text:sub(4) end
  if text:find("\0", 1, true) then
    problem.raise("%s contains a NUL byte, which is not SQL: save it as text", file.path)
  end
  file.up, file.down, file.down_line = markers.parts(text, file.path)
  file.checksum = checksum.of(file.up)
  return file
end

--- Returns the project's migrations in the order of their numbers, and the same by number.
---@return moonpool.migrate.file[], table<integer, moonpool.migrate.file>
function files.all(dir)
  if lfs.attributes(dir, "mode") ~= "directory" then
    problem.raise(
      "there is no folder %s: run moonpool in the project's folder, or name it with --app DIR", dir)
  end
  local list, by_version = {}, {}
  for name in lfs.dir(dir) do
    if name:lower():match "%.sql$" and not name:match "^%." then
      if name:lower():match "[%._]down%.sql$" or name:match "^U%d" then
        problem.raise("%s/%s: what undoes a migration stands in the same file as what it undoes, "
                      ..
                      "behind a line `-- migrate:down`: move it there", dir, name)
      end
      if not name:match "^%d+_[%w_-]+%.sql$" then
        problem.raise(
          "%s/%s: a migration is called NNNN_name.sql, such as 0002_appointments.sql: rename it",
          dir, name)
      end
      local file = load(dir, name)
      local twin = by_version[file.version]
      if twin then
        problem.raise("%s/%s and %s have the same number %d: give one of them the next free number",
                      dir, name, twin.name,
                      file.version)
      end
      by_version[file.version] = file
      list[#list + 1] = file
    end
  end
  table.sort(list, function(a, b) return a.version < b.version end)
  return list, by_version
end

local template = [[
-- %s: what it is for.
--
-- One transaction, unless a statement cannot run in one, such as CREATE INDEX CONCURRENTLY: those
-- run alone, and what is around them in transactions of its own. Once applied, a file is not edited
-- any more: write another one.


-- migrate:down

]]

--- Writes an empty migration with the next number. Returns its path.
function files.new(dir, words)
  local name = words:lower():gsub("[%s-]+", "_"):gsub("%.sql$", "")
  if not name:match "^[a-z0-9_]+$" then
    problem.raise(
      "a migration's name is made of letters, digits and _, such as add_service_orders; not %q",
      words)
  end
  lfs.mkdir(dir)
  local list = files.all(dir)
  local last = list[#list] and list[#list].version or 0
  local path = string.format("%s/%04d_%s.sql", dir, last + 1, name)
  local file, reason = io.open(path, "wb")
  if not file then problem.raise("cannot write the migration: %s", reason) end
  file:write(string.format(template, (name:gsub("_", " "))))
  file:close()
  return path
end

return files
