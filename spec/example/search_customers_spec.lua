-- search_customers: what is found by what, in which order, page by page.
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local hostile    = require "spec.support.workload.hostile"
local moonpool   = require "moonpool"

local function search(input, options)
  return moonpool.call("search_customers", input, options)
end

describe("search_customers", function()
  local ours

  before_each(function() ours = dealership.new() end)

  local function input(values)
    local all = { dealership_id = ours.id }
    for name, value in pairs(values or {}) do all[name] = value end
    return all
  end

  local function add(...)
    for _, name in ipairs { ... } do
      local first, last = name:match "^(%S+) (.+)$"
      ours:customer { first_name = first, last_name = last }
    end
  end

  -- "First Last" of those found, in the order of the alphabet.
  local function names(values)
    local all = {}
    for i, row in ipairs(search(input(values)).customers) do
      all[i] = row.first_name .. " " .. row.last_name
    end
    table.sort(all)
    return all
  end

  describe("by name", function()
    it("finds what begins alike, in any case", function()
      add("Ann Smith", "Bob SMITHERS", "Cid smithson", "Dan McSmith", "Eve Smyth", "Fay McDonald",
          "Gil S", "Hal Taylor",
          "Ian Rook")
      for _, spelled in ipairs { "smith", "Smith", "SMITH", "sMiTh" } do
        assert.are.same({ "Ann Smith", "Bob SMITHERS", "Cid smithson" },
                        names { last_name = spelled })
      end
      assert.are.same({ "Fay McDonald" }, names { last_name = "mcd" })
      assert.are.same({ "Dan McSmith", "Fay McDonald" }, names { last_name = "MC" })
      assert.are.same({ "Ann Smith", "Bob SMITHERS", "Cid smithson", "Eve Smyth", "Gil S" },
                      names { last_name = "s" })
      assert.are.same({}, names { last_name = "smithsonian" })
    end)

    it("finds the last letter of the alphabet, and what begins with none", function()
      add("Ann Zorn", "Bob zander", "Cid Žižka", "Dan žák", "Eve O'Hara", "Fay 'Tis", "Gil 3rd",
          "Hal 李", "Ian Özil", "Jim özal")
      assert.are.same({ "Ann Zorn", "Bob zander" }, names { last_name = "Z" })
      assert.are.same({ "Cid Žižka", "Dan žák" }, names { last_name = "ž" })
      assert.are.same({ "Ian Özil", "Jim özal" }, names { last_name = "Öz" })
      assert.are.same({ "Eve O'Hara" }, names { last_name = "o'h" })
      assert.are.same({ "Fay 'Tis" }, names { last_name = "'t" })
      assert.are.same({ "Gil 3rd" }, names { last_name = "3" })
      assert.are.same({ "Hal 李" }, names { last_name = "李" })
    end)

    it("takes no sign for a wildcard", function()
      add("Ann Smith", "Bob %", "Cid _x", "Dan \\")
      assert.are.same({ "Bob %" }, names { last_name = "%" })
      assert.are.same({ "Cid _x" }, names { last_name = "_" })
      assert.are.same({ "Dan \\" }, names { last_name = "\\" })
      assert.are.same({}, names { last_name = "S%" })
    end)

    it("finds by first name, and by both", function()
      add("Ann Smith", "anna Jones", "Bob Smith")
      assert.are.same({ "Ann Smith", "anna Jones" }, names { first_name = "ANN" })
      assert.are.same({ "Ann Smith" }, names { first_name = "ann", last_name = "sm" })
    end)
  end)

  it("by e-mail address, as it was written or all small", function()
    local customer = ours:customer { email = "nora@example.com" }
    local loud = ours:customer { email = "Ola@Example.com" }
    ours:customer { email = "nora@example.community" }
    local function found(email)
      local rows = search(input { email = email }).customers
      return rows[1] and rows[1].id, #rows
    end
    assert.are.same({ customer.id, 1 }, { found "nora@example.com" })
    assert.are.same({ customer.id, 1 }, { found "NORA@example.com" })
    assert.are.same({ loud.id, 1 }, { found "Ola@Example.com" })
    assert.are.equal(0, select(2, found "nobody@example.com"))
  end)

  it("by telephone number", function()
    local customer = ours:customer { phone = "(207) 555-0142" }
    ours:customer { phone = "(207) 555-0143" }
    local rows = search(input { phone = "(207) 555-0142" }).customers
    assert.are.equal(1, #rows)
    assert.are.equal(customer.id, rows[1].id)
    assert.are.equal(0, #search(input { phone = "(207) 555-0142", last_name = "Nobody" }).customers)
  end)

  it("gives nobody of another dealership", function()
    local theirs = dealership.new()
    theirs:customer { last_name = "Smith", email = "smith@example.com", phone = "(207) 555-0142" }
    assert.are.same({}, names())
    assert.are.same({}, names { last_name = "Smith" })
    assert.are.same({}, names { email = "smith@example.com" })
    assert.are.same({}, names { phone = "(207) 555-0142" })
  end)

  describe("in pages", function()
    for _, limit in ipairs { 1, 2, 3, 100 } do
      it("of " .. limit .. " in the order of names, namesakes apart", function()
        add("Ann Smith", "Bob Smith", "Ann Smith", "Cid Adams", "Dan smart", "Ann Smith",
            "Eve Jones")
        local expected = {}
        for i, row in ipairs(ours:transaction(function(tx)
          return tx:query(
            "select id from customers where dealership_id = $1 order by last_name, first_name, id",
            ours.id)
        end)) do expected[i] = row.id end
        local all, cursor = {}, nil
        repeat
          local page = search(input { limit = limit, cursor = cursor })
          for _, row in ipairs(page.customers) do all[#all + 1] = row.id end
          cursor = page.next_cursor
        until not cursor
        assert.are.same(expected, all)
      end)
    end

    it("with names that hold anything", function()
      for _, text in pairs(hostile.texts) do
        ours:customer { last_name = text, first_name = text }
      end
      local count, cursor, total = 0, nil, 0
      for _ in pairs(hostile.texts) do total = total + 1 end
      repeat
        local page = search(input { limit = 1, cursor = cursor })
        count, cursor = count + #page.customers, page.next_cursor
      until not cursor
      assert.are.equal(total, count)
      for what, text in pairs(hostile.texts) do
        assert.are.equal(text, search(input { last_name = text }).customers[1].last_name, what)
      end
    end)
  end)

  describe("refuses", function()
    hostile.fields("search_customers", function() return input() end, {
      dealership_id = { "uuid", required = true },
      last_name     = { "text", plain = true, max = 100 },
      first_name    = { "text", plain = true, max = 100 },
      email         = { "text" },
      phone         = { "text" },
      limit         = { "integer" },
      cursor        = { "text", plain = true },
    })

    it("an unknown dealership", function()
      local id = moonpool.uuid()
      local e = failure(search, { dealership_id = id })
      assert.are.same({ "RESOURCE_NOT_FOUND", 404, "Dealership not found: " .. id },
                      { e.code, e.status, e.message })
    end)

    it("another dealership than the caller's", function()
      local e = failure(search, input(), { tenant = dealership.new().id })
      assert.are.same({ "MULTI_TENANT_VIOLATION", 403 }, { e.code, e.status })
    end)

    for what, values in pairs {
      ["an empty name"] = { last_name = "" }, ["half an e-mail address"] = { email = "nora@" },
      ["half a telephone number"] = { phone = "555" }, ["a limit of 0"] = { limit = 0 },
      ["a limit of 101"] = { limit = 101 },
      ["a cursor that no page gave"] = { cursor = "AAAA" },
    } do
      it(what, function()
        assert.are.equal("VALIDATION_ERROR", failure(search, input(values)).code)
      end)
    end
  end)

  it("costs two round trips, and writes nothing", function()
    search(input { last_name = "Smith" })
    local _, info = moonpool.call_info("search_customers", input { last_name = "Jones" })
    assert.are.equal(2, info.round_trips)
    assert.is_true(require("moonpool.operation.registry").get("search_customers").read_only)
  end)
end)
