-- moonpool.migrate.hazards: warns, before a migration runs, of statements that hold a lock on a big
-- table while they read or rewrite all of it. A table that the migration itself makes does not
-- exist yet and so gets no warning.
local moonpool = require "moonpool"

local BIG_ROWS = 100000

local hazards = {}

local function is_volatile(conn, call)
  local name = call.funcname[#call.funcname]
  return conn.value(
    [[select exists (select from pg_proc where proname = $1 and provolatile = 'v')]],
    name.String.sval)
end

-- Does the expression contain a call of a volatile function?
local function any_volatile(conn, node)
  if type(node) ~= "table" then return false end
  if node.FuncCall and is_volatile(conn, node.FuncCall) then return true end
  for _, child in pairs(node) do
    if any_volatile(conn, child) then return true end
  end
  return false
end

local constraint_hazards = {
  CONSTR_CHECK     = function(c)
    return not c.skip_validation
      and "reads all of it for the CHECK: add it NOT VALID, then VALIDATE"
  end,
  CONSTR_FOREIGN   = function(c)
    return not c.skip_validation
      and "reads all of it for the foreign key: add it NOT VALID, then VALIDATE"
  end,
  CONSTR_UNIQUE    = function(c)
    return not c.indexname
      and "blocks writes while it builds the index: use CREATE UNIQUE INDEX CONCURRENTLY, then \z
        USING INDEX"
  end,
  CONSTR_PRIMARY   = function(c)
    return not c.indexname
      and "blocks reads while it builds the index: use CREATE UNIQUE INDEX CONCURRENTLY, then \z
        USING INDEX"
  end,
  CONSTR_EXCLUSION = function() return "blocks reads and writes while it builds the index" end,
}

local serial = { serial = true, bigserial = true, smallserial = true, serial4 = true,
                 serial8 = true, serial2 = true }

local function added_column(conn, column)
  local names = column.typeName and column.typeName.names or {}
  local type_name = names[#names] and names[#names].String.sval
  if serial[type_name] then return "rewrites it to number its rows" end
  for _, item in ipairs(column.constraints or {}) do
    local constraint = item.Constraint
    if constraint.contype == "CONSTR_DEFAULT" and any_volatile(conn, constraint.raw_expr) then
      return
        "rewrites it for a default that differs from row to row: add the column first, fill it \z
          in parts"
    elseif constraint.contype == "CONSTR_IDENTITY" then
      return "rewrites it to number its rows"
    elseif constraint.contype == "CONSTR_GENERATED" then
      return "rewrites it to compute the column"
    elseif constraint.contype ~= "CONSTR_FOREIGN" and constraint_hazards[constraint.contype] then
      return constraint_hazards[constraint.contype](constraint)
    end
  end
end

local alter = {
  AT_AlterColumnType = function() return "may rewrite it, and its indexes, for the new type" end,
  AT_SetNotNull      = function()
    return
      "blocks reads and writes while it reads all of it: add CHECK (… IS NOT NULL) NOT VALID and \z
        VALIDATE it first"
  end,
  AT_AddConstraint   = function(_, command)
    local constraint = command.def.Constraint
    local hazard = constraint_hazards[constraint.contype]
    return hazard and hazard(constraint)
  end,
  AT_AddColumn       = function(conn, command) return added_column(conn, command.def.ColumnDef) end,
  AT_SetTableSpace   = function() return "copies it" end,
  AT_SetLogged       = function() return "rewrites it" end,
  AT_SetUnLogged     = function() return "rewrites it" end,
  AT_SetAccessMethod = function() return "rewrites it" end,
}

-- By kind of statement: a function that calls found(relation, hazard) for each hazard.
local kinds = {
  IndexStmt = function(_, tree, found)
    if not tree.concurrent then
      found(tree.relation, "blocks writes while it builds the index: use CREATE INDEX CONCURRENTLY")
    end
  end,
  AlterTableStmt = function(conn, tree, found)
    if tree.objtype ~= "OBJECT_TABLE" then return end
    for _, item in ipairs(tree.cmds or {}) do
      local command = item.AlterTableCmd
      local hazard = alter[command.subtype] and alter[command.subtype](conn, command)
      if hazard then found(tree.relation, hazard) end
    end
  end,
  VacuumStmt = function(_, tree, found)
    for _, option in ipairs(tree.options or {}) do
      if option.DefElem.defname == "full" then
        for _, item in ipairs(tree.rels or {}) do
          found(item.VacuumRelation.relation, "blocks reads and writes while it rewrites it")
        end
      end
    end
  end,
  ClusterStmt = function(_, tree, found)
    if tree.relation then found(tree.relation, "blocks reads and writes while it rewrites it") end
  end,
  ReindexStmt = function(_, tree, found, concurrent)
    if tree.relation and not concurrent then
      found(tree.relation, "blocks writes while it builds its indexes: use REINDEX CONCURRENTLY")
    end
  end,
  RefreshMatViewStmt = function(_, tree, found)
    if tree.concurrent then return end
    found(
      tree.relation, "blocks reads while it fills it: use REFRESH MATERIALIZED VIEW CONCURRENTLY")
  end,
}

local size_query = [[
  select c.reltuples::bigint as rows,
    pg_size_pretty(c.relpages * current_setting('block_size')::bigint) as size,
         c.oid::regclass::text as name
    from pg_class r
    join pg_class c on c.oid = coalesce((select indrelid from pg_index where indexrelid = r.oid),
      r.oid)
   where r.oid = to_regclass(case when $schema::text is null then format('%I', $table::text)
                                  else format('%I.%I', $schema::text, $table::text) end)]]

--- Returns one line for the user for each of these statements that would lock a big table for long.
---@param list moonpool.migrate.statement[]
---@return string[]
function hazards.of(conn, list)
  local lines = {}
  for _, statement in ipairs(list) do
    local look = statement.tree and kinds[statement.kind]
    if look then
      look(conn, statement.tree, function(relation, hazard)
        local size = conn.first(size_query, { schema = relation.schemaname or moonpool.null,
                                              table = relation.relname })
        if size and size.rows > BIG_ROWS then
          lines[#lines + 1] = string.format(
            "warning: %s:%d: locks %s, which has about %d rows (%s): %s",
                                            statement.path, statement.line, size.name, size.rows,
                                            size.size, hazard)
        end
      end, statement.concurrent)
    end
  end
  return lines
end

return hazards
