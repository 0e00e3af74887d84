-- attach_customer: the customer, the number that comes with the first one, and what is refused.
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local meddler    = require "spec.support.workload.meddler"
local moonpool   = require "moonpool"
local registry   = require "moonpool.operation.registry"
local fields_of  = require "moonpool.operation.fields"

local function attach(input, options)
  return moonpool.call("attach_customer", input, options)
end

-- The operation with other settings.
local function variant(name, fields)
  local definition, op = {}, registry.get(name)
  for _, field in ipairs(fields_of.list) do definition[field.name] = op[field.name] end
  for field, value in pairs(fields) do definition[field] = value or nil end
  return moonpool.operation(definition)
end

describe("attach_customer", function()
  local ours, deal, customer

  local function prepare()
    ours = dealership.new()
    deal, customer = ours:deal(), ours:customer()
  end

  before_each(prepare)

  local function input(values)
    local all = { dealership_id = ours.id, deal_id = deal.id, customer_id = customer.id,
                  user_id = ours.salesperson.id }
    for name, value in pairs(values or {}) do all[name] = value end
    return all
  end

  local function stored() return ours:rows("deals", { id = deal.id })[1] end

  local function nothing_left()
    assert.is_nil(stored().customer_id)
    for _, name in ipairs { "audit_log", "deal_number_sequences" } do
      assert.are.equal(0, ours:count(name), name)
    end
  end

  local function assert_refused(code, status, message, values, options)
    local e = failure(attach, input(values), options)
    assert.are.equal(code, e.code, tostring(e))
    assert.are.equal(status, e.status)
    if message then assert.are.equal(message, e.message) end
    assert.is_nil(e.sqlstate)
  end

  describe("attaches", function()
    it("the first customer, and gives the deal its number", function()
      local result = attach(input())
      assert.are.equal(customer.id, result.deal.customer_id)
      assert.are.equal(customer.id, result.customer.id)
      assert.is_not_nil(result.deal.customer_attached_at)
      assert.truthy(result.deal.deal_number:match "^%d%d%d%d%-%d%d%d%d%-0001$")
      local row = stored()
      for _, field in ipairs { "customer_id", "customer_attached_at", "deal_number",
                               "updated_at" } do
        assert.are.equal(row[field], result.deal[field], field)
      end
    end)

    it("another customer, and keeps the number", function()
      local first = attach(input()).deal
      local other = ours:customer()
      local second = attach(input { customer_id = other.id }).deal
      assert.are.equal(other.id, second.customer_id)
      assert.are.equal(first.deal_number, second.deal_number)
      assert.are_not.equal(first.customer_attached_at, second.customer_attached_at)
      assert.are.equal(1, ours:rows("deal_number_sequences")[1].current_sequence)
    end)

    it("the same customer again, which changes nothing", function()
      local first = attach(input()).deal
      local entries = ours:count "audit_log"
      local second = attach(input()).deal
      assert.are.equal(first.deal_number, second.deal_number)
      assert.are.equal(first.customer_attached_at, second.customer_attached_at)
      assert.are.equal(entries, ours:count "audit_log")
    end)

    it("where the caller is known and the input names nobody", function()
      local manager = ours:user { role = "sales_manager" }
      local all = input()
      all.user_id = nil
      attach(all, { tenant = ours.id, as = manager.id })
      for _, entry in ipairs(ours:rows "audit_log") do
        assert.are.equal(manager.id, entry.user_id)
      end
    end)
  end)

  describe("writes in the audit log", function()
    it("customer and number, with what was there before", function()
      local former = ours:customer()
      deal = ours:deal { customer_id = former.id }
      local number = attach(input()).deal.deal_number
      local by_field = {}
      for _, entry in ipairs(ours:rows("audit_log", { deal_id = deal.id })) do
        assert.are.equal("update", entry.action)
        assert.are.equal("deal", entry.entity_type)
        assert.are.equal(deal.id, entry.entity_id)
        assert.are.equal(ours.salesperson.id, entry.user_id)
        assert.are.equal(number, entry.metadata.deal_number)
        by_field[entry.field_name] = entry
      end
      assert.are.equal(former.id, by_field.customer_id.old_value)
      assert.are.equal(customer.id, by_field.customer_id.new_value)
      assert.is_nil(by_field.deal_number.old_value)
      assert.are.equal(number, by_field.deal_number.new_value)
      assert.are.equal(2, ours:count "audit_log")
    end)
  end)

  describe("refuses", function()
    hostile.fields("attach_customer", function() return input() end, {
      dealership_id = { "uuid", required = true },
      deal_id       = { "uuid", required = true },
      customer_id   = { "uuid", required = true },
      user_id       = { "uuid" },
    }, { nothing_left = function() nothing_left() end })

    it("nobody who acts", function()
      local all = input()
      all.user_id = nil
      local e = failure(attach, all)
      assert.are.equal("VALIDATION_ERROR", e.code)
      nothing_left()
    end)

    for field, label in pairs { deal_id = "Deal", customer_id = "Customer", user_id = "User" } do
      it("another dealership's " .. field .. " in the words of none", function()
        local theirs = dealership.new()
        local ids = { deal_id = theirs:deal().id, customer_id = theirs:customer().id,
                      user_id = theirs.salesperson.id }
        hostile.foreign("attach_customer", function() return input() end, field, label, ids[field])
        nothing_left()
      end)
    end

    it("another dealership than the caller's", function()
      assert_refused("MULTI_TENANT_VIOLATION", 403, nil, nil, { tenant = dealership.new().id })
      nothing_left()
    end)

    for _, state in ipairs { "CANCELLED", "DELIVERED" } do
      it("a deal that is " .. state, function()
        deal = ours:deal { deal_state = state }
        assert_refused("DEAL_CLOSED", 409, ("Deal is closed: %s is %s"):format(deal.id, state))
        nothing_left()
      end)
    end

    it("a number that is taken already", function()
      attach(input())
      ours:transaction(function(tx)
        tx:exec("update deal_number_sequences set current_sequence = 0 where dealership_id = $1",
                ours.id)
      end)
      deal = ours:deal()
      local e = failure(attach, input())
      assert.are.equal("DUPLICATE_DEAL_NUMBER", e.code)
      assert.are.equal(409, e.status)
      assert.is_nil(stored().customer_id)
    end)
  end)

  describe("many at once", function()
    for _, isolation in ipairs { "read committed", "serializable" } do
      for _, lane in ipairs { "deal_number:$dealership_id", false } do
        it(("take consecutive numbers: %s, %s lane"):format(isolation, lane and "one" or "no"),
           function()
          local settings = { isolation = isolation, lane = lane, retries = 100, timeout = 60 }
          local to_attach, to_create = variant("attach_customer", settings),
            variant("create_deal", settings)
          local work, total = {}, 24
          for i = 1, total do
            if i % 2 == 0 then
              local one = input { deal_id = ours:deal().id }
              work[i] = function() return moonpool.call(to_attach, one).deal end
            else
              work[i] = function()
                return moonpool.call(to_create, ours:deal_input { customer_id = customer.id }).deal
              end
            end
          end
          local seen = {}
          for _, made in ipairs(moonpool.all(work)) do
            seen[math.tointeger(made.deal_number:match "%d+$")] = true
          end
          for i = 1, total do assert.is_true(seen[i], "number " .. i) end
          assert.are.equal(total, ours:rows("deal_number_sequences")[1].current_sequence)
        end)
      end

      it("on one deal take one number: " .. isolation, function()
        local op = variant("attach_customer",
                           { isolation = isolation, lane = false, retries = 100, timeout = 60 })
        local work = {}
        for i = 1, 8 do
          local one = input { customer_id = ours:customer().id }
          work[i] = function() return moonpool.call(op, one).deal.deal_number end
        end
        for _, number in ipairs(moonpool.all(work)) do
          assert.are.equal(stored().deal_number, number)
        end
        assert.are.equal(1, ours:rows("deal_number_sequences")[1].current_sequence)
      end)
    end
  end)

  it("leaves nothing wherever its script fails", function()
    local first = input()
    local calls = meddler.count("attach_customer", first, false)
    prepare()
    for n = 1, calls do
      local operation = meddler.operation("attach_customer", function(call)
        if call == n then error("out of order at call " .. n) end
      end)
      assert.are.equal("SCRIPT_ERROR", failure(moonpool.call, operation, input()).code)
      nothing_left()
    end
  end)

  describe("costs", function()
    it("two round trips where the deal has its number, four where it takes one", function()
      attach(input())
      attach(input { customer_id = ours:customer().id })
      deal = ours:deal()
      local _, numbered = moonpool.call_info("attach_customer", input())
      assert.are.equal(4, numbered.round_trips)
      local _, again = moonpool.call_info("attach_customer",
                                          input { customer_id = ours:customer().id })
      assert.are.equal(2, again.round_trips)
    end)
  end)
end)
