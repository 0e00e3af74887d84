-- update_scenario: what it changes and leaves alone, the amounts that follow, what it writes in the
-- audit log.
local dealership = require "spec.support.data.dealership"
local decimal    = require "moonpool.decimal"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local meddler    = require "spec.support.workload.meddler"
local moonpool   = require "moonpool"

local json, null = moonpool.json, moonpool.null

describe("update_scenario", function()
  local ours, deal, scenario

  -- 32450.00 + 1567.50 + 299.00 + 1150.00 - 6400.00 - 566.50 = 28500.00 at 8.9 % over 60 months:
  -- 590.23
  local function prepare()
    ours = dealership.new()
    local made = moonpool.call("create_deal", ours:deal_input {
      customer_id = ours:customer().id, vehicle_id = ours:vehicle { price = "32450.00" }.id,
      scenario_data = { down_payment = "566.50", trade_allowance = "6400.00",
                        trade_payoff = "1150.00",
                        total_tax = "1567.50", total_fees = "299.00" },
    })
    deal, scenario = made.deal, made.scenario
  end

  before_each(prepare)

  local function input(changes)
    return { dealership_id = ours.id, deal_id = deal.id, scenario_id = scenario.id,
             user_id = ours.salesperson.id,
             scenario_data = changes or { name = "Better" } }
  end

  local function update(changes, options)
    return moonpool.call("update_scenario", input(changes), options).scenario
  end

  local function stored() return ours:rows("deal_scenarios", { id = scenario.id })[1] end

  local function entries()
    local by_field, count = {}, 0
    for _, entry in ipairs(ours:rows("audit_log", { scenario_id = scenario.id })) do
      by_field[entry.field_name], count = entry, count + 1
    end
    return by_field, count
  end

  local function assert_amounts(row, expected)
    for field, value in pairs(expected) do assert.are.equal(value, tostring(row[field]), field) end
  end

  local function same_row(a, b)
    for field, value in pairs(a) do
      assert.are.equal(json.encode(value, { sorted = true }),
                       json.encode(b[field], { sorted = true }), field)
    end
  end

  local function nothing_left()
    same_row(scenario, stored())
    assert.are.equal(0, select(2, entries()))
  end

  describe("computes", function()
    it("first what create_deal had to", function()
      assert_amounts(scenario, { amount_financed = "28500.00", monthly_payment = "590.23",
                                 total_cost = "35980.30",
                                 cash_due_at_signing = "566.50" })
    end)

    it("nothing in create_deal where the caller gives the payment, were it none at all", function()
      for _, payment in ipairs { "0", "612.10" } do
        local made = moonpool.call("create_deal",
                                   ours:deal_input { customer_id = ours:customer().id,
          vehicle_id = ours:vehicle().id, scenario_data = { monthly_payment = payment } }).scenario
        assert.are.equal(decimal(payment), made.monthly_payment)
        assert_amounts(made, { amount_financed = "28500.00" })
      end
    end)

    it("in create_deal neither more digits nor more money than a column holds", function()
      for _, data in ipairs { { apr = "8.90001" }, { total_tax = "0.001" },
                              { monthly_payment = "1.005" },
                              { total_tax = "9999999999", total_fees = "9999999999" },
                              { apr = "99", total_tax = "9999999999" } } do
        local e = failure(moonpool.call, "create_deal",
                          ours:deal_input { customer_id = ours:customer().id,
                                            scenario_data = data })
        assert.are.same({ "VALIDATION_ERROR", 400 }, { e.code, e.status })
        assert.is_nil(e.sqlstate)
      end
      assert.are.equal(1, ours:count "deals")
    end)

    it("the payment anew when its terms change", function()
      assert_amounts(update { term = 72, apr = "7.25" },
                     { amount_financed = "28500.00", monthly_payment = "489.33" })
      assert_amounts(update { down_payment = "3566.50" },
                     { amount_financed = "25500.00", cash_due_at_signing = "3566.50" })
      assert_amounts(update { apr = "0", term = 60, down_payment = "29066.50" },
                     { amount_financed = "0.00", monthly_payment = "0.00",
                       total_cost = "29066.50" })
    end)

    it("no negative loan", function()
      assert_amounts(update { trade_allowance = "9000000.00" },
                     { amount_financed = "0.00", monthly_payment = "0.00", total_cost = "566.50" })
    end)

    it("nothing where the caller gives the payment", function()
      assert_amounts(update { monthly_payment = "600.00" },
                     { monthly_payment = "600.00", total_cost = "36566.50" })
      assert_amounts(update { term = 48, monthly_payment = "700.00" },
                     { monthly_payment = "700.00", total_cost = "34166.50" })
    end)

    it("nothing where the terms stay, so that a payment given once holds", function()
      update { monthly_payment = "600.00" }
      assert_amounts(update { name = "Renamed", term = 60, apr = "8.90" },
                     { monthly_payment = "600.00" })
    end)

    it("the payment anew when it is cleared", function()
      update { monthly_payment = "600.00" }
      assert_amounts(update { monthly_payment = null },
                     { monthly_payment = "590.23", total_cost = "35980.30" })
    end)

    it("a cash deal without a loan", function()
      assert_amounts(update { scenario_type = "CASH_DEAL" },
                     { amount_financed = "0.00", monthly_payment = "0.00", total_cost = "29066.50",
                       cash_due_at_signing = "29066.50" })
      assert_amounts(update { scenario_type = "FINANCE_DEAL" },
                     { amount_financed = "28500.00", monthly_payment = "590.23" })
    end)

    it("no lease payment: that is the lessor's to say", function()
      assert_amounts(update { scenario_type = "LEASE_DEAL", term = 36, monthly_payment = "412.33" },
                     { monthly_payment = "412.33", total_cost = "15410.38" })
      assert_amounts(update { down_payment = "1000.00" },
                     { monthly_payment = "412.33", total_cost = "15843.88" })
      assert_amounts(update { monthly_payment = null }, { monthly_payment = "0.00" })
    end)

    it("exactly, from JSON to the column and back", function()
      local call = { border = true }
      local function from_json(text)
        local all = json.decode(text, { decimals = true })
        all.dealershipId, all.dealId, all.scenarioId, all.userId = ours.id, deal.id, scenario.id,
          ours.salesperson.id
        local result = moonpool.call("update_scenario", all, call)
        return json.encode(result, { camel = true, decimal_strings = true })
      end
      local out = from_json [[{"scenarioData": {"vehiclePrice": 9007199254.93,
        "downPayment": "0.10", "totalTax": 0.1,
        "totalFees": 0.2, "tradeAllowance": 0, "tradePayoff": 0, "apr": 0.0001, "term": 120}}]]
      for _, part in ipairs { '"vehiclePrice":"9007199254.93"', '"downPayment":"0.10"',
                              '"totalTax":"0.10"',
                              '"totalFees":"0.20"', '"amountFinanced":"9007199255.13"',
                              '"apr":"0.0001"',
                              '"monthlyPayment":"75060372.22"' } do
        assert.truthy(out:find(part, 1, true), part .. " is not in " .. out)
      end
    end)
  end)

  describe("changes", function()
    it("only what is named", function()
      local before = stored()
      local after = update { name = "Better" }
      for field, value in pairs(before) do
        if field ~= "name" and field ~= "updated_at" then
          assert.are.equal(json.encode(value, { sorted = true }),
                           json.encode(after[field], { sorted = true }), field)
        end
      end
      assert.are.equal("Better", after.name)
      same_row(after, stored())
    end)

    it("everything at once", function()
      local products = { { name = "Mats", unitPrice = "89.00" } }
      local after = update {
        name = "All", scenario_type = "LEASE_DEAL", vehicle_price = "30000.00", term = 36,
        apr = "5.25", down_payment = "1.00",
        trade_allowance = "2.00", trade_payoff = "3.00", total_tax = "4.00", total_fees = "5.00",
        monthly_payment = "6.00",
        money_factor = "0.00125", residual_percent = "58.5", residual_value = "17550.00",
        dealer_fees = { { doc_fee = 299 } }, accessories = {}, aftermarket_products = products,
      }
      assert_amounts(after, {
        name = "All", scenario_type = "LEASE_DEAL", vehicle_price = "30000.00", term = "36",
        apr = "5.2500",
        down_payment = "1.00", trade_allowance = "2.00", trade_payoff = "3.00", total_tax = "4.00",
        total_fees = "5.00",
        monthly_payment = "6.00", money_factor = "0.001250", residual_percent = "58.5000",
        residual_value = "17550.00" })
      assert.are.equal("89.00", after.aftermarket_products[1].unitPrice)
      assert.are.equal(299, after.dealer_fees[1].doc_fee)
      same_row(after, stored())
    end)

    it("to nothing what is null, where there may be nothing", function()
      update { money_factor = "0.00125", residual_percent = "58.5", residual_value = "17550.00" }
      local after = update { money_factor = null, residual_value = null }
      assert.is_nil(after.money_factor)
      assert.is_nil(after.residual_value)
      assert.are.equal("58.5000", tostring(after.residual_percent))
    end)

    it("nothing at all without changes", function()
      local after = update {}
      same_row(after, scenario)
      update { name = scenario.name, term = 60, apr = "8.9000", money_factor = null,
               aftermarket_products = {} }
      nothing_left()
    end)

    it("each at its turn, when many come at once", function()
      local work = {}
      for i = 1, 10 do work[i] = function() update { term = 60 + i } end end
      moonpool.all(work)
      local row = stored()
      local money = require "lib.money"
      assert.are.equal(money.monthly_payment(decimal "28500.00", decimal "8.9", row.term),
                       row.monthly_payment)
      local chain, terms = {}, 0
      for _, entry in ipairs(
        ours:rows("audit_log", { scenario_id = scenario.id, field_name = "term" })) do
        chain[entry.old_value], terms = entry.new_value, terms + 1
      end
      assert.are.equal(10, terms)
      local at = "60"
      for _ = 1, 10 do at = chain[at] end
      assert.are.equal(tostring(row.term), at)
    end)
  end)

  describe("writes in the audit log", function()
    it("each field that changed, with old and new value", function()
      update { name = "Better", term = 72, apr = "7.25", down_payment = "566.5" }
      local by_field, count = entries()
      local function assert_entry(field, old, new)
        local entry = by_field[field]
        assert.are.same({ "update", "scenario", scenario.id, deal.id, ours.salesperson.id, old,
                          new },
          { entry.action, entry.entity_type, entry.entity_id, entry.deal_id, entry.user_id,
            entry.old_value, entry.new_value })
      end
      assert_entry("name", "Scenario 1", "Better")
      assert_entry("term", "60", "72")
      assert_entry("apr", "8.9000", "7.25")
      assert_entry("monthly_payment", "590.23", "489.33")
      assert_entry("total_cost", "35980.30", "35798.26")
      assert.are.equal(5, count)
    end)

    it("lists as JSON, and nothing for NULL", function()
      update { money_factor = "0.00125",
               aftermarket_products = { { name = "Mats", unitPrice = "89.00" } } }
      local by_field = entries()
      assert.is_nil(by_field.money_factor.old_value)
      assert.are.equal("0.00125", by_field.money_factor.new_value)
      assert.are.equal("[]", by_field.aftermarket_products.old_value)
      assert.are.equal('[{"name":"Mats","unitPrice":"89.00"}]',
                       by_field.aftermarket_products.new_value)
    end)

    it("who calls, where that is known", function()
      local manager = ours:user { role = "finance_manager" }
      update({ name = "Better" }, { tenant = ours.id, as = manager.id })
      assert.are.equal(manager.id, entries().name.user_id)
    end)
  end)

  describe("refuses", function()
    hostile.fields("update_scenario", function() return input() end, {
      dealership_id = { "uuid", required = true },
      deal_id       = { "uuid", required = true },
      scenario_id   = { "uuid", required = true },
      user_id       = { "uuid" },
      scenario_data = { "object", required = true },
    }, { nothing_left = function() nothing_left() end })

    for field, label in pairs { deal_id = "Deal", scenario_id = "Scenario", user_id = "User" } do
      it("another dealership's " .. field .. " in the words of none", function()
        local theirs = dealership.new()
        local theirs_deal = theirs:deal()
        local ids = { deal_id = theirs_deal.id, user_id = theirs.salesperson.id,
                      scenario_id = theirs:insert("deal_scenarios",
                                                  { deal_id = theirs_deal.id }).id }
        hostile.foreign("update_scenario", function() return input() end, field, label, ids[field])
        nothing_left()
      end)
    end

    it("a scenario of another deal", function()
      local other = ours:insert("deal_scenarios", { deal_id = ours:deal().id })
      hostile.foreign("update_scenario", function()
        return input()
      end, "scenario_id", "Scenario", other.id)
    end)

    it("another dealership than the caller's", function()
      local e = failure(update, nil, { tenant = dealership.new().id })
      assert.are.equal("MULTI_TENANT_VIOLATION", e.code)
      assert.are.equal(403, e.status)
      nothing_left()
    end)

    for _, state in ipairs { "CANCELLED", "DELIVERED" } do
      it("a deal that is " .. state, function()
        ours:transaction(function(tx)
          tx:exec("update deals set deal_state = $1 where dealership_id = $2 and id = $3", state,
                  ours.id, deal.id)
        end)
        local e = failure(update)
        assert.are.equal("DEAL_CLOSED", e.code)
        assert.are.equal(409, e.status)
        assert.are.equal(("Deal is closed: %s is %s"):format(deal.id, state), e.message)
        nothing_left()
      end)
    end

    it("amounts that add up to more than a column holds", function()
      for _, changes in ipairs {
        { vehicle_price = "9999999999.00", total_tax = "9999999999.00" },
        { vehicle_price = "9999999999.00", apr = "99", term = 120 },
        { monthly_payment = "9999999999.00" },
      } do
        local e = failure(update, changes)
        assert.are.equal("VALIDATION_ERROR", e.code)
        assert.is_nil(e.sqlstate)
      end
      nothing_left()
    end)

    local wrong = {
      name                 = { null, 1, true, "", "  ", ("é"):rep(101), "a\0b", "a\xff",
                               ("x"):rep(1024 * 1024), {} },
      scenario_type        = { null, 1, "GIFT", "finance_deal", "" },
      term                 = { null, 0, 121, 36.5, "36", -1, true },
      apr                  = { null, "-0.1", "99.0001", "8.90001", 8.9, "much", "1e1", "NaN",
                               "Infinity" },
      money_factor         = { "-1", 0.1, "0.0000001", "100", {} },
      residual_percent     = { "-1", "99.5", "1.00001", true },
      dealer_fees          = { null, 1, "[]", { a = 1 } },
      accessories          = { null, 1, "[]", { a = 1 } },
      aftermarket_products = { null, 1, "[]", { a = 1 }, { "a\xff" } },
      no_such_field        = { 1 },
      deal_id              = { "00000000-0000-7000-8000-000000000001" },
    }
    for _, field in ipairs { "vehicle_price", "down_payment", "trade_allowance", "trade_payoff",
                             "total_tax", "total_fees",
                             "monthly_payment", "residual_value" } do
      wrong[field] = { "-0.01", "0.001", "10000000000.00", 0.1, "$1", "1e3", "NaN", true, {}, "1\0",
                       ("9"):rep(1024 * 1024) }
      if field ~= "monthly_payment" and field ~= "residual_value" then
        table.insert(wrong[field], null)
      end
    end
    for field, values in pairs(wrong) do
      it("nonsense as " .. field, function()
        for i, value in ipairs(values) do
          local e = failure(update, { [field] = value })
          assert.are.equal("VALIDATION_ERROR", e.code, ("value %d: %s"):format(i, tostring(e)))
          assert.are.equal(400, e.status)
          assert.is_true(#tostring(e) < 500)
        end
        nothing_left()
      end)
    end
  end)

  it("takes hostile text as it is", function()
    for _, text in pairs(hostile.texts) do
      assert.are.equal(text, update { name = text }.name)
      assert.are.equal(
        text, update { aftermarket_products = { { [text] = text } } }.aftermarket_products[1][text])
    end
  end)

  it("leaves nothing wherever its script fails", function()
    local first = input { term = 72 }
    local calls = meddler.count("update_scenario", first, false)
    prepare()
    for n = 1, calls do
      local operation = meddler.operation("update_scenario", function(call)
        if call == n then error("out of order at call " .. n) end
      end)
      assert.are.equal("SCRIPT_ERROR", failure(moonpool.call, operation, input { term = 72 }).code)
      nothing_left()
    end
  end)

  it("costs three round trips, two where nothing changes", function()
    local function round_trips(changes)
      local _, info = moonpool.call_info("update_scenario", input(changes))
      return info.round_trips
    end
    round_trips { name = "First", term = 50 }
    assert.are.equal(3, round_trips { name = "Second", term = 51 })
    assert.are.equal(2, round_trips {})
  end)
end)
