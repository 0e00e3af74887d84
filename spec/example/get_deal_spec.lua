-- get_deal: the deal and what belongs to it, and nothing of others.
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local moonpool   = require "moonpool"

describe("get_deal", function()
  local ours, deal

  before_each(function()
    ours = dealership.new()
    deal = ours:deal()
  end)

  local function input(values)
    local all = { dealership_id = ours.id, deal_id = deal.id }
    for name, value in pairs(values or {}) do all[name] = value end
    return all
  end

  local function get(values, options)
    return moonpool.call("get_deal", input(values), options)
  end

  it("shows a deal with all that belongs to it", function()
    local vehicle, trade, customer = ours:vehicle(), ours:trade_vehicle(), ours:customer()
    local made = moonpool.call("create_deal",
                               ours:deal_input { customer_id = customer.id, vehicle_id = vehicle.id,
                                                 trade_vehicle_id = trade.id })
    local second = ours:insert("deal_scenarios", { deal_id = made.deal.id, name = "Scenario 2" })
    local result = get { deal_id = made.deal.id }
    assert.are.equal(made.deal.deal_number, result.deal.deal_number)
    assert.are.equal(2, #result.scenarios)
    assert.are.equal(made.scenario.id, result.scenarios[1].id)
    assert.are.equal(second.id, result.scenarios[2].id)
    assert.are.equal(customer.id, result.customer.id)
    assert.are.equal(vehicle.id, result.vehicle.id)
    assert.are.equal("pending", result.vehicle.status)
    assert.are.equal(trade.id, result.trade_vehicle.id)
    assert.are.equal(2, #result.audit_entries)
    assert.are.equal("vehicle", result.audit_entries[1].entity_type)
    assert.are.equal("create", result.audit_entries[2].action)
  end)

  it("shows a deal of which nothing is known yet", function()
    local result = get()
    assert.are.equal(deal.id, result.deal.id)
    assert.is_nil(result.customer)
    assert.is_nil(result.vehicle)
    assert.is_nil(result.trade_vehicle)
    local text = moonpool.json.encode(result, { camel = true })
    for _, part in ipairs { '"scenarios":[]', '"auditEntries":[]', '"dealNumber":null' } do
      assert.truthy(text:find(part, 1, true), text)
    end
  end)

  it("shows nothing of other deals", function()
    moonpool.call("create_deal", ours:deal_input { customer_id = ours:customer().id })
    local result = get()
    assert.are.same({}, result.scenarios)
    assert.are.same({}, result.audit_entries)
  end)

  it("shows the latest audit entries, newest first", function()
    for _, state in ipairs { "IN_PROGRESS", "APPROVED", "DELIVERED" } do
      moonpool.call("change_deal_state",
                    { dealership_id = ours.id, deal_id = deal.id, user_id = ours.salesperson.id,
                      state = state })
    end
    local entries = get { audit_limit = 2 }.audit_entries
    assert.are.equal(2, #entries)
    assert.are.equal("DELIVERED", entries[1].new_value)
    assert.are.equal("APPROVED", entries[2].new_value)
    assert.are.same({}, get { audit_limit = 0 }.audit_entries)
    assert.are.equal(3, #get().audit_entries)
  end)

  it("shows it as of one moment", function()
    local work, broken = {}, 0
    for i = 1, 8 do
      local one = ours:deal { deal_state = "IN_PROGRESS" }.id
      work[#work + 1] = function()
        moonpool.call("change_deal_state",
                      { dealership_id = ours.id, deal_id = one, user_id = ours.salesperson.id,
                        state = i % 2 == 0 and "APPROVED" or "CANCELLED" })
      end
      for _ = 1, 4 do
        work[#work + 1] = function()
          local seen = get { deal_id = one }
          local changed = seen.deal.deal_state ~= "IN_PROGRESS"
          if changed ~= (#seen.audit_entries > 0) then broken = broken + 1 end
        end
      end
    end
    moonpool.all(work)
    assert.are.equal(0, broken)
  end)

  describe("refuses", function()
    hostile.fields("get_deal", function() return input() end, {
      dealership_id = { "uuid", required = true },
      deal_id       = { "uuid", required = true },
      audit_limit   = { "integer" },
    })

    it("another dealership's deal in the words of none", function()
      hostile.foreign("get_deal", function()
        return input()
      end, "deal_id", "Deal", dealership.new():deal().id)
    end)

    it("another dealership than the caller's", function()
      local e = failure(get, nil, { tenant = dealership.new().id })
      assert.are.same({ "MULTI_TENANT_VIOLATION", 403 }, { e.code, e.status })
    end)

    it("more than 100 audit entries", function()
      assert.are.equal("VALIDATION_ERROR", failure(get, { audit_limit = 101 }).code)
      assert.are.equal("VALIDATION_ERROR", failure(get, { audit_limit = -1 }).code)
    end)
  end)

  it("costs three round trips, and writes nothing", function()
    get()
    local _, info = moonpool.call_info("get_deal", input())
    assert.are.equal(3, info.round_trips)
    assert.is_true(require("moonpool.operation.registry").get("get_deal").read_only)
  end)
end)
