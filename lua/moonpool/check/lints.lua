-- moonpool.check.lints: statements that the server takes, and that hardly do what was meant.
local sql = require "moonpool.sql"

local lints = {}

--- The statement's tree as PostgreSQL's parser gives it, or nil. Kept with what is known of it.
function lints.tree(info)
  if info.tree == nil then
    local ok, parsed = pcall(sql.split, info.sql)
    info.tree = ok and parsed[1] and parsed[1].tree or false
  end
  return info.tree or nil
end

local function each(node, visit)
  if type(node) ~= "table" then return end
  for name, part in pairs(node) do
    if type(name) == "string" and type(part) == "table" then visit(name, part) end
    each(part, visit)
  end
end

local function is_null(node) return node and node.A_Const and node.A_Const.isnull end

-- `x = null` is never true.
local function check_null(self, info, node)
  local found
  each({ statement = lints.tree(info) }, function(tag, part)
    if tag ~= "A_Expr" or part.kind ~= "AEXPR_OP" then return end
    local operator = part.name and part.name[1] and part.name[1].String.sval
    if (operator == "=" or operator == "<>") and (is_null(part.lexpr) or is_null(part.rexpr)) then
      found = operator
    end
  end)
  if not found then return end
  self:report("warning", "null", node,
    ("a comparison with NULL by `%s` is never true"):format(found),
    found == "=" and "write `is null`" or "write `is not null`")
end

local verbs = { UpdateStmt = "UPDATE", DeleteStmt = "DELETE" }

local function check_where(self, info, node)
  local tree = lints.tree(info)
  if verbs[info.kind] and tree and not tree.whereClause then
    self:report("warning", "no-where", node,
      ("%s without WHERE: it concerns all rows of the table"):format(verbs[info.kind]),
      "add a condition; if all are meant: where true")
  end
end

-- '$name' inside of quotes is text.
local function check_quoted(self, text, node)
  local name = text:match "'[^'\n]-%$([%a_][%w_]*)[^'\n]-'"
  if not name or not text:find("'%$" .. name .. "'") then return end
  self:report("warning", "quoted", node,
    ("'$%s' in quotes is this text, and no parameter"):format(name),
    ("write $%s without quotes"):format(name))
end

local gives_rows = { one = true, first = true, value = true, query = true }

local function check_rows(self, info, node, method)
  if not gives_rows[method] or info.columns[1] then return end
  self:report("error", "no-rows", node, ("this statement gives no rows, and %s needs some")
    :format(method), "add `returning …`, or use exec or count")
end

--- Judges a statement that the server takes.
function lints.judge(self, info, text, node, method)
  check_rows(self, info, node, method)
  check_quoted(self, text, node)
  check_where(self, info, node)
  check_null(self, info, node)
end

return lints
