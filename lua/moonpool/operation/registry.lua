-- moonpool.operation.registry: the operations of the project: each file of scripts/ that returns
-- one.
local errors    = require "moonpool.errors"
local host      = require "moonpool.host"
local nearest   = require "moonpool.is.nearest"
local definition = require "moonpool.operation.definition"
local sandbox   = require "moonpool.script.sandbox"

-- unreachable: by the name that somebody would try, why the operation of a file is none
local registry = { operations = {}, broken = {}, unreachable = {} }

local loaded = false

local function script_error(line, message)
  return errors.new { code = "SCRIPT_ERROR", status = 500, line = line, message = message }
end

-- "scripts/x.lua:12", the line of the file that sets the field of a definition.
local function place_of(field, file)
  local number = 0
  for line in ((host.source and host.source(file) or "") .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    if field and line:find("%f[%w_]" .. tostring(field):gsub("%W", "%%%0") .. "%s*=") then
      return ("scripts/%s:%d"):format(file, number)
    end
  end
  return "scripts/" .. file
end

-- What ended a file that was loaded under limits, in the words of whoever wrote it.
local function too_much(fault, file)
  local limits = host.load_limits
  local why = ({
    SCRIPT_TIMEOUT    = (
      "it computed for more than %d ms while it was loaded (MOONPOOL_LOAD_TIMEOUT)")
        :format(limits.cpu_ms),
    DEADLINE_EXCEEDED = ("it took longer than %d ms to be loaded (MOONPOOL_LOAD_TIMEOUT)")
      :format(limits.cpu_ms),
    OUT_OF_MEMORY     = (
      "it needed more than %d MB of memory while it was loaded (MOONPOOL_TASK_MEMORY)"):format(
      limits.memory >> 20),
  })[errors.is(fault) and fault.code]
  if not why then return fault end
  return script_error(fault.line or "scripts/" .. file, why)
end

-- fn() under the limits of loading; a generation's task has them already.
local function limited(file, fn)
  if host.generation then return fn() end
  local started, task = pcall(host.spawn_limited, host.load_limits, fn)
  if not started then return fn() end -- in no task
  local results = table.pack(pcall(task.wait, task))
  if results[1] then return table.unpack(results, 2, results.n) end
  return false, too_much(results[2], file)
end

-- Runs one file of scripts/, and `judge` on what it returns: true and that, or false and the error.
local function run_file(file, judge)
  local chunk, fault = sandbox.load(host.app_dir .. "/scripts/" .. file, "scripts/" .. file)
  if not chunk then return false, fault end
  local ok, result = limited(file, function()
    local fine, value = pcall(function()
      local made = sandbox.as_body(chunk)
      if judge then judge(made) end
      return made
    end)
    if fine or value ~= "not enough memory" then return fine, value end
    return false, too_much(errors.new { code = "OUT_OF_MEMORY", line = host.short_at() }, file)
  end)
  if ok then return true, result end
  if not errors.is(result) then return false, script_error(nil, tostring(result)) end
  if result.field then result.line, result.field = place_of(result.field, file), nil end
  return false, result
end

-- Its operation, or nil and the error.
local function load_operation(file)
  local shown = "scripts/" .. file
  local ok, result = run_file(file, function(value)
    local op = definition.of(value)
    if not op then error(script_error(shown, "must return moonpool.operation { … }"), 0) end
    definition.check_whole(op)
  end)
  if ok then return definition.of(result) end
  return nil, result
end

-- The *.lua of scripts/ and below that belong to this state: all of its generation's, or what is on
-- disk.
function registry.files()
  local names = {}
  if host.generation then
    for name in pairs(host.generation().files) do names[#names + 1] = name end
    table.sort(names)
  else
    for _, name in ipairs(host.list(host.app_dir .. "/scripts") or {}) do
      if name:find "%.lua$" then names[#names + 1] = name end
    end
  end
  return names
end

-- The text of a file of scripts/.
local function text_of(file)
  if host.source then return host.source(file) or "" end
  local handle <close> = io.open(host.app_dir .. "/scripts/" .. file, "rb")
  return handle and handle:read "a" or ""
end

-- Does a file that is no operation give one? It is not run: what it does is its own.
local function gives_operation(file)
  local text = "\n" .. text_of(file)
  if text:find "\nreturn[^\n]-%f[%w_]operation%s*[%({]" then return true end
  local name = text:match "\nreturn%s+([%a_][%w_]*)%s*$"
  return name ~= nil and text:find("\nlocal%s+" .. name
                                   .. "%s*=[^\n]-%f[%w_]operation%s*[%({]") ~= nil
end

-- The operation's name, which is the file's: scripts/NAME.lua.
local function name_of(file)
  local name = file:match "^([%a_][%w_]*)%.lua$"
  if name or not file:find "%.lua$" or not gives_operation(file) then return name end
  local last = file:match "([^/]*)%.lua$"
  local better = last:gsub("[^%w_]+", "_"):gsub("^%d", "_%0")
  registry.unreachable[file:gsub("%.lua$", "")] =
    ("scripts/%s returns an operation that cannot be called: operations are the files of \z
      scripts/ itself, " ..
     "not of folders in it, and their names are ASCII letters, digits and _, such as \z
      scripts/%s.lua"):format(file, better)
  return nil
end

-- A subscriber cannot take the place of one that is still there.
local function check_renamed()
  for name, op in pairs(registry.operations) do
    if op.renamed_from and registry.operations[op.renamed_from] then
      registry.broken[name] = script_error(place_of("renamed_from", name .. ".lua"),
        ("renamed_from names %s, which is still there"):format(op.renamed_from))
      registry.operations[name] = nil
    end
  end
end

-- Reads all of scripts/. A broken file does not hide the others; calling it gives its error.
function registry.load()
  loaded = true
  local field
  for _, file in ipairs(registry.files()) do
    local name = name_of(file)
    if name and name ~= "smoke" then
      local op, fault = load_operation(file)
      if op and op.tenant and field and op.tenant ~= field then
        op, fault = nil, script_error("scripts/" .. file,
          ("%s names the tenant `%s`, other operations `%s`: one application has one tenant field")
            :format(
            name, op.tenant, field))
      end
      if op then
        op.name = name
        definition.limit(op)
        registry.operations[name] = op
        field = field or op.tenant
      else
        registry.broken[name] = fault
      end
    end
  end
  check_renamed()
  if field then host.set_tenant_field(field) end
end

-- Runs scripts/smoke.lua, if there is one: true, or false and the error. It raises, or returns
-- false, if this state of scripts/ must not take calls.
function registry.smoke()
  for _, file in ipairs(registry.files()) do
    if file == "smoke.lua" then
      local ok, result = run_file(file)
      if ok and result == false then
        return false, script_error("scripts/smoke.lua", "it returned false")
      end
      return ok, result
    end
  end
  return true
end

function registry.broken_names()
  local names = {}
  for name in pairs(registry.broken) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- All operations by name.
function registry.all()
  if not loaded then registry.load() end
  return registry.operations
end

-- The definition of an operation by name, or of one that was made by moonpool.operation.
function registry.get(name)
  local own = definition.of(name)
  if own then return own end
  if not loaded then registry.load() end
  if type(name) ~= "string" then error("moonpool.call: the operation's name is missing", 3) end
  local op = registry.operations[name]
  if op then return op end
  if registry.broken[name] then error(errors.new(registry.broken[name]), 0) end
  local known = {}
  for other in pairs(registry.operations) do known[other] = true end
  local why = registry.unreachable[name]
  if why then error(errors.new { code = "UNKNOWN_OPERATION", status = 404, message = why }, 0) end
  local near = nearest(name, known)
  error(errors.new { code = "UNKNOWN_OPERATION", status = 404,
    message = ("there is no operation `%s`%s"):format(name,
      near and ("; did you mean `%s`?"):format(near)
      or next(known) and "" or ": no file in " .. host.app_dir .. "/scripts returns one") }, 0)
end

return registry
