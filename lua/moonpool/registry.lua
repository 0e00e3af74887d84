-- moonpool.registry: the operations of the project: each file of scripts/ that returns one.
local errors    = require "moonpool.errors"
local host      = require "moonpool.host"
local nearest   = require "moonpool.is.nearest"
local operation = require "moonpool.operation"

local registry = { operations = {}, broken = {} }

local loaded = false

-- Runs one file; its operation, or nil and the error.
local function load_file(dir, file)
  local shown = "scripts/" .. file
  local chunk, fault = host.load_file(dir .. "/" .. file, shown)
  if not chunk then return nil, fault end
  local ok, result = pcall(chunk)
  if not ok then
    return nil, errors.is(result) and result
      or errors.new { code = "SCRIPT_ERROR", status = 500, message = tostring(result) }
  end
  if not operation.is(result) then
    return nil, errors.new { code = "SCRIPT_ERROR", status = 500, line = shown,
      message = shown .. " must return moonpool.operation { … }" }
  end
  return result
end

-- Reads all of scripts/. A broken file does not hide the others; calling it gives its error.
function registry.load()
  loaded = true
  local dir = host.app_dir .. "/scripts"
  local field
  for _, file in ipairs(host.list(dir) or {}) do
    local name = file:match "^([%a_][%w_]*)%.lua$"
    if name then
      local op, fault = load_file(dir, file)
      if op and op.tenant and field and op.tenant ~= field then
        op, fault = nil, errors.new { code = "SCRIPT_ERROR", status = 500, line = "scripts/" .. file,
          message = ("%s names the tenant `%s`, other operations `%s`: one application has one tenant field"):format(
            name, op.tenant, field) }
      end
      if op then
        op.name = name
        registry.operations[name] = op
        field = field or op.tenant
      else
        registry.broken[name] = fault
      end
    end
  end
  if field then host.set_tenant_field(field) end
end

-- All operations by name.
function registry.all()
  if not loaded then registry.load() end
  return registry.operations
end

function registry.get(name)
  if operation.is(name) then return name end
  if not loaded then registry.load() end
  if type(name) ~= "string" then error("moonpool.call: the operation's name is missing", 3) end
  local op = registry.operations[name]
  if op then return op end
  if registry.broken[name] then error(registry.broken[name], 0) end
  local known = {}
  for other in pairs(registry.operations) do known[other] = true end
  local near = nearest(name, known)
  error(errors.new { code = "UNKNOWN_OPERATION", status = 404,
    message = ("there is no operation `%s`%s"):format(name,
      near and ("; did you mean `%s`?"):format(near)
      or next(known) and "" or ": no file in " .. host.app_dir .. "/scripts returns one") }, 0)
end

return registry
