-- lib.money: what a loan costs, against a table of payments that were computed otherwise.
local decimal = require "moonpool.decimal"
local failure = require "spec.support.data.failure"
local money   = require "lib.money"

-- principal, apr, months, payment. Each by bc at fifty digits, rounded by hand, halves up:
--   echo 'scale=50; p=28500; a=8.9; n=60; r=a/1200; g=(1+r)^n; p*r*g/(g-1)' | bc
local payments = {
  { "28500.00",      "8.9",    60,  "590.23" },       -- 590.23088800227519841460…
  { "25000.00",      "3.99",   36,  "737.99" },       -- 737.98841906969487250679…
  { "32450.00",      "7.25",   72,  "557.14" },       -- 557.14398484303403147617…
  { "31240.00",      "6.4375", 84,  "462.95" },       -- 462.95171101262897413950…
  { "19999.99",      "0.9",    48,  "424.37" },       -- 424.36766712135299233396…
  { "1.00",          "12",     2,   "0.51" },         -- 0.50751243781094527363…
  { "10000.00",      "8.9",    1,   "10074.17" },     -- 10074.16666666666666666666…
  { "10000.00",      "5",      120, "106.07" },       -- 106.06551523907523221827…
  { "10000.00",      "99",     60,  "832.15" },       -- 832.15367546865489700627…
  { "10000.00",      "99",     120, "825.06" },       -- 825.06097298284553839106…
  { "10000.00",      "0.0001", 60,  "166.67" },       -- 166.66709027812490353491…
  { "9999999999.99", "99",     120, "825060972.98" }, -- 825060972.98202047741808…
  { "9999999999.99", "8.9",    1,   "10074166666.66" }, -- 10074166666.65659249999…
  { "0.01",          "8.9",    60,  "0.00" },         -- 0.00020709855719378077…
  { "0.00",          "8.9",    60,  "0.00" },
}

-- Without interest: echo 'scale=50; 10000/60' | bc
local without_interest = {
  { "10000.00", 60, "166.67" },   -- 166.66666666666666666666…
  { "10000.00", 36, "277.78" },   -- 277.77777777777777777777…
  { "10000.00", 1,  "10000.00" },
  { "0.00",     60, "0.00" },
}

-- Halves of a cent to the last digit: 1000.01 / 2 = 500.005, 120 * (1 + 0.05 / 1200) = 120.005.
local ties = {
  { "1000.01", "0",    2, "500.01" },
  { "0.05",    "0",    2, "0.03" },
  { "0.15",    "0",   10, "0.02" },
  { "120.00",  "0.05", 1, "120.01" },
  { "360.00",  "0.05", 1, "360.02" },
}

describe("a monthly payment", function()
  local function payment(principal, apr, term)
    return tostring(money.monthly_payment(decimal(principal), decimal(apr), term))
  end

  for _, case in ipairs(payments) do
    local principal, apr, term, expected = table.unpack(case)
    it(("of %s at %s %% over %d months is %s"):format(principal, apr, term, expected), function()
      assert.are.equal(expected, payment(principal, apr, term))
      assert.are.equal(expected,
                       payment(principal, apr .. (apr:find(".", 1, true) and "" or ".0000"), term))
    end)
  end

  for _, case in ipairs(without_interest) do
    local principal, term, expected = table.unpack(case)
    it(("of %s without interest over %d months is %s"):format(principal, term, expected), function()
      for _, zero in ipairs { "0", "0.0", "0.0000" } do
        assert.are.equal(expected, payment(principal, zero, term))
      end
    end)
  end

  for _, case in ipairs(ties) do
    local principal, apr, term, expected = table.unpack(case)
    it(("of %s at %s %% over %d months is rounded up to %s"):format(principal, apr, term, expected),
       function()
      assert.are.equal(expected, payment(principal, apr, term))
    end)
  end

  it("settles the loan: less than half a cent a month is left, with what that earns", function()
    local principal, apr, term = decimal "28500.00", decimal "8.9", 60
    local left = principal
    for _ = 1, term do
      left = left + (left * apr):div(1200, 30) - money.monthly_payment(principal, apr, term)
    end
    assert.is_true(left:abs() < decimal "0.005" * (term * 2))
  end)

  it("has two digits behind the point, whatever the principal is written like", function()
    assert.are.equal(2, money.monthly_payment(decimal "100", decimal "5", 12):scale())
    assert.are.equal(2, money.monthly_payment(decimal "100", decimal "0", 12):scale())
  end)

  for what, arguments in pairs {
    ["a negative principal"]     = { decimal "-0.01", decimal "5", 12 },
    ["a negative rate"]          = { decimal "100", decimal "-1", 12 },
    ["a rate of five digits"]    = { decimal "100", decimal "1.23456", 12 },
    ["a term of no months"]      = { decimal "100", decimal "5", 0 },
    ["a term of 121 months"]     = { decimal "100", decimal "5", 121 },
    ["a term that is a float"]   = { decimal "100", decimal "5", 12.0 },
    ["a principal that is a float"] = { 100.5, decimal "5", 12 },
  } do
    it("refuses " .. what, function() failure(money.monthly_payment, table.unpack(arguments)) end)
  end
end)

describe("an amount", function()
  it("below zero is zero", function()
    assert.are.equal("0.00", tostring(money.at_least_zero(decimal "-5.00")))
    assert.are.equal("5.00", tostring(money.at_least_zero(decimal "5.00")))
  end)
end)
