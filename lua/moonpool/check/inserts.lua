-- moonpool.check.inserts: judges tx:insert and db.insert, whose SQL the host writes.
local access     = require "moonpool.check.access"
local parameters = require "moonpool.check.parameters"
local sorted     = require "moonpool.script.sorted"
local values     = require "moonpool.check.values"

local inserts = {}

--- The server's message without its hint, which the host appends.
function inserts.message(fault)
  local tail = fault.hint and " (" .. fault.hint .. ")"
  local message = fault.message
  return tail and message:sub(-#tail) == tail and message:sub(1, -#tail - 1) or message
end

-- The text that the host would send; nil if not all columns are known.
local function text_of(name, given)
  local columns, parts = sorted(given.fields), {}
  if given.open or not columns[1] then return nil end
  for i, column in ipairs(columns) do
    columns[i], parts[i] = ('"%s"'):format(column), "$" .. column
  end
  return ("insert into %s (%s) values (%s) returning *"):format(
    '"' .. name:gsub("%.", '"."') .. '"', table.concat(columns, ", "), table.concat(parts, ", "))
end

local function check_given(self, call, at, target, given)
  local right = true
  for name, cell in pairs(given.fields) do
    local column, node = target.columns[name], given.keys and given.keys[name]
    if not column then
      right = false
      self:report("error", "insert", node or call.node[at + 2] or call.node,
        ("%s has no column `%s`"):format(target.name, tostring(name)),
        access.advice(tostring(name), target.columns, "it has: "))
    else
      parameters.column(self, cell.node or call.node[at + 2] or call.node, cell.value, column,
                        target.name)
    end
  end
  return right
end

local function check_missing(self, call, at, target, given)
  local missing = {}
  for _, column in ipairs(target.list) do
    local cell = given.fields[column.name]
    if column.not_null and not column.filled and (not cell or cell.value.kind == "none") then
      missing[#missing + 1] = "`" .. column.name .. "`"
    end
  end
  if not missing[1] then return true end
  self:report("error", "insert", call.node[at + 1] or call.node,
    ("the insert into %s leaves out %s, which %s NOT NULL without a default"):format(target.name,
      table.concat(missing, ", "), missing[2] and "are" or "is"), "give a value for each")
  return false
end

local function check_rights(self, call, at, name, given, tx)
  local sql = text_of(name, given)
  local info, fault
  if sql then info, fault = self.project.catalog:describe(sql) end
  local node = call.node[at + 1] or call.node
  if fault then
    self:add { severity = "error", rule = "sql", node = node, message = inserts.message(fault),
      sqlstate = fault.sqlstate, sql = sql,
      help = fault.sqlstate == "42501" and ("in a migration: grant insert, select on %s to %s")
        :format(name, self.project.catalog.role) or fault.hint }
  elseif info then
    self.project:statement(self, info, call, at, tx)
  end
end

local function judge_one(self, call, at, name, given, tx)
  local target, near = self.project.catalog:table(name)
  if not target then
    self:report("error", "insert", call.node[at + 1] or call.node,
      ("there is no table `%s`"):format(name), near and ("did you mean `%s`?"):format(near)
      or "is its migration in migrations/?")
    return { kind = "row" }
  end
  if tx and tx.read_only then
    self:report("error", "read-only", call.node, "INSERT fails here: the transaction is read_only",
                "remove `read_only`, or do this in an operation without it")
  end
  if given.kind == "table" then
    local right = check_given(self, call, at, target, given)
    if not given.open and not given.meta then
      right = check_missing(self, call, at, target, given) and right
    end
    if right then check_rights(self, call, at, name, given, tx) end
  end
  local columns = {} -- what of them is NULL is the script's to know
  for _, column in ipairs(target.list) do columns[column.name] = { type = column.type } end
  return { kind = "row", columns = columns, list = target.list }
end

--- Judges an insert. -> the row that it gives
function inserts.judge(self, call, tx, at)
  local rows = {}
  for _, member in ipairs(values.members(call.arguments[at] or values.none)) do
    local name, whole
    if member.kind == "text" then name, whole = values.plain(member) end
    if member.kind == "none" and not call.arguments.open then
      self:report("error", "insert", call.node, "the name of the table is missing")
    end
    for _, given in ipairs(values.members(call.arguments[at + 1] or values.unknown)) do
      rows[#rows + 1] = whole and judge_one(self, call, at, name, given, tx) or { kind = "row" }
    end
  end
  return rows[1] and values.union(table.unpack(rows)) or { kind = "row" }
end

return inserts
