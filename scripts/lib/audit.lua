-- The audit log: who did what to which thing. Entries are queued in the caller's transaction, so they are written with
-- what they tell of, or not at all.
local audit = {}

-- Who acts: the caller that the host knows, otherwise whom the operation names (a developer's command line).
local function actor(tx, entry)
  local caller = tx.caller
  return caller and caller.user_id or entry.actor or error("an audit entry needs an actor: nobody is known as the caller", 3)
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

return audit
