-- Changes a scenario of an open deal: only what the caller names, with the amounts that follow from
-- it. Three round trips: the payment cannot be computed before the terms are known, and the row
-- that was written is given back.
local moonpool  = require "moonpool"
local is        = require "moonpool.is"
local json      = require "moonpool.json"
local accounts  = require "lib.accounts"
local audit     = require "lib.audit"
local scenarios = require "lib.scenario"

local closed = { CANCELLED = true, DELIVERED = true }

-- The columns to be written: what the caller names, and the amounts where that changes them. A
-- monthly payment holds until the caller gives another or changes what it was made of.
local function new_values(scenario, changes)
  local after, terms, recompute = {}, {}, changes.monthly_payment ~= nil
  for field, value in pairs(changes) do after[field] = value end
  for _, field in ipairs(scenarios.inputs) do
    local value = changes[field]
    terms[field] = scenario[field]
    if value ~= nil and value ~= scenario[field] then terms[field], recompute = value, true end
  end
  if not recompute then return after end
  if changes.monthly_payment == nil then
    -- Only a finance deal's payment can be computed: a lease's stays as the lessor said.
    if terms.scenario_type == "LEASE_DEAL" and scenario.scenario_type == "LEASE_DEAL" then
      terms.monthly_payment = scenario.monthly_payment
    end
  elseif changes.monthly_payment ~= json.null then
    terms.monthly_payment = changes.monthly_payment
  end
  for field, value in pairs(scenarios.compute(terms)) do after[field] = value end
  return after
end

return moonpool.operation {
  summary = "Change a scenario of an open deal; what is not named stays as it is",

  input = is.object {
    dealership_id = is.uuid,
    deal_id       = is.uuid,
    scenario_id   = is.uuid,
    user_id       = is.uuid:optional(),
    scenario_data = scenarios.changes,
  },
  output = is.object { scenario = is.row:of "deal_scenarios" },

  tenant  = "dealership_id",
  actor   = "user_id",
  timeout = 10,

  run = function(tx, input)
    local actor = accounts.actor(tx, input)
    local deal = tx:one(
      "select deal_state from deals where dealership_id = $dealership_id and id = $deal_id for \z
        update", input,
                        "Deal not found: $deal_id")
    local scenario = tx:one([[
      select * from deal_scenarios
       where dealership_id = $dealership_id and deal_id = $deal_id and id = $scenario_id
         for update]], input,
      "Scenario not found: $scenario_id")
    if closed[deal.deal_state] then
      moonpool.fail("DEAL_CLOSED", ("Deal is closed: %s is %s"):format(input.deal_id,
        deal.deal_state), { status = 409 })
    end

    local after = new_values(scenario, input.scenario_data)
    local changed = audit.changes(tx, "scenario", input.scenario_id, scenario, after,
      { actor = actor, deal_id = input.deal_id, scenario_id = input.scenario_id })
    if #changed == 0 then return { scenario = scenario } end

    local columns = {}
    for i, field in ipairs(changed) do columns[i] = ("%s = $%s, "):format(field, field) end
    after.dealership_id, after.scenario_id = input.dealership_id, input.scenario_id
    -- check: the columns are those of scenarios.changes
    local updated = tx:one("update deal_scenarios set " .. table.concat(columns) .. [[
        updated_at = now()
      where dealership_id = $dealership_id and id = $scenario_id returning *]],
      after, "Scenario not found: $scenario_id")
    return { scenario = updated }
  end,
}
