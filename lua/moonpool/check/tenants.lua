-- moonpool.check.tenants: whether statements name the tenant. Row level security is only the net:
-- a statement without the key in its predicate reads other tenants' rows to throw them away, and
-- one without a tenant sees no row at all.
local lints = require "moonpool.check.lints"
local sorted = require "moonpool.script.sorted"

local tenants = {}

-- The tables in a FROM list: alias -> table's name. `quals` gets the conditions of joins.
local function add_tables(item, found, quals, used)
  if item.RangeVar then
    local range = item.RangeVar
    local alias = range.alias and range.alias.aliasname or range.relname
    found[alias] = (range.schemaname and range.schemaname .. "." or "") .. range.relname
  elseif item.JoinExpr then
    local join = item.JoinExpr
    add_tables(join.larg, found, quals, used)
    add_tables(join.rarg, found, quals, used)
    quals[#quals + 1] = join.quals
    for _, name in ipairs(join.usingClause or {}) do used[name.String.sval] = true end
    if join.isNatural then used["*"] = true end
  end
end

local queries = {}

function queries.SelectStmt(query) return query.fromClause or {} end

function queries.UpdateStmt(query)
  return { { RangeVar = query.relation }, table.unpack(query.fromClause or {}) }
end

function queries.DeleteStmt(query)
  return { { RangeVar = query.relation }, table.unpack(query.usingClause or {}) }
end

-- Calls visit(tag, node) for each node; visit may return false to leave out what is below.
local function each(node, visit)
  if type(node) ~= "table" then return end
  for name, part in pairs(node) do
    local below = type(part) ~= "table" or type(name) ~= "string" or visit(name, part) ~= false
    if below then each(part, visit) end
  end
end

-- The aliases whose column `field` a condition compares; "*": it is not said whose.
local function add_compared(condition, field, compared)
  each(condition, function(tag, node)
    if tag == "SubLink" then return false end
    if tag ~= "A_Expr" then return true end
    local operator = node.name and node.name[1] and node.name[1].String.sval
    if operator ~= "=" then return true end
    each({ node.lexpr, node.rexpr }, function(inner, column)
      if inner == "SubLink" then return false end
      if inner ~= "ColumnRef" then return true end
      local names = column.fields
      local last = names[#names].String
      if last and last.sval == field then
        compared[names[2] and names[1].String.sval or "*"] = true
      end
    end)
  end)
end

-- What a statement does with tenants' tables -> the names of all, and of those that lack the key.
local function look(tree, kind, tables, field)
  local touched, lacking, with = {}, {}, {}
  each(tree, function(tag, node)
    if tag == "CommonTableExpr" then with[node.ctename] = true end
  end)
  local function secured(name)
    local known = not with[name] and tables[name]
    return known and known.secured and known.columns[field] and known
  end
  local function query(tag, node)
    local from = queries[tag]
    if not from then
      if tag == "InsertStmt" and secured(node.relation.relname) then
        touched[node.relation.relname] = true
      end
      return
    end
    local found, quals, used, compared = {}, { node.whereClause }, {}, {}
    for _, item in ipairs(from(node)) do add_tables(item, found, quals, used) end
    add_compared(quals, field, compared)
    for alias, name in pairs(found) do
      if secured(name) then
        touched[name] = true
        local named = compared["*"] or compared[alias] or used[field] or used["*"]
        if not named then lacking[name] = true end
      end
    end
  end
  query(kind, tree)
  each(tree, query)
  return touched, lacking
end

local function first_of(names) return sorted(names)[1] end

--- Judges a statement of a transaction. `field`: the application's tenant field.
function tenants.judge(self, info, node, tx, field)
  if not field then return end
  if info.touched == nil then
    local tree = lints.tree(info)
    info.touched, info.lacking = {}, {}
    if tree then
      info.touched, info.lacking = look(tree, info.kind, self.project.catalog.tables, field)
    end
  end
  local name, op = first_of(info.touched), tx.operation
  if name and op and op.tenant == nil then
    self:report("warning", "tenant", node,
      ("the operation has no tenant, so row level security shows it no row of `%s`"):format(name),
      ("add tenant = %q"):format(field))
  elseif next(info.lacking) and not (op and op.tenant == false) then
    self:report("warning", "tenant-key", node,
      ("the statement does not compare the %s of `%s`"):format(field, first_of(info.lacking)),
      ("add to its condition: %s = $%s; row level security hides other tenants' rows, but reads \z
        them all"):format(field, field))
  end
end

return tenants
