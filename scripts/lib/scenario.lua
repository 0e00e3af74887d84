-- The terms of a deal: what a caller may say of them, and what follows from that. Shared by those
-- who make a scenario and those who change one.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local decimal  = require "moonpool.decimal"
local money    = require "lib.money"

local scenario = {}

local amount  = is.decimal:min(0):max(9999999999):scale(2)
local name    = is.string:min(1):max(100):pattern("%S", "text that is not blank")
local kind    = is.enum { "FINANCE_DEAL", "CASH_DEAL", "LEASE_DEAL" }
local term    = is.integer:min(1):max(120)              -- months
local apr     = is.decimal:min(0):max(99):scale(4)      -- per cent
local list    = is.array(is.any):max(200)

--- A new scenario. Without a monthly payment, that of a finance deal is computed.
scenario.data = is.object {
  name                 = name:default("Scenario 1"),
  scenario_type        = kind:default("FINANCE_DEAL"),
  term                 = term:default(60),
  apr                  = apr:default("8.9"),
  down_payment         = amount:default("0"),
  trade_allowance      = amount:default("0"),
  trade_payoff         = amount:default("0"),
  total_tax            = amount:default("0"),
  total_fees           = amount:default("0"),
  monthly_payment      = amount:optional(),
  aftermarket_products = list:optional(),
}

--- Changes to a scenario: what is absent stays as it is. null clears, where there is something to
--- clear: a monthly payment that is null is computed again.
scenario.changes = is.object {
  name                 = name:optional(),
  scenario_type        = kind:optional(),
  vehicle_price        = amount:optional(),
  term                 = term:optional(),
  apr                  = apr:optional(),
  down_payment         = amount:optional(),
  trade_allowance      = amount:optional(),
  trade_payoff         = amount:optional(),
  total_tax            = amount:optional(),
  total_fees           = amount:optional(),
  monthly_payment      = amount:nullable():optional(),
  money_factor         = is.decimal:min(0):max(99):scale(6):nullable():optional(),
  residual_percent     = is.decimal:min(0):max(99):scale(4):nullable():optional(),
  residual_value       = amount:nullable():optional(),
  dealer_fees          = list:optional(),
  accessories          = list:optional(),
  aftermarket_products = list:optional(),
}

--- What `compute` reads.
scenario.inputs = { "scenario_type", "vehicle_price", "term", "apr", "down_payment",
                    "trade_allowance", "trade_payoff",
                    "total_tax", "total_fees" }

---@class scenario.terms       each field of scenario.inputs, and:
---@field monthly_payment? moonpool.decimal   what the caller says it is

---@class scenario.amounts
---@field amount_financed moonpool.decimal      what the loan, or the lease, has to cover
---@field monthly_payment moonpool.decimal
---@field total_cost moonpool.decimal           all that the customer pays
---@field cash_due_at_signing moonpool.decimal

--- The amounts that follow from a scenario's terms. Prices inside of lists (fees, accessories,
--- products) are the caller's to add up in total_fees: a list's content is free.
---@param terms scenario.terms
---@return scenario.amounts
function scenario.compute(terms)
  local due = money.at_least_zero(
    terms.vehicle_price + terms.total_tax + terms.total_fees + terms.trade_payoff
                                  - terms.trade_allowance)
  local down, monthly = terms.down_payment, terms.monthly_payment
  local amounts
  if terms.scenario_type == "CASH_DEAL" then
    amounts = { amount_financed = decimal "0.00", monthly_payment = monthly or decimal "0.00",
                total_cost = due,
                cash_due_at_signing = due }
  else
    local financed = money.at_least_zero(due - down)
    -- A lease's payment is the lessor's to say.
    monthly = monthly or terms.scenario_type == "FINANCE_DEAL"
      and money.monthly_payment(financed, terms.apr, terms.term)
                      or decimal "0.00"
    amounts = { amount_financed = financed, monthly_payment = monthly,
                total_cost = down + monthly * terms.term,
                cash_due_at_signing = down }
  end
  for field, value in pairs(amounts) do
    if value > money.largest then
      moonpool.fail("VALIDATION_ERROR",
                    ("scenarioData: the amounts make %s larger than %s; check price, tax and fees")
                      :format(
        moonpool.json.camel(field), tostring(money.largest)), { status = 400 })
    end
  end
  return amounts
end

return scenario
