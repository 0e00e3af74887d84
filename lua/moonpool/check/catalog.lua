-- moonpool.check.catalog: what the checked database has: its tables, columns, constraints; and what
-- it says of a statement. All as the application's role.
local errors  = require "moonpool.errors"
local nearest = require "moonpool.is.nearest"

local catalog = {}
local Catalog = {}
Catalog.__index = Catalog

local all_columns = [[
  select c.oid::bigint as number, n.nspname as schema, c.relname as name, a.attname as column,
         a.attnum as position, c.relkind::text as kind, a.atttypmod as modifier,
         a.atttypid::bigint as type, a.attnotnull as not_null,
         a.atthasdef or a.attidentity <> '' or a.attgenerated <> '' as filled,
         c.reltuples::bigint as rows, c.relrowsecurity as secured,
         pg_table_is_visible(c.oid) as visible
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
   where c.relkind in ('r', 'p', 'v', 'm', 'f')
     and n.nspname not in ('pg_catalog', 'information_schema', 'moonpool')
     and n.nspname not like 'pg\_%'
   order by c.oid, a.attnum]]

local all_constraints = [[
  select conname as name from pg_constraint where connamespace not in (
      select oid from pg_namespace where nspname in ('pg_catalog', 'information_schema'))
   union
  select c.relname from pg_class c join pg_index i on i.indexrelid = c.oid
   where i.indisunique and c.relnamespace not in (
      select oid from pg_namespace where nspname in ('pg_catalog', 'information_schema'))]]

-- Policies read the tenant from the setting app.<field>.
local tenant_of_policies = [[
  select substring(pg_get_expr(polqual, polrelid) from $re$'app[.]([a-z_0-9]+)'$re$) as field
    from pg_policy where pg_get_expr(polqual, polrelid) ~ $re$'app[.]([a-z_0-9]+)'$re$
   order by 1 limit 1]]

local function read_tables(self)
  for _, row in ipairs(self.conn.query(all_columns)) do
    local made = self.numbered[row.number]
    if not made then
      made = { name = row.name, schema = row.schema, secured = row.secured, kind = row.kind,
               rows = row.rows,
               columns = {}, list = {}, by_number = {} }
      self.numbered[row.number] = made
      self.tables[row.schema .. "." .. row.name] = made
      if row.visible then self.tables[row.name] = made end
    end
    local column = { name = row.column, type = row.type, not_null = row.not_null,
                     filled = row.filled, modifier = row.modifier }
    made.by_number[row.position] = column
    made.columns[row.column], made.list[#made.list + 1] = column, column
    self.column_names[row.column] = true
  end
end

--- Reads the catalog over a kept connection (db.lease).
function catalog.read(conn)
  local self = setmetatable({ conn = conn, tables = {}, numbered = {}, column_names = {},
                              constraints = {}, described = {}, statements = 0 }, Catalog)
  read_tables(self)
  for _, row in ipairs(conn.query(all_constraints)) do self.constraints[row.name] = true end
  self.tenant = conn.value(tenant_of_policies)
  conn.exec "set plan_cache_mode = force_generic_plan"
  conn.exec "set enable_seqscan = off" -- see plans.lua
  self.role = conn.value "select current_user"
  return self
end

-- A plan for any values: the server checks the rights to tables, columns and functions.
local function plan(conn, info)
  local nulls = {}
  for i = 1, #info.parameters do nulls[i] = "null" end
  local given = nulls[1] and ("(%s)"):format(table.concat(nulls, ", ")) or ""
  conn.exec("prepare moonpool_check as " .. info.sql)
  local ok, made = pcall(conn.value, "explain (format json) execute moonpool_check" .. given)
  conn.exec "deallocate moonpool_check"
  if not ok then error(made, 0) end
  info.plan = made[1].Plan
end

local can_plan = { SelectStmt = true, InsertStmt = true, UpdateStmt = true, DeleteStmt = true,
                   MergeStmt = true }

--- What the server knows of a statement (db.describe); nil and its error object.
function Catalog:describe(sql)
  local known = self.described[sql]
  if not known then
    self.statements = self.statements + 1
    local ok, info = pcall(self.conn.describe, sql)
    local planned, fault = true, nil
    if ok and can_plan[info.kind] then planned, fault = pcall(plan, self.conn, info) end
    if not ok or not planned then
      fault = fault or info
      if not errors.is(fault) or fault.code == "NO_DATABASE" then error(fault, 0) end
    end
    known = { ok and planned and info or nil, fault }
    self.described[sql] = known
  end
  return known[1], known[2]
end

--- The table of that name, or nil; then also the nearest name.
function Catalog:table(name)
  local found = self.tables[name]
  if found then return found end
  return nil, nearest(name, self.tables)
end

return catalog
