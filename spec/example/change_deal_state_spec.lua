-- change_deal_state: each move, allowed or not, and what becomes of the vehicle.
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local meddler    = require "spec.support.workload.meddler"
local moonpool   = require "moonpool"

local states = { "DRAFT", "IN_PROGRESS", "APPROVED", "CANCELLED", "DELIVERED" }

local allowed = {
  DRAFT       = { IN_PROGRESS = true, CANCELLED = true },
  IN_PROGRESS = { APPROVED = true, CANCELLED = true },
  APPROVED    = { DELIVERED = true, IN_PROGRESS = true, CANCELLED = true },
  CANCELLED   = {},
  DELIVERED   = {},
}

describe("change_deal_state", function()
  local ours, deal, vehicle

  local function prepare()
    ours = dealership.new()
    vehicle = ours:vehicle { status = "pending" }
    deal = ours:deal { deal_state = "APPROVED", vehicle_id = vehicle.id }
  end

  before_each(prepare)

  local function input(values)
    local all = { dealership_id = ours.id, deal_id = deal.id, user_id = ours.salesperson.id,
                  state = "DELIVERED" }
    for name, value in pairs(values or {}) do all[name] = value end
    return all
  end

  local function change(values, options)
    return moonpool.call("change_deal_state", input(values), options)
  end

  local function status_of(id) return ours:rows("vehicles", { id = id })[1].status end
  local function state_of(id) return ours:rows("deals", { id = id })[1].deal_state end

  local function nothing_left()
    assert.are.equal("APPROVED", state_of(deal.id))
    assert.are.equal("pending", status_of(vehicle.id))
    assert.are.equal(0, ours:count "audit_log")
  end

  local function assert_refused(code, status, message, values, options)
    local e = failure(change, values, options)
    assert.are.equal(code, e.code, tostring(e))
    assert.are.equal(status, e.status)
    if message then assert.are.equal(message, e.message) end
  end

  for _, from in ipairs(states) do
    for _, to in ipairs(states) do
      local legal = allowed[from][to]
      it(("%s %s to %s"):format(legal and "moves" or "refuses to move", from, to), function()
        deal = ours:deal { deal_state = from }
        if legal then
          local result = change { state = to }
          assert.are.equal(to, result.deal.deal_state)
          assert.is_nil(result.vehicle)
          assert.are.equal(to, state_of(deal.id))
          local entries = ours:rows("audit_log", { deal_id = deal.id })
          assert.are.equal(1, #entries)
          local entry = entries[1]
          assert.are.same({ "update", "deal", "deal_state", from, to, deal.id,
                            ours.salesperson.id },
            { entry.action, entry.entity_type, entry.field_name, entry.old_value, entry.new_value,
              entry.entity_id,
              entry.user_id })
        else
          assert_refused("INVALID_STATE_CHANGE", 409,
                         ("Deal cannot go from %s to %s: %s"):format(from, to, deal.id),
                         { state = to })
          assert.are.equal(from, state_of(deal.id))
          assert.are.equal(0, ours:count "audit_log")
        end
      end)
    end
  end

  describe("sells the vehicle of a delivered deal", function()
    for _, status in ipairs { "pending", "available" } do
      it("that was " .. status, function()
        vehicle = ours:vehicle { status = status }
        deal = ours:deal { deal_state = "APPROVED", vehicle_id = vehicle.id }
        local result = change()
        assert.are.equal("sold", result.vehicle.status)
        assert.are.equal("sold", status_of(vehicle.id))
        local entry = ours:rows("audit_log", { entity_type = "vehicle" })[1]
        assert.are.same({ vehicle.id, deal.id, "status", status, "sold" },
          { entry.entity_id, entry.deal_id, entry.field_name, entry.old_value, entry.new_value })
        assert.are.equal(2, ours:count "audit_log")
      end)
    end

    for _, status in ipairs { "hold", "sold", "in_transit" } do
      it("but not one that is " .. status, function()
        vehicle = ours:vehicle { status = status }
        deal = ours:deal { deal_state = "APPROVED", vehicle_id = vehicle.id }
        assert_refused("VEHICLE_NOT_AVAILABLE", 409, "Vehicle is not available: " .. vehicle.id)
        assert.are.equal(status, status_of(vehicle.id))
        assert.are.equal("APPROVED", state_of(deal.id))
        assert.are.equal(0, ours:count "audit_log")
      end)
    end

    it("once, whoever comes first", function()
      for _ = 1, 10 do
        vehicle = ours:vehicle { status = "pending" }
        local work = {}
        for i = 1, 4 do
          local one = input { deal_id = ours:deal { deal_state = "APPROVED",
                                                    vehicle_id = vehicle.id }.id }
          work[i] = function()
            local ok, e = pcall(moonpool.call, "change_deal_state", one)
            return ok and "sold" or e.code
          end
        end
        local sold, refused = 0, 0
        for _, outcome in ipairs(moonpool.all(work)) do
          if outcome == "sold" then
            sold = sold + 1
          elseif outcome == "VEHICLE_NOT_AVAILABLE" then
            refused = refused + 1
          end
        end
        assert.are.same({ 1, 3 }, { sold, refused })
        assert.are.equal(
          1, ours:count("deals", { vehicle_id = vehicle.id, deal_state = "DELIVERED" }))
        assert.are.equal("sold", status_of(vehicle.id))
      end
    end)

    it("and a deal that wanted it too can only be cancelled", function()
      local other = ours:deal { deal_state = "APPROVED", vehicle_id = vehicle.id }
      change()
      assert_refused("VEHICLE_NOT_AVAILABLE", 409, nil, { deal_id = other.id })
      assert.is_nil(change { deal_id = other.id, state = "CANCELLED" }.vehicle)
      assert.are.equal("sold", status_of(vehicle.id))
    end)
  end)

  describe("frees the vehicle of a cancelled deal", function()
    it("that was pending for it", function()
      local result = change { state = "CANCELLED" }
      assert.are.equal("available", result.vehicle.status)
      assert.are.equal("available", status_of(vehicle.id))
      local entry = ours:rows("audit_log", { entity_type = "vehicle" })[1]
      assert.are.same({ "status", "pending", "available" },
                      { entry.field_name, entry.old_value, entry.new_value })
    end)

    for _, status in ipairs { "available", "hold", "sold", "in_transit" } do
      it("but leaves one that is " .. status, function()
        vehicle = ours:vehicle { status = status }
        deal = ours:deal { deal_state = "DRAFT", vehicle_id = vehicle.id }
        assert.is_nil(change { state = "CANCELLED" }.vehicle)
        assert.are.equal(status, status_of(vehicle.id))
        assert.are.equal(0, ours:count("audit_log", { entity_type = "vehicle" }))
      end)
    end

    for _, state in ipairs { "DRAFT", "IN_PROGRESS", "APPROVED" } do
      it("but not while another wants it that is " .. state, function()
        ours:deal { deal_state = state, vehicle_id = vehicle.id }
        assert.is_nil(change { state = "CANCELLED" }.vehicle)
        assert.are.equal("pending", status_of(vehicle.id))
      end)
    end

    it("where the others that wanted it are cancelled", function()
      ours:deal { deal_state = "CANCELLED", vehicle_id = vehicle.id }
      assert.are.equal("available", change { state = "CANCELLED" }.vehicle.status)
    end)

    it("when the last of many is cancelled, all at once", function()
      for _ = 1, 10 do
        vehicle = ours:vehicle { status = "pending" }
        local work = {}
        for i = 1, 4 do
          local one = input { deal_id = ours:deal { vehicle_id = vehicle.id }.id,
                              state = "CANCELLED" }
          work[i] = function() return moonpool.call("change_deal_state", one).vehicle and 1 or 0 end
        end
        local freed = 0
        for _, count in ipairs(moonpool.all(work)) do freed = freed + count end
        assert.are.equal(1, freed)
        assert.are.equal("available", status_of(vehicle.id))
      end
    end)

    it("or keeps it for a deal that is made meanwhile", function()
      for _ = 1, 10 do
        vehicle = ours:vehicle { status = "pending" }
        local one = input { deal_id = ours:deal { vehicle_id = vehicle.id }.id,
                            state = "CANCELLED" }
        local other = ours:deal_input { vehicle_id = vehicle.id,
                                        customer_data = { first_name = "Mia",
                                                          last_name = "While" } }
        moonpool.all {
          function() moonpool.call("change_deal_state", one) end,
          function() moonpool.call("create_deal", other) end,
        }
        assert.are.equal("pending", status_of(vehicle.id))
      end
    end)
  end)

  describe("refuses", function()
    hostile.fields("change_deal_state", function() return input() end, {
      dealership_id = { "uuid", required = true },
      deal_id       = { "uuid", required = true },
      user_id       = { "uuid" },
      state         = { "enum", required = true },
    }, { nothing_left = function() nothing_left() end })

    for field, label in pairs { deal_id = "Deal", user_id = "User" } do
      it("another dealership's " .. field .. " in the words of none", function()
        local theirs = dealership.new()
        local ids = { deal_id = theirs:deal().id, user_id = theirs.salesperson.id }
        hostile.foreign("change_deal_state", function()
          return input()
        end, field, label, ids[field])
        nothing_left()
      end)
    end

    it("another dealership than the caller's", function()
      assert_refused("MULTI_TENANT_VIOLATION", 403, nil, nil, { tenant = dealership.new().id })
      nothing_left()
    end)

    it("nobody who acts", function()
      local all = input()
      all.user_id = nil
      assert.are.equal("VALIDATION_ERROR", failure(moonpool.call, "change_deal_state", all).code)
      nothing_left()
    end)
  end)

  it("has the caller as actor, where one is known", function()
    local manager = ours:user { role = "sales_manager" }
    change(nil, { tenant = ours.id, as = manager.id })
    for _, entry in ipairs(ours:rows "audit_log") do assert.are.equal(manager.id, entry.user_id) end
  end)

  it("leaves nothing wherever its script fails", function()
    local first = input()
    local calls = meddler.count("change_deal_state", first, false)
    prepare()
    for n = 1, calls do
      local operation = meddler.operation("change_deal_state", function(call)
        if call == n then error("out of order at call " .. n) end
      end)
      assert.are.equal("SCRIPT_ERROR", failure(moonpool.call, operation, input()).code)
      nothing_left()
    end
  end)

  it("costs two round trips", function()
    for _, state in ipairs { "DELIVERED", "CANCELLED", "IN_PROGRESS" } do
      local function once()
        deal = ours:deal { deal_state = "APPROVED",
                           vehicle_id = ours:vehicle { status = "pending" }.id }
        local _, info = moonpool.call_info("change_deal_state", input { state = state })
        return info
      end
      once()
      assert.are.equal(2, once().round_trips, state)
    end
  end)
end)
