-- `moonpool new PROJECT | op NAME | migration NAME`: writes the files to begin with. Nothing that
-- exists is changed.
local host      = require "moonpool.host"
local lfs       = require "lfs"
local sorted    = require "moonpool.script.sorted"
local templates = require "moonpool.cli.templates"

local function fail(code, ...)
  io.stderr:write("moonpool new: ", string.format(...), "\n")
  return code
end

local function exists(path) return lfs.symlinkattributes(path) ~= nil end

-- Makes a folder and those above it.
local function make_folder(path)
  local above = path:match "^(.+)/[^/]*$"
  if above and not exists(above) then make_folder(above) end
  lfs.mkdir(path)
end

-- Raises what the system says.
local function write(path, text)
  make_folder(path:match "^(.+)/[^/]*$")
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local function fill(text, fields) return (text:gsub("%$(%l+)", fields)) end

local function is_empty(folder)
  for name in lfs.dir(folder) do
    if name ~= "." and name ~= ".." then return false end
  end
  return true
end

local function project(given)
  local folder = given:gsub("(.)/+$", "%1")
  if folder:sub(1, 1) ~= "/" then folder = host.app_dir .. "/" .. folder end
  if exists(folder) and (lfs.attributes(folder, "mode") ~= "directory" or not is_empty(folder)) then
    return fail(1, "%s exists and is not an empty folder; choose another name", given)
  end
  local words = folder:match "[^/]*$":gsub("[-_]+", " ")
  for _, name in ipairs(sorted(templates.project)) do
    write(folder .. "/" .. name, fill(templates.project[name], { words = words }))
    print(("%s/%s"):format(given:gsub("(.)/+$", "%1"), name))
  end
  print("\nnext:\n  cd " .. given)
  print "  moonpool migrate up\n  moonpool call add_note '{\"text\": \"Hello\"}'\n  moonpool spec"
  return 0
end

local function operation(name)
  if not name:find "^[%a_][%w_]*$" then
    return fail(2, "an operation's name is made of ASCII letters, digits and _, such as \z
      place_order; not %q", name)
  end
  local files = { ["scripts/" .. name .. ".lua"] = templates.operation,
                  ["spec/" .. name .. "_spec.lua"] = templates.spec }
  for path in pairs(files) do
    if exists(host.app_dir .. "/" .. path) then return fail(1, "%s exists already", path) end
  end
  local words = name:gsub("_+", " "):gsub("^%l", string.upper)
  for _, path in ipairs(sorted(files)) do
    write(host.app_dir .. "/" .. path, fill(files[path], { name = name, summary = words }))
    print(path)
  end
  print(("\nnext:\n  moonpool call %s '{\"text\": \"Hello\"}'\n  moonpool spec spec/%s_spec.lua")
    :format(name, name))
  return 0
end

local function migration(name)
  print(require "moonpool.migrate.files".new(host.app_dir .. "/migrations", name))
  return 0
end

local kinds = { op = operation, operation = operation, migration = migration }

return function(arguments)
  for _, word in ipairs(arguments) do
    if word:sub(1, 1) == "-" then
      return fail(2, "unknown option %q; see: moonpool new --help", word)
    end
  end
  local what, name = arguments[1], arguments[2]
  local make = kinds[what]
  if not what or make and not name then
    return fail(2, "%s; see: moonpool new --help",
      make and "the name is missing" or "say what: PROJECT, op NAME or migration NAME")
  end
  if arguments[make and 3 or 2] then
    return fail(2, "too many arguments: %q; see: moonpool new --help", arguments[make and 3 or 2])
  end
  local ok, result = pcall(make or project, make and name or what)
  if ok then return result end
  return fail(1, "%s", tostring(result):gsub("^[^ ]-%.lua:%d+: ", ""))
end
