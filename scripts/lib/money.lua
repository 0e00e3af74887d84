-- What a loan costs. Exact: an amount or a rate is a decimal from JSON to the column and back,
-- never a float.
local decimal = require "moonpool.decimal"

local money = {}

local zero = decimal "0.00"

--- The largest amount that a column of the type numeric(12,2) holds.
money.largest = decimal "9999999999.99"

--- The equal monthly payment that settles a loan, in whole cents, halves rounded up.
---
--- With r = apr / 1200 the payment is principal * r * (1 + r)^term / ((1 + r)^term - 1). Multiplied
--- by 1200^(term + 1) above and below, it is one fraction of numbers that have no more digits than
--- a decimal holds, so nothing is rounded before the end. The payments of whole cents seldom add up
--- to the cent: lenders settle what is left with the last one.
---@param principal moonpool.decimal  not negative
---@param apr moonpool.decimal        per cent a year, at most four digits behind the point
---@param term integer                months, 1 to 120
---@return moonpool.decimal
function money.monthly_payment(principal, apr, term)
  if principal < 0 or apr < 0 then error("a loan's principal and rate are not negative", 2) end
  if apr:scale() > 4 then error("a loan's rate has at most four digits behind the point", 2) end
  if math.type(term) ~= "integer" or term < 1 or term > 120 then
    error("a loan has a term of 1 to 120 months", 2)
  end
  if apr:sign() == 0 or principal:sign() == 0 then return principal:div(term, 2) end
  local grown = (apr + 1200) ^ term            -- (1 + r)^term, 1200^term times as large
  local flat  = decimal(1200) ^ term
  return (principal * apr * grown):div((grown - flat) * 1200, 2)
end

--- The amount, or zero where it is negative.
---@param amount moonpool.decimal
---@return moonpool.decimal
function money.at_least_zero(amount)
  return amount < 0 and zero or amount
end

return money
