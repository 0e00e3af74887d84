-- COMMIT's answer is lost, and with it a row of an insert that nobody had looked at and whose key
-- the database made: the work is found out to be stored, and the caller is told that a part of the
-- answer is lost, not that it is no JSON.
local moonpool = require "moonpool"
local border   = require "moonpool.operation.border"
local fault    = require "spec.support.workload.fault"
local inline   = require "spec.support.data.inline"
local proxy    = require "spec.support.process.proxy"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

describe("a row that is lost with COMMIT's answer", function()
  local schema, wire

  setup(function()
    schema = scratch.schema("lost_row", {
      "create table lost_row.made (id int generated always as identity primary key, name text)",
      "create table lost_row.named (id int primary key, name text)",
      "create table lost_row.keyless (name text)" })
    wire = proxy.start()
  end)
  teardown(function()
    wire:stop()
    schema.drop()
  end)
  after_each(fault.assert_quiet)

  local function insert(table_name, values)
    local op = inline.define(function(tx)
      return { row = tx:insert("lost_row." .. table_name, values) }
    end)
    local ok, result
    test.on({ app_url = wire:url(moonpool.host.app_url) }, function()
      moonpool.call(inline.define(function(tx)
        tx:insert("lost_row.keyless", { name = "warm" })
      end), {})
      wire:watch "B insert cut before"
      ok, result = pcall(function() return moonpool.json.encode(moonpool.call(op, {})) end)
      wire:watch()
    end)
    return ok, result
  end

  it("and whose key it named is read again", function()
    local ok, result = insert("named", { id = 1, name = "Ann" })
    assert.is_true(ok, tostring(result))
  end)

  it("is read again when it had gone in one statement with others", function()
    local op = inline.define(function(tx)
      local rows = {}
      for i = 11, 18 do
        rows[#rows + 1] = tx:insert("lost_row.named", { id = i, name = "n" .. i })
      end
      return rows
    end)
    local rows
    test.on({ app_url = wire:url(moonpool.host.app_url) }, function()
      moonpool.call(inline.define(function(tx)
        tx:insert("lost_row.keyless", { name = "warm" })
      end), {})
      wire:watch "B insert cut before"
      rows = moonpool.call(op, {})
      wire:watch()
    end)
    for i = 1, 8 do assert.are.equal("n" .. 10 + i, rows[i].name) end
  end)

  for table_name, why in pairs {
    made = "did not name the primary key, which the database made",
    keyless = "its table has no primary key" } do
    it("and cannot be read again is told as that: " .. table_name, function()
      local ok, e = insert(table_name, { name = "Bob" })
      assert.is_false(ok)
      inline.contains(e.message, "the work is committed", why)
      local told = border.unwritable("keep", e) -- what is made of it at the border
      assert.are.equal("RESULT_UNWRITABLE", told.code)
      assert.are.equal(
        "keep is done and stored, but a part of its result was lost with a connection", told.told)
      assert.are.equal(1, schema.owner.value("select count(*) from lost_row." .. table_name
                                             .. " where name = 'Bob'"))
    end)
  end
end)
