-- moonpool.operation.server: what the host runs in the Lua state of a generation: it loads
-- scripts/ and serves calls.
local border        = require "moonpool.operation.border"
local checks        = require "moonpool.check.loading"
local errors        = require "moonpool.errors"
local failures      = require "moonpool.operation.failures"
local fault_text    = require "moonpool.operation.fault_text"
local host          = require "moonpool.host"
local operation     = require "moonpool.operation.call"
local output        = require "moonpool.operation.output"
local registry      = require "moonpool.operation.registry"
local sandbox       = require "moonpool.script.sandbox"
local subscriptions = require "moonpool.outbox.subscriptions"

local generation = {}

-- A list of faults, and a function that adds one. Equal faults are added once: each file that
-- requires a broken module reports the fault of the module.
local function collect()
  local texts = {}
  local function add(text)
    local plain = text:gsub(" %(in module '[^']*'%)$", "")
    if not texts[plain] then texts[#texts + 1], texts[plain] = plain, true end
  end
  return texts, add
end

-- Compiles all files. A module that no file requires at load time must compile too, because a call
-- may require it later.
local function compile_all(add)
  for _, name in ipairs(registry.files()) do
    local chunk, fault = host.load_file(host.app_dir .. "/scripts/" .. name, "scripts/" .. name,
                                        sandbox.head)
    if not chunk then add(fault_text(fault, name)) end
  end
end

local function run_smoke(add)
  local ok, fault = registry.smoke()
  if not ok then
    add("scripts/smoke.lua refuses this state of scripts/: " .. fault_text(fault, "smoke.lua"))
  end
end

-- Runs an entry that is not an operation. Its result is a text already.
local function serve_entry(name, input, options)
  return require(options.entry)(name, input, options)
end

local function prepare(name, input, options)
  local op = registry.get(name)
  host.charge(op)
  if options.far then operation.check_outside(op) end
  return op, border.decode(input)
end

local function serve_operation(name, input, options)
  options.border, options.answer_text = true, true
  local ready, op, value = pcall(prepare, name, input, options)
  if not ready then
    -- A caller may send any name. A name that does not exist is counted as "unknown".
    local there = registry.operations[name] or registry.broken[name]
    pcall(failures.tell, there and name or "unknown", op, nil, options.origin)
    error(op, 0)
  end
  return operation.call(op, value, options)
end

-- (name, JSON text, options) -> ok, JSON text, status, detail, code, message; or nil and the worker
-- that owns the call's lane
local function serve(name, input, options)
  local ok, result, owner = pcall(options.entry and serve_entry or serve_operation, name, input,
                                  options)
  if ok and result == operation.moved then return nil, owner end
  if ok then return true, result, 200 end
  local told = options.far and border.far(result) or border.public(result)
  told.call_id = told.call_id or options.origin and options.origin.call_id
  local text = border.encode(border.writable(told))
  if options.far then return false, text, told.status end
  return false, text, told.status, border.detail(result, input), told.code, told.message
end

-- Counts the operations, and warns of things that are allowed but hardly intended. It is a fault if
-- there is no operation now, but the generation before had some. -> the number of operations
local function look_at_operations(add)
  local count = 0
  for _ in pairs(registry.all()) do count = count + 1 end
  for _, why in pairs(registry.unreachable) do host.log("warn", why) end
  if count > 0 then return count end
  if host.generation().before > 0 then
    add("scripts/ has no operation now, but had some before: an empty folder, or a volume that " ..
        "is not there? Restart the host if that is meant")
  else
    host.log("warn", "there is no operation: no file of scripts/ returns one")
  end
  return count
end

-- -> the function that serves calls, and the number of operations; or nil and the faults of
-- scripts/, one line each.
function generation.open()
  generation.number = host.generation().number
  output.mode = "tell"
  errors.set_generation(generation.number)
  local texts, add = collect()
  compile_all(add)
  registry.load()
  for _, name in ipairs(registry.broken_names()) do
    add(fault_text(registry.broken[name], name .. ".lua"))
  end
  local count = not texts[1] and look_at_operations(add)
  if not texts[1] then run_smoke(add) end
  if not texts[1] then checks.judge(add) end
  if not texts[1] then subscriptions.settle_all(registry.all()) end
  if texts[1] then
    table.sort(texts)
    return nil, table.concat(texts, "\n")
  end
  return serve, count
end

return generation
