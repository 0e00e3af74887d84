-- list_deals: filters, order, pages, and that the indexes serve them.
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local moonpool   = require "moonpool"

local function list(input, options)
  return moonpool.call("list_deals", input, options)
end

local function ids(rows)
  local all = {}
  for i, row in ipairs(rows) do all[i] = row.id end
  return all
end

-- All pages, one after the other; fn(page) is called after each.
local function pages(input, fn)
  local all, count = {}, 0
  repeat
    local page = list(input)
    count = count + 1
    for _, row in ipairs(page.deals) do all[#all + 1] = row.id end
    if fn then fn(page) end
    input.cursor = page.next_cursor
  until not input.cursor
  return all, count
end

describe("list_deals", function()
  local ours

  before_each(function() ours = dealership.new() end)

  local function input(values)
    local all = { dealership_id = ours.id }
    for name, value in pairs(values or {}) do all[name] = value end
    return all
  end

  -- Deals of minutes 1 to n, newest first.
  local function deals(n, values)
    local made = {}
    for i = 1, n do
      local all = { created_at = ("2026-03-14T10:%02d:00.123456Z"):format(i) }
      for name, value in pairs(values or {}) do all[name] = value end
      table.insert(made, 1, ours:deal(all).id)
    end
    return made
  end

  it("gives nothing where there is nothing", function()
    local result = list(input())
    assert.are.same({}, result.deals)
    assert.is_nil(result.next_cursor)
    assert.are.equal('{"deals":[]}', moonpool.json.encode(result, { camel = true }))
  end)

  it("gives the newest first, whole rows", function()
    local made = deals(3)
    local result = list(input())
    assert.are.same(made, ids(result.deals))
    assert.are.equal("DRAFT", result.deals[1].deal_state)
    assert.are.equal(ours.salesperson.id, result.deals[1].salesperson_id)
    assert.is_nil(result.next_cursor)
  end)

  it("gives nobody else's", function()
    dealership.new():deal()
    local made = deals(1)
    assert.are.same(made, ids(list(input()).deals))
  end)

  describe("in pages", function()
    for _, limit in ipairs { 1, 2, 3, 7, 8, 100 } do
      it("of " .. limit, function()
        local made = deals(7)
        local all, count = pages(input { limit = limit })
        assert.are.same(made, all)
        assert.are.equal(math.ceil(7 / limit), count)
      end)
    end

    it("of 50 unless told otherwise", function()
      deals(51)
      local result = list(input())
      assert.are.equal(50, #result.deals)
      assert.is_string(result.next_cursor)
    end)

    it("of deals that were made at the same moment", function()
      for _ = 1, 7 do ours:deal { created_at = "2026-03-14T10:00:00Z" } end
      local all = pages(input { limit = 2 })
      local seen = {}
      for _, id in ipairs(all) do seen[id] = true end
      assert.are.equal(7, #all)
      local different = 0
      for _ in pairs(seen) do different = different + 1 end
      assert.are.equal(7, different)
    end)

    it("that neither repeat nor hide when deals come meanwhile", function()
      local made = deals(6)
      assert.are.same(made, (pages(input { limit = 2 }, function() ours:deal() end)))
    end)

    it("with a cursor that can be read again, and travels in a URL", function()
      deals(3)
      local cursor = list(input { limit = 1 }).next_cursor
      assert.truthy(cursor:match "^[%w_-]+$")
      local function again() return ids(list(input { limit = 1, cursor = cursor }).deals) end
      assert.are.same(again(), again())
    end)

    it("where a cursor of another dealership shows nothing of it", function()
      local theirs = dealership.new()
      for _ = 1, 3 do theirs:deal() end
      local cursor = list({ dealership_id = theirs.id, limit = 1 }).next_cursor
      local made = deals(2)
      assert.are.same(made, ids(list(input { cursor = cursor }).deals))
    end)
  end)

  describe("selects by", function()
    it("state", function()
      local by_state = {}
      for _, state in ipairs { "DRAFT", "IN_PROGRESS", "APPROVED", "CANCELLED", "DELIVERED" } do
        by_state[state] = ours:deal { deal_state = state }.id
      end
      for state, id in pairs(by_state) do
        assert.are.same({ id }, ids(list(input { states = { state } }).deals))
      end
      assert.are.same({ by_state.DELIVERED, by_state.DRAFT },
                      ids(list(input { states = { "DRAFT", "DELIVERED" } }).deals))
      assert.are.equal(3, #list(input { states = { "DRAFT", "IN_PROGRESS", "APPROVED" } }).deals)
      assert.are.equal(2, #list(input { states = { "DRAFT", "IN_PROGRESS", "DRAFT" } }).deals)
      assert.are.equal(3, #list(input { states = { "DRAFT", "IN_PROGRESS", "CANCELLED" } }).deals)
      assert.are.equal(
        5, #list(
          input { states = { "DRAFT", "IN_PROGRESS", "APPROVED", "CANCELLED",
                             "DELIVERED" } }).deals)
    end)

    it("salesperson and customer", function()
      local other, customer = ours:user(), ours:customer()
      local a = ours:deal { salesperson_id = other.id }
      local b = ours:deal { customer_id = customer.id }
      local c = ours:deal { salesperson_id = other.id, customer_id = customer.id }
      assert.are.same({ c.id, a.id }, ids(list(input { salesperson_id = other.id }).deals))
      assert.are.same({ c.id, b.id }, ids(list(input { customer_id = customer.id }).deals))
      assert.are.same({ c.id },
                      ids(list(input { customer_id = customer.id, salesperson_id = other.id,
                                       states = { "DRAFT" } }).deals))
    end)

    it("in pages too", function()
      local made = deals(5, { deal_state = "APPROVED" })
      deals(5)
      assert.are.same(made, (pages(input { limit = 2, states = { "APPROVED" } })))
    end)
  end)

  describe("refuses", function()
    hostile.fields("list_deals", function() return input() end, {
      dealership_id  = { "uuid", required = true },
      states         = { "array" },
      salesperson_id = { "uuid" },
      customer_id    = { "uuid" },
      limit          = { "integer" },
      cursor         = { "text", plain = true },
    })

    for field, label in pairs { salesperson_id = "Salesperson", customer_id = "Customer" } do
      it("another dealership's " .. field .. " in the words of none", function()
        local theirs = dealership.new()
        hostile.foreign("list_deals", function() return input() end, field, label,
          ({ salesperson_id = theirs.salesperson.id, customer_id = theirs:customer().id })[field])
      end)
    end

    it("an unknown dealership", function()
      local id = moonpool.uuid()
      local e = failure(list, { dealership_id = id })
      assert.are.same({ "RESOURCE_NOT_FOUND", 404, "Dealership not found: " .. id },
                      { e.code, e.status, e.message })
    end)

    it("another dealership than the caller's", function()
      local e = failure(list, input(), { tenant = dealership.new().id })
      assert.are.same({ "MULTI_TENANT_VIOLATION", 403 }, { e.code, e.status })
    end)

    for what, values in pairs {
      ["no states"] = { states = {} }, ["an unknown state"] = { states = { "LOST" } },
      ["too many states"] = { states = { "DRAFT", "DRAFT", "DRAFT", "DRAFT", "DRAFT", "DRAFT" } },
      ["a limit of 0"] = { limit = 0 }, ["a limit of 101"] = { limit = 101 },
      ["an empty cursor"] = { cursor = "" },
      ["a cursor too long"] = { cursor = ("A"):rep(4001) },
    } do
      it(what, function()
        assert.are.equal("VALIDATION_ERROR", failure(list, input(values)).code)
      end)
    end

    it("a cursor that no page gave", function()
      deals(2)
      local good = list(input { limit = 1 }).next_cursor
      local customers = dealership.new()
      customers:customer()
      customers:customer()
      local foreign = moonpool.call("search_customers",
                                    { dealership_id = customers.id, limit = 1 }).next_cursor
      for _, cursor in ipairs { "x", "AAAA", good .. "AAAA", good:sub(1, -5), good:reverse(),
                                foreign, "bnVsbA", "W10" } do
        local e = failure(list, input { cursor = cursor })
        assert.are.same({ "VALIDATION_ERROR", 400 }, { e.code, e.status })
      end
    end)
  end)

  it("writes nothing, and could not", function()
    assert.is_true(require("moonpool.operation.registry").get("list_deals").read_only)
    deals(1)
    list(input())
    assert.are.equal(0, ours:count "audit_log")
  end)

  it("costs two round trips", function()
    local all = input { states = { "DRAFT" }, salesperson_id = ours.salesperson.id,
                        customer_id = ours:customer().id }
    list(all)
    local _, info = moonpool.call_info("list_deals", all)
    assert.are.equal(2, info.round_trips)
  end)
end)
