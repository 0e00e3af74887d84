-- moonpool.check.access: what a script may read and set: globals, fields of the input, columns of
-- rows, names of modules and of tx.
local nearest = require "moonpool.is.nearest"
local nullable = require "moonpool.check.nullable"
local sandbox = require "moonpool.script.sandbox"
local values  = require "moonpool.check.values"

local access = {}

local function names_of(...)
  local known = {}
  for i = 1, select("#", ...) do
    for name in (select(i, ...)):gmatch "%S+" do known[name] = true end
  end
  return known
end

local functions = names_of(sandbox.globals.functions, sandbox.globals.values, "_G")
local modules = {}
for name, names in pairs(sandbox.modules) do modules[name] = names_of(names) end

local tx_methods = names_of [[one insert query first value count exec savepoint after_commit
  on_rollback uuid now random publish flush]]
local tx_fields = names_of "attempt tenant isolation grouped caller"

local function maybe(near, form)
  return near and ("did you mean `%s`?"):format((form or "%s"):format(near)) or nil
end

local function listed(known)
  local names = {}
  for name in pairs(known) do names[#names + 1] = tostring(name) end
  table.sort(names)
  if #names > 12 then names[13] = "…" end
  return table.concat(names, ", ", 1, math.min(#names, 13))
end

--- "did you mean `x`? it has: a, b": the help for a name that is not among the known ones.
function access.advice(name, known, has)
  local near = maybe(nearest(name, known))
  local all = next(known) and (has or "there are: ") .. listed(known)
  return near and all and near .. " " .. all or near or all or nil
end

-- -- globals --------------------------------------------------------------------------------------

-- "local json = require \"moonpool.json\"" for a name that a module is usually given.
local function required(name)
  local module = name == "moonpool" and name or "moonpool." .. name
  if not modules[module] then return nil end
  return ("add at the top: local %s = require %q"):format(name, module)
end

local library_values = {}
for name in pairs(sandbox.globals.libraries) do
  library_values[name] = { kind = "module", name = name }
end

function access.global(self, node)
  local name = node[1]
  if library_values[name] then return library_values[name] end
  if functions[name] then return { kind = "member", module = "_G", name = name } end
  local file = self.file
  if file.globals and file.globals[name] or file.trusted and (_G[name] ~= nil or name == "arg") then
    return values.unknown
  end
  local known = {}
  for each in pairs(functions) do known[each] = true end
  for each in pairs(library_values) do known[each] = true end
  local outside = file.trusted and "" or _G[name] ~= nil
    and "scripts cannot reach it: what touches files, processes or other code is not for operations"
  self:report("error", "global", node, ("there is no global `%s`"):format(name),
    required(name) or outside ~= "" and outside or maybe(nearest(name, known))
    or "a variable is made with `local`")
  return values.unknown
end

function access.set_global(self, node)
  local name = node[1]
  self.file.globals = self.file.globals or {}
  self.file.globals[name] = true
  if self.file.trusted or self.phase == "load" and self.fn.main then return end
  self:report("error", "global", node, ("the global `%s` cannot be set in a call"):format(name),
    ("globals are frozen once the file is loaded: make it local: local %s"):format(name))
end

--- A variable of the file is changed: that is a fault inside of `run`.
function access.keeps_state(self, node, name)
  if self.phase ~= "run" then return end
  self:report("warning", "state", node,
    ("`%s` belongs to the file: what is set here is seen by other calls, and stays when the \z
      transaction is rolled back or run again"):format(name),
    ("make it local in `run`, or keep it in the database or moonpool.cache"))
end

-- -- reading --------------------------------------------------------------------------------------

--- The name or number that a key is, and true; nil, false if it is not known.
function access.key_of(key)
  if key.kind == "number" and key.n then return key.n, true end
  if key.kind ~= "text" then return nil, false end
  local name, whole = values.plain(key)
  return whole and name or nil, whole
end

local read = {}

local function fault(rule, message, help)
  return nil, { rule = rule, message = message, help = help }
end

function read.table(base, name, known)
  if not known then
    local list = { base.open and values.unknown or nil }
    for _, cell in pairs(base.fields) do list[#list + 1] = cell.value end
    for _, cell in ipairs(base.items) do list[#list + 1] = cell.value end
    list[#list + 1] = values.none
    return values.union(table.unpack(list))
  end
  local cell = base.fields[name] or base.items[name]
  if cell then return cell.value end
  local index = base.meta and base.meta.fields.__index
  if index and index.value.kind == "table" then return read.table(index.value, name, true) end
  return (base.open or index) and values.unknown or values.none
end

function read.module(base, name, known, self)
  if not known then return values.unknown end
  local inner = base.name .. "." .. tostring(name)
  if modules[inner] then return { kind = "module", name = inner } end
  local names = modules[base.name] or sandbox.globals.libraries[base.name]
    and names_of(sandbox.globals.libraries[base.name])
  if names and not names[name] and not self.file.trusted then
    return fault("name", ("%s has no `%s`"):format(base.name, tostring(name)),
                 access.advice(tostring(name), names, "it has: "))
  end
  return { kind = "member", module = base.name, name = name }
end

function read.data(base, name, known, self)
  local schema = base.schema
  local path = base.path .. (known and "." .. tostring(name) or "[…]")
  if not schema then return { kind = "data", path = path } end
  if schema.kind == "object" and known then
    local field = schema.fields[name]
    if not field and self.added[path] then return self.added[path] end
    if not field then
      return fault("input-field", ("`%s` has no field `%s`"):format(base.path, tostring(name)),
                   access.advice(tostring(name), schema.fields, "it has: "))
    end
    return { kind = "data", schema = field, path = path }
  end
  if schema.kind == "array" and (not known or math.type(name)) or schema.kind == "map" then
    return { kind = "data", schema = schema.item, path = path }
  end
  return { kind = "data", path = path }
end

function read.row(base, name, known)
  local path = (base.name or "row") .. "." .. tostring(name or "[…]")
  if not (known and base.columns) then return { kind = "column", type = 0, path = path } end
  local column = base.columns[name]
  if not column then
    return fault("row-field", ("the row has no column `%s`"):format(tostring(name)),
                 access.advice(tostring(name), base.columns, "the statement gives: "))
  end
  return { kind = "column", type = column.type, nullable = column.nullable, path = path }
end

function read.rows(base, name, known)
  if known and type(name) == "string" then
    return fault("row-field", ("this is an array of rows, which has no `%s`"):format(name),
                 ("read one row, as in rows[1].%s, or get a single row with tx:one or tx:first")
                   :format(name))
  end
  return base.row
end

function read.tx(base, name)
  if tx_methods[name] then return { kind = "tx_method", tx = base, name = name } end
  if tx_fields[name] then return values.unknown end
  return fault("name", ("there is no tx.%s"):format(tostring(name)),
               access.advice(tostring(name), tx_fields))
end

function read.conn(_, name) return { kind = "member", module = "moonpool.db", name = name } end

--- base[key]. A field that none of the possible values has is reported.
function access.index(self, _, base, key, key_node)
  local name, known = access.key_of(key)
  local list, first, good = {}, nil, false
  for _, member in ipairs(values.members(base)) do
    local reader = read[member.kind]
    local value, wrong = values.unknown, nil
    if reader then value, wrong = reader(member, name, known, self) end
    if member.perhaps and base.kind == "union" then nullable.read(self, key_node, member) end
    if member.kind ~= "none" then
      list[#list + 1] = value or values.unknown
      first, good = first or wrong, good or not wrong
    end
  end
  if first and not good then
    self:report("error", first.rule, key_node, first.message, first.help)
  end
  return list[1] and values.union(table.unpack(list)) or values.unknown
end

-- -- methods --------------------------------------------------------------------------------------

local string_like = { text = true, data = true, column = true, unknown = true }

local function one_method(self, node, object, name)
  if object.kind == "tx" then
    if tx_methods[name] then return { kind = "tx_method", tx = object, name = name } end
    self:report("error", "name", node[2], ("there is no tx:%s"):format(name),
                access.advice(name, tx_methods, "tx has: "))
    return values.unknown
  end
  if object.kind == "module" and modules[object.name] then
    self:report("error", "name", node[2], ("%s is a module: its functions are called with a dot")
      :format(object.name), ("write .%s( instead of :%s("):format(name, name))
    return values.unknown
  end
  if object.kind == "table" then return read.table(object, name, true) end
  if string_like[object.kind] then return { kind = "member", module = "method", name = name } end
  return values.unknown
end

function access.method(self, node, object, name)
  local list = {}
  for _, member in ipairs(values.members(values.present(object))) do
    list[#list + 1] = one_method(self, node, member, name)
  end
  return values.union(table.unpack(list))
end

-- -- setting, comparing ---------------------------------------------------------------------------

-- t[#t + 1]
local function appends(node)
  return node.tag == "Op" and node[1] == "add" and node[2].tag == "Op" and node[2][1] == "len"
end

--- Adds a value behind the others of a table.
function access.append(self, base, value)
  if self.looping then
    base.open = true
    return
  end
  local cell = values.cell()
  base.items[#base.items + 1] = cell
  self:write(cell, value)
end

function access.set_index(self, base, key, value, key_node)
  local name, known = access.key_of(key)
  for _, member in ipairs(values.members(base)) do
    -- The checked input is the call's own copy.
    if member.kind == "data" and known then self.added[member.path .. "." .. name] = value end
    if member.kind == "table" then
      if known then
        local cell = member.fields[name] or member.items[name] or values.cell()
        if math.type(name) and not member.items[name] then member.open = true end
        member.fields[name] = cell
        if value.kind == "none" then value = values.unknown end -- it may be set elsewhere
        self:write(cell, value)
      elseif appends(key_node) then
        access.append(self, member, value)
      else
        member.open = true
      end
    end
  end
end

return access
