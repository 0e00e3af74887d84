-- moonpool.check.nullable: which columns of a result may be NULL: those without NOT NULL, and all
-- of a table on the outer side of a join. What a condition of the statement speaks of is not
-- judged.
local lints  = require "moonpool.check.lints"
local values = require "moonpool.check.values"

local nullable = {}

local function add_names(node, names)
  if type(node) ~= "table" then return end
  for tag, part in pairs(node) do
    if tag == "ColumnRef" then
      local last = part.fields[#part.fields].String
      if last then names[last.sval] = true end
    end
    add_names(part, names)
  end
end

-- The tables of one side of a join.
local function add_tables(item, found)
  if type(item) ~= "table" then return end
  if item.RangeVar then found[item.RangeVar.relname] = true end
  for _, part in pairs(item) do add_tables(part, found) end
end

local outer_sides = { JOIN_LEFT = { "rarg" }, JOIN_RIGHT = { "larg" },
                      JOIN_FULL = { "larg", "rarg" } }

local function add_outer(node, found)
  if type(node) ~= "table" then return end
  for _, side in ipairs(node.JoinExpr and outer_sides[node.JoinExpr.jointype] or {}) do
    add_tables(node.JoinExpr[side], found)
  end
  for _, part in pairs(node) do add_outer(part, found) end
end

-- -> the names that conditions and assignments speak of; the tables on an outer side
local function look(info)
  if info.spoken_of then return info.spoken_of, info.outer end
  local tree, names, outer = lints.tree(info) or {}, {}, {}
  add_names(tree.whereClause, names)
  add_names(tree.havingClause, names)
  for _, target in ipairs(info.kind == "UpdateStmt" and tree.targetList or {}) do
    if target.ResTarget and target.ResTarget.name then names[target.ResTarget.name] = true end
  end
  add_outer(tree, outer)
  info.spoken_of, info.outer = names, outer
  return names, outer
end

--- Why a column of a result (db.describe) may be NULL; nil if it may not, or if that is not known.
function nullable.reason(catalog, info, column)
  local home = catalog.numbered[column.table]
  local own = home and home.by_number[column.number]
  if not own or info.kind == "InsertStmt" then return nil end
  local spoken_of, outer = look(info)
  if spoken_of[own.name] then return nil end
  if outer[home.name] then return ("%s is joined by an outer join"):format(home.name) end
  return not own.not_null and home.kind ~= "v"
    and ("%s.%s has no NOT NULL"):format(home.name, own.name) or nil
end

--- Notes that a script tests a value.
function nullable.tested(self, value)
  for _, member in ipairs(values.members(value)) do
    if member.path or member.perhaps then self.tests[member.path or member] = true end
  end
end

--- A value is used where nil raises an error.
function nullable.used(self, node, value)
  if value.kind ~= "column" or not value.nullable or self.tests[value.path] then return end
  self:report("warning", "nullable", node,
    ("`%s` may be NULL, which is nil here and raises an error"):format(value.path),
    ("%s; test it first, or write coalesce(…) in the SQL"):format(value.nullable))
end

--- A field is read of a row that tx:first may not have found.
function nullable.read(self, node, row)
  if not row.perhaps or row.fn ~= self.fn or self.tests[row] then return end
  self:report("warning", "nullable", node,
    "there may be no row: tx:first gives nil then, and this raises an error",
    "test it first; or use tx:one, which raises RESOURCE_NOT_FOUND with your message")
end

return nullable
