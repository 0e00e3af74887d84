-- What specs of dealerships that cannot leak need: a legal input of each operation of scripts/, the
-- ids in it, and what is in every table. An operation that is not described in `inputs` fails these
-- specs until it is.
local moonpool = require "moonpool"

local tenants = {}

function tenants.sorted(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- What is in every table of a dealership ----------------------------------------------------------

--- name -> the column that names the dealership
---@param owner moonpool.db
function tenants.tables(owner)
  local tables = { dealership_settings = "id" }
  for _, row in ipairs(owner.query [[
    select case nspname when 'public' then relname else nspname || '.' || relname end as name
      from pg_class c join pg_namespace n on n.oid = relnamespace join pg_attribute a
        on attrelid = c.oid
     where relkind in ('r', 'p') and nspname in ('public', 'system') and attname = 'dealership_id'
       and not attisdropped]]) do
    tables[row.name] = "dealership_id"
  end
  return tables
end

--- A function that tells what these dealerships have in each table, read as the owner, whom row
--- level security does not bind.
---@param owner moonpool.db
---@return fun(...: spec.dealership): table<string, string>
function tenants.reader(owner)
  local tables, parts = tenants.tables(owner), {}
  for _, name in ipairs(tenants.sorted(tables)) do
    parts[#parts + 1] = ([[select '%s' as name, count(*) as rows,
      md5(string_agg(t::text, '|' order by t::text)) as content
      from %s t where %s = any($1::uuid[])]]):format(name, name, tables[name])
  end
  local all_rows = table.concat(parts, " union all ")
  return function(...)
    local ids, seen = {}, {}
    for i, d in ipairs { ... } do ids[i] = d.id end
    for _, row in ipairs(owner.query(all_rows, ids)) do
      seen[row.name] = ("%d rows, %s"):format(row.rows, row.content or "")
    end
    return seen
  end
end

-- Operations --------------------------------------------------------------------------------------

--- A legal input of each, for dealership d; without the tenant.
tenants.inputs = {
  add_vehicle = function(d)
    return { user_id = d.salesperson.id, year = 2026, make = "Honda", model = "Accord",
             price = "28500.00" }
  end,
  attach_customer = function(d)
    return { deal_id = d:deal().id, customer_id = d:customer().id, user_id = d.salesperson.id }
  end,
  change_deal_state = function(d)
    return { deal_id = d:deal { vehicle_id = d:vehicle { status = "pending" }.id }.id,
             user_id = d.salesperson.id,
             state = "CANCELLED" }
  end,
  create_deal = function(d)
    return { salesperson_id = d.salesperson.id, customer_id = d:customer().id,
             vehicle_id = d:vehicle().id,
             trade_vehicle_id = d:trade_vehicle().id }
  end,
  generate_deal_number = function(d) return { user_id = d.salesperson.id } end,
  generate_stock_number = function(d) return { user_id = d.salesperson.id } end,
  get_deal = function(d) return { deal_id = d:deal().id } end,
  list_deals = function(d)
    return { salesperson_id = d.salesperson.id, customer_id = d:customer().id }
  end,
  register_user = function(d) return d:registration() end,
  search_customers = function() return { last_name = "K" } end,
  update_email_status = function(d)
    return { message_id = d:email_message().id, user_id = d.salesperson.id, status = "sent" }
  end,
  update_scenario = function(d)
    local deal = d:deal()
    return { deal_id = deal.id, scenario_id = d:insert("deal_scenarios", { deal_id = deal.id }).id,
             user_id = d.salesperson.id,
             scenario_data = { term = 48 } }
  end,
  verify_password = function(d)
    return { login = d.salesperson.username, password = "Wrong-Horse-7" }
  end,
}

--- An id of each kind, of dealership d, by the name of the field.
tenants.ids = {
  customer_id      = function(d) return d:customer().id end,
  deal_id          = function(d) return d:deal().id end,
  message_id       = function(d) return d:email_message().id end,
  salesperson_id   = function(d) return d.salesperson.id end,
  scenario_id      = function(d)
    return d:insert("deal_scenarios", { deal_id = d:deal().id }).id
  end,
  trade_vehicle_id = function(d) return d:trade_vehicle().id end,
  user_id          = function(d) return d.salesperson.id end,
  vehicle_id       = function(d) return d:vehicle().id end,
}

--- Paths of all ids in a schema, but the tenant's: { "user_id" }, { "items", 1, "vehicle_id" }.
function tenants.references(schema, tenant, path, found)
  path, found = path or {}, found or {}
  local function descend(step, inner)
    local longer = { table.unpack(path) }
    longer[#longer + 1] = step
    tenants.references(inner, tenant, longer, found)
  end
  if schema.kind == "uuid" then
    found[#found + 1] = path
  elseif schema.kind == "object" then
    for _, name in ipairs(tenants.sorted(schema.fields)) do
      if #path > 0 or name ~= tenant then descend(name, schema.fields[name]) end
    end
  elseif schema.item then
    descend(1, schema.item)
  end
  return found
end

--- A copy of input with another value at the path.
function tenants.with(input, path, value)
  local copy = {}
  for name, old in pairs(input) do copy[name] = old end
  local at = copy
  for i = 1, #path - 1 do
    local inner = {}
    for name, old in pairs(at[path[i]] or {}) do inner[name] = old end
    at[path[i]], at = inner, inner
  end
  at[path[#path]] = value
  return copy
end

--- The operations of the example by name: those that are described here, and those that are
--- released with it. What somebody adds to scripts/ for himself is his own.
function tenants.example(operations)
  local mine = {}
  for name in pairs(tenants.inputs) do
    mine[name] = assert(operations[name], name .. " is described, but not there")
  end
  local list <close> = io.popen("git -C '" .. moonpool.app_dir
                                .. "' ls-files -- scripts 2>/dev/null")
  for path in list:lines() do
    local name = path:match "^scripts/([%w_]+)%.lua$"
    if name then mine[name] = operations[name] end
  end
  return mine
end

return tenants
