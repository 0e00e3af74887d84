-- `moonpool check [PATHS] [--json | --sarif]`: checks scripts/ before anything runs. The host is
-- connected as the application's role to a database with the project's migrations. `--brief`, for
-- `moonpool spec`: a line for each fault, on stderr, and nothing else.
local db      = require "moonpool.db"
local errors  = require "moonpool.errors"
local host    = require "moonpool.host"
local project = require "moonpool.check.project"
local registry = require "moonpool.operation.registry"
local report  = require "moonpool.check.report"
local syntax  = require "moonpool.check.syntax"

local function usage(...)
  io.stderr:write("moonpool check: ", string.format(...), "; see: moonpool check --help\n")
  return 2
end

local function read(arguments)
  local options, paths = {}, {}
  for _, argument in ipairs(arguments) do
    local name = argument:match "^%-%-(%l+)$"
    if name == "json" or name == "sarif" or name == "brief" then options[name] = true
    elseif argument:find "^%-" then return nil, argument
    else paths[#paths + 1] = argument end
  end
  return options, paths
end

-- "scripts/place_order.lua", "./scripts/lib/", an absolute path -> what the shown name begins with
local function shown_prefix(path)
  local shown = path
  if shown:sub(1, #host.app_dir + 1) == host.app_dir .. "/" then
    shown = shown:sub(#host.app_dir + 2)
  end
  shown = shown:gsub("^%./", ""):gsub("/+$", "")
  return shown == "." and "" or shown
end

-- -> function(shown) that tells whether a file is among the paths; nil and a path that has no file
local function chosen(paths)
  if not paths[1] then return function() return true end end
  local prefixes, names = {}, registry.files()
  local function fits(shown, prefix)
    return prefix == "" or shown == prefix or shown:sub(1, #prefix + 1) == prefix .. "/"
  end
  for i, path in ipairs(paths) do
    local found = false
    prefixes[i] = shown_prefix(path)
    for _, name in ipairs(names) do
      found = found or fits("scripts/" .. name, prefixes[i])
    end
    if not found then return nil, path end
  end
  return function(shown)
    for _, prefix in ipairs(prefixes) do
      if fits(shown, prefix) then return true end
    end
    return false
  end
end

local function colour()
  return os.getenv "NO_COLOR" == nil and (os.getenv "TERM" or "dumb") ~= "dumb"
    and os.execute "test -t 1" == true
end

return function(arguments)
  local options, paths = read(arguments)
  if not options then return usage("unknown option %s", paths) end
  local wanted, stranger = chosen(paths)
  if not wanted then return usage("no file of scripts/ is at %s", stranger) end
  local missing = syntax.missing()
  if missing then
    io.stderr:write("moonpool check: ", missing, "\n")
    return 1
  end
  local ok, result = pcall(db.lease, function(conn) return project.check(conn, wanted) end)
  if not ok then
    if not errors.is(result) then error(result, 0) end
    io.stderr:write("moonpool check: ", result.message, "\n")
    return result.code == "NO_DATABASE" and 3 or 1
  end
  if options.json or options.sarif then
    print(options.sarif and report.sarif(result) or report.json(result))
  elseif options.brief then
    for _, line in ipairs(report.lines(result)) do
      io.stderr:write("moonpool check: ", line, "\n")
    end
  else
    local painted = colour()
    for _, finding in ipairs(result.findings) do
      io.stdout:write(report.finding(finding, painted), "\n")
    end
    print(report.summary(result))
  end
  return report.failed(result) and 1 or 0
end
