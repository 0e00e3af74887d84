-- The audit log: who did what to which thing. Entries are queued in the caller's transaction, so
-- they are written with what they tell of, or not at all.
local decimal = require "moonpool.decimal"
local json    = require "moonpool.json"

local audit = {}

-- Who acts: the caller that the host knows, otherwise whom the operation names (a developer's
-- command line).
local function actor(tx, entry)
  local caller = tx.caller
  return caller and caller.user_id or entry.actor
    or error("an audit entry needs an actor: nobody is known as the caller", 3)
end

local function write(tx, action, entity_type, entity_id, entry)
  tx:insert("audit_log", {
    id            = tx:uuid(),
    dealership_id = tx.tenant,
    user_id       = actor(tx, entry),
    action        = action,
    entity_type   = entity_type,
    entity_id     = entity_id,
    deal_id       = entry.deal_id,
    scenario_id   = entry.scenario_id,
    field_name    = entry.field_name,
    old_value     = entry.old_value,
    new_value     = entry.new_value,
    metadata      = entry.metadata,
  })
end

---@class audit.entry
---@field actor? string        user who acts, where the host knows no caller
---@field deal_id? string      deal in whose history the entry belongs
---@field scenario_id? string
---@field metadata? table      further facts, kept as JSON

---@class audit.change : audit.entry
---@field field_name string    column that changed
---@field old_value? string
---@field new_value? string

--- Records that a thing came to be.
---@param tx moonpool.tx
---@param entity_type string   "deal", "customer", …
---@param entity_id string
---@param entry audit.entry
function audit.created(tx, entity_type, entity_id, entry)
  write(tx, "create", entity_type, entity_id, entry)
end

--- Records that one field of a thing changed.
---@param tx moonpool.tx
---@param entity_type string
---@param entity_id string
---@param change audit.change
function audit.changed(tx, entity_type, entity_id, change)
  write(tx, "update", entity_type, entity_id, change)
end

-- A value as the log keeps it: nil for NULL, and text that is equal where the values are.
local function text(value)
  if value == nil or value == json.null then return nil end
  if type(value) == "table" then
    return json.encode(value, { sorted = true, decimal_strings = true })
  end
  return tostring(value)
end

local function same(a, b)
  if decimal.is(a) and decimal.is(b) then return a == b end
  return text(a) == text(b)
end

--- Records each field that a change gives another value, in the order of their names: one entry
--- each, with old and new.
---@param tx moonpool.tx
---@param entity_type string
---@param entity_id string
---@param before moonpool.row            the row as it was
---@param after table<string, any>       columns and their new values; json.null for NULL
---@param entry audit.entry
---@return string[] fields               those that changed
function audit.changes(tx, entity_type, entity_id, before, after, entry)
  local fields = {}
  for field, value in pairs(after) do
    if not same(before[field], value) then fields[#fields + 1] = field end
  end
  table.sort(fields)
  for _, field in ipairs(fields) do
    local change = { field_name = field, old_value = text(before[field]),
                     new_value = text(after[field]) }
    for name, value in pairs(entry) do change[name] = value end
    write(tx, "update", entity_type, entity_id, change)
  end
  return fields
end

return audit
