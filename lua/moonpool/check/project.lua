-- moonpool.check.project: checks all files of scripts/: loads them as the host does, then follows
-- each operation from its `run`, and judges what it sends to the database.
local access   = require "moonpool.check.access"
local catalog  = require "moonpool.check.catalog"
local definitions = require "moonpool.check.definitions"
local errors   = require "moonpool.errors"
local findings = require "moonpool.check.findings"
local host     = require "moonpool.host"
local locks    = require "moonpool.check.locks"
local nearest  = require "moonpool.is.nearest"
local plans    = require "moonpool.check.plans"
local registry = require "moonpool.operation.registry"
local sandbox  = require "moonpool.script.sandbox"
local schema   = require "moonpool.is.schema"
local sorted   = require "moonpool.script.sorted"
local syntax   = require "moonpool.check.syntax"
local tenants  = require "moonpool.check.tenants"
local values   = require "moonpool.check.values"
local walk     = require "moonpool.check.walk"

local project = {}
local Project = {}
Project.__index = Project

-- -- files ----------------------------------------------------------------------------------------

-- A file that has no tree: findings need its text only.
local function bare(text, shown)
  local starts = { 1 }
  for at in text:gmatch "\n()" do starts[#starts + 1] = at end
  return { shown = shown, text = text, starts = starts, comments = {}, code = {} }
end

-- "scripts/x.lua:12: message" -> the file's name, the line, the message
local function placed(text)
  local name, line, message = text:match "^scripts/([^\n:]+):(%d+): (.*)$"
  return name, tonumber(line), message
end

-- Adds a fault that Lua or a definition raised.
local function add_fault(self, name, text, help)
  local at_name, line, message = placed(text)
  local file = self.files[at_name or name]
  if not file or file.broken then return end
  local offset = line and file.starts[line]
  if offset then offset = file.text:find("%S", offset) or offset end
  local from = offset or 1
  local to = from + #file.text:match("^[^\r\n]*", from) - 1
  self.findings:add { severity = "error", rule = "load", file = file, offset = from,
                      end_offset = to, message = message or text, help = help }
end

local function read_file(self, name)
  local text, shown = registry.text(name), "scripts/" .. name
  local file, offset, message = syntax.read(text, shown)
  if file then
    self.files[name] = file
    return
  end
  file = bare(text, shown)
  file.broken = true
  self.files[name] = file
  offset = math.min(offset, math.max(1, #text))
  self.findings:add { severity = "error", rule = "syntax", file = file, offset = offset,
                      message = message, help = "the file is not loaded until this is mended" }
end

-- Lua's own compiler knows more than the syntax: constants, labels.
local function compile(self, name)
  local file = self.files[name]
  local chunk, fault = host.load_file(host.app_dir .. "/scripts/" .. name, file.shown,
                                      file.trusted and "" or sandbox.head)
  if not chunk then add_fault(self, name, errors.is(fault) and fault.message or tostring(fault)) end
end

-- The file of scripts/ that `require "lib.tax"` loads, by its name.
local function file_of_module(self, module)
  local stem = module:gsub("%.", "/")
  for _, name in ipairs { stem .. ".lua", stem .. "/init.lua" } do
    if self.files[name] then return name end
  end
end

-- Marks the file and those that it requires: they run as operations do.
local function reach(self, name)
  local file = self.files[name]
  if file.reached or file.broken then return end
  file.reached = true
  syntax.each(file.tree, function(node)
    if node.tag ~= "Call" or node[1].tag ~= "Id" or node[1][1] ~= "require" then return end
    local other = node[2] and node[2].tag == "String" and file_of_module(self, node[2][1])
    if other then reach(self, other) end
  end)
end

-- -- require --------------------------------------------------------------------------------------

local function body_of(self, file)
  if file.value == nil then
    file.value = values.unknown -- while it is followed
    if not file.broken then file.value = walk.new(self):file_body(file) end
  end
  return file.value
end

local function cannot_require(self, at, module, node)
  local known = {}
  for name in pairs(sandbox.modules) do known[name] = true end
  for name in pairs(self.files) do known[name:gsub("%.lua$", ""):gsub("/", ".")] = true end
  local own = module:find "^moonpool%."
  local near = nearest(module, known)
  at:report("error", "require", node, own and ("%s is not for operations"):format(module)
    or ("there is no module `%s`"):format(module),
    near and near ~= module and ("did you mean %q?"):format(near)
    or not own and ("require looks for scripts/%s.lua"):format((module:gsub("%.", "/"))) or nil)
end

--- What `require` of a module gives.
function Project:require(at, module, node)
  if sandbox.modules[module] then return { kind = "module", name = module } end
  local name = file_of_module(self, module)
  if name then return body_of(self, self.files[name]) end
  local elsewhere = at.file.trusted and (module:find "^moonpool%."
    or package.searchpath(module, package.path) or package.searchpath(module, package.cpath))
  if not elsewhere then cannot_require(self, at, module, node) end
  return values.unknown
end

-- -- operations -----------------------------------------------------------------------------------

--- moonpool.call(name, …): is there such an operation?
function Project:check_call(at, name, call)
  local op, given = self.operations[name], call.arguments[2]
  if not op and not registry.broken[name] then
    at:report("error", "call", call.node[2], ("there is no operation `%s`"):format(name),
              access.advice(name, self.operations))
  elseif op and given and given.kind == "table" then
    definitions.check_input(at, op, given, call.node[3])
  end
end

--- A statement was judged by itself: does it name the tenant, what does it lock, what does it cost?
function Project:statement(at, info, call, number, tx)
  local node = call.node[number + 1] or call.node
  plans.judge(at, info, node)
  if not tx then return end
  tenants.judge(at, info, node, tx, self.tenant)
  if tx.operation and at.phase == "run" then locks.note(self, at, info, node, tx.operation) end
end

-- What `run` gets as its input.
local function input_of(op)
  local definition = op and op.input and schema.of(op.input)
  if not (op and op.on) then return { kind = "data", schema = definition, path = "input" } end
  return values.table({ payload = { kind = "data", schema = definition,
                                    path = "message.payload" } }, {}, true)
end

local function follow_operation(self, name, file)
  local made = body_of(self, file)
  if made.kind ~= "operation" or made.table.kind ~= "table" then return end
  local run, op = made.table.fields.run, self.operations[name]
  if not run or run.value.kind ~= "func" then return end
  local tx = { kind = "tx", operation = op, read_only = op and op.read_only,
               tenant = op and op.tenant }
  local steps = walk.new(self)
  if op then definitions.check(steps, op, made.table, self.tenant) end
  local results = steps:with({ phase = "run", file = file, fn = { returns = {} } }, steps.enter,
                             steps, run.value, { tx, input_of(op) })
  steps.statement = nil
  if op then definitions.check_result(steps, op, made.table, results) end
end

-- Functions that no operation calls are followed with values that are not known.
local function follow_rest(self)
  local at = 1
  while self.functions[at] do
    local func = self.functions[at]
    if not self.visited[func.node] then
      local steps = walk.new(self)
      steps:with({ phase = "rest", file = func.file, fn = { returns = {} } }, steps.enter, steps,
                 func, { guess = true })
    end
    at = at + 1
  end
end

-- The application's tenant field: that of its operations, or of its policies.
local function tenant_field(self)
  for _, op in pairs(self.operations) do
    if op.tenant then return op.tenant end
  end
  return self.catalog.tenant
end

local function load_operations(self)
  self.operations = registry.all()
  self.tenant = tenant_field(self)
  for name, fault in pairs(registry.broken) do
    local file = self.files[name .. ".lua"]
    local text = errors.is(fault) and fault.message or tostring(fault)
    if errors.is(fault) and fault.line and not placed(text) then
      text = fault.line:find ":%d+$" and fault.line .. ": " .. text or text
    end
    if file and not file.broken then add_fault(self, name .. ".lua", text) end
  end
  for path, why in pairs(registry.unreachable) do
    local file = self.files[path .. ".lua"]
    if file and not file.broken then
      self.findings:add { severity = "warning", rule = "not-operation", file = file, offset = 1,
                          message = why, help = "move or rename the file" }
    end
  end
end

-- Is it the file of an operation, by its place?
local function is_operation_file(name) return name:find "^[%a_][%w_]*%.lua$" ~= nil end

local function check_all(self)
  for _, name in ipairs(registry.files()) do read_file(self, name) end
  local names = sorted(self.files)
  for _, name in ipairs(names) do
    if is_operation_file(name) then reach(self, name) end
  end
  for _, name in ipairs(names) do
    local file = self.files[name]
    file.trusted = not file.reached
    if not file.broken then compile(self, name) end
  end
  load_operations(self)
  for _, name in ipairs(names) do
    local file = self.files[name]
    if file.reached and is_operation_file(name) then
      follow_operation(self, name:gsub("%.lua$", ""), file)
    end
  end
  locks.compare_all(self)
  for _, name in ipairs(names) do
    if not self.files[name].broken then body_of(self, self.files[name]) end
  end
  follow_rest(self)
end

---@class moonpool.check.result
---@field files integer
---@field operations integer
---@field statements integer          different SQL texts
---@field findings moonpool.check.finding[]

--- Checks scripts/ against the database over a kept connection (db.lease). `wanted(shown)`: whether
--- the findings of a file are wanted; nil: of all.
---@return moonpool.check.result
function project.check(conn, wanted)
  local self = setmetatable({ files = {}, findings = findings.new(), locks = {},
                              functions = {}, visited = {} }, Project)
  self.catalog = catalog.read(conn)
  check_all(self)
  local operations = 0
  for _ in pairs(self.operations) do operations = operations + 1 end
  return { files = #sorted(self.files), operations = operations,
           statements = self.catalog.statements, findings = self.findings:sorted(wanted) }
end

return project
