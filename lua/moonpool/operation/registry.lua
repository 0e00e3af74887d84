-- moonpool.operation.registry: the operations of the project. Each file of scripts/ that returns an
-- operation defines one.
local errors    = require "moonpool.errors"
local host      = require "moonpool.host"
local nearest   = require "moonpool.is.nearest"
local definition = require "moonpool.operation.definition"
local sandbox   = require "moonpool.script.sandbox"
local sorted    = require "moonpool.script.sorted"

-- operations: by name. broken: by name, the error of the file. unreachable: files whose operation
-- cannot be called; by the name that a caller would try, the reason.
local registry = { operations = {}, broken = {}, unreachable = {} }

local loaded = false

local function script_error(line, message)
  return errors.new { code = "SCRIPT_ERROR", status = 500, line = line, message = message }
end

--- The text of a file of scripts/.
function registry.text(file)
  if host.source then return host.source(file) or "" end
  local handle <close> = io.open(host.app_dir .. "/scripts/" .. file, "rb")
  return handle and handle:read "a" or ""
end

-- "scripts/x.lua:12": the line at which the file sets a field of the definition.
local function place_of(field, file)
  local number = 0
  for line in (registry.text(file) .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    if field and line:find("%f[%w_]" .. tostring(field):gsub("%W", "%%%0") .. "%s*=") then
      return ("scripts/%s:%d"):format(file, number)
    end
  end
  return "scripts/" .. file
end

-- The error of a file that exceeded a limit of loading, with a message for the script's author. Any
-- other fault is returned unchanged.
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

-- Calls fn() under the limits of loading. The task of a generation has these limits already.
local function limited(file, fn)
  if host.generation then return fn() end
  local started, task = pcall(host.spawn_limited, host.load_limits, fn)
  if not started then return fn() end -- not called from a task
  local results = table.pack(pcall(task.wait, task))
  if results[1] then return table.unpack(results, 2, results.n) end
  return false, too_much(results[2], file)
end

-- Runs one file of scripts/, then judge(value) with the value that it returns. -> true and the
-- value, or false and the error
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
    return false, too_much(host.refused_memory(), file)
  end)
  if ok then return true, result end
  if not errors.is(result) then return false, script_error(nil, tostring(result)) end
  if result.field then result.line, result.field = place_of(result.field, file), nil end
  return false, result
end

-- The operation that a file returns, or nil and the error.
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

local DEEPEST = 16 -- folders below scripts/; a link may lead back

-- Adds the *.lua files of a folder of scripts/ on disk, and of the folders in it.
local function add_files(names, folder, depth)
  for _, name in ipairs(host.list(host.app_dir .. "/scripts/" .. folder) or {}) do
    if name:find "%.lua$" then
      names[#names + 1] = folder .. name
    elseif not name:find "^%." and depth < DEEPEST then
      add_files(names, folder .. name .. "/", depth + 1) -- nothing if it is no folder
    end
  end
end

-- The *.lua files of scripts/ and its folders for this Lua state: those of its generation, or,
-- outside of a generation, those on disk.
function registry.files()
  if host.generation then return sorted(host.generation().files) end
  local names = {}
  add_files(names, "", 0)
  table.sort(names)
  return names
end

-- True if a file whose name cannot be an operation's seems to return an operation. Only the text is
-- searched: the file is not run, because it may be a module with any effect.
local function gives_operation(file)
  local text = "\n" .. registry.text(file)
  if text:find "\nreturn[^\n]-%f[%w_]operation%s*[%({]" then return true end
  local name = text:match "\nreturn%s+([%a_][%w_]*)%s*$"
  return name ~= nil and text:find("\nlocal%s+" .. name
                                   .. "%s*=[^\n]-%f[%w_]operation%s*[%({]") ~= nil
end

-- The name of a file's operation: NAME of scripts/NAME.lua. nil if the file cannot be an operation.
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

-- A subscriber must not be `renamed_from` an operation that still exists.
local function check_renamed()
  for name, op in pairs(registry.operations) do
    if op.renamed_from and registry.operations[op.renamed_from] then
      registry.broken[name] = script_error(place_of("renamed_from", name .. ".lua"),
        ("renamed_from names %s, which is still there"):format(op.renamed_from))
      registry.operations[name] = nil
    end
  end
end

-- Loads all operations of scripts/. A broken file does not affect the others; a call of its
-- operation raises the error of the file.
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
  if not field then return end
  host.set_tenant_field(field)
  for _, op in pairs(registry.operations) do
    if op.tenant == nil then op.unguarded = field end
  end
end

-- Runs scripts/smoke.lua, if it exists. -> true, or false and the error. The script raises, or
-- returns false, if this state of scripts/ must not take calls.
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

function registry.broken_names() return sorted(registry.broken) end

-- All operations by name.
function registry.all()
  if not loaded then registry.load() end
  return registry.operations
end

-- The definition of an operation; `name` is its name, or the object that moonpool.operation made.
-- Raises if the operation is unknown or broken.
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
