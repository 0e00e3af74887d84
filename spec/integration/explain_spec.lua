-- moonpool explain: what a call costs, without doing it.
local inline  = require "spec.support.data.inline"
local migrated = require "spec.support.process.migrated"
local json    = require "moonpool.json"

local contains = inline.contains

describe("moonpool explain", function()
  local project

  setup(function()
    project = migrated {
      ["migrations/0001_items.sql"] = [[
        create table items (id uuid primary key, name text not null, stock int not null default 0);
        create table moves (id uuid primary key, item_id uuid not null references items);
        insert into items values ('00000000-0000-7000-8000-000000000001', 'nut', 5);
        grant select, insert, update on items, moves to moonpool_app;
      ]],
      ["scripts/lib/stock.lua"] = [[
        local stock = {}
        function stock.find(tx, name)
          local item = tx:one("select * from items where name = $name for update",
                              { name = name }, "there is no $name")
          return item
        end
        return stock
      ]],
      ["scripts/move.lua"] = [[
        local moonpool = require "moonpool"
        local is       = require "moonpool.is"
        local stock    = require "lib.stock"
        return moonpool.operation {
          input = is.object { item_name = is.string }, isolation = "repeatable read",
          lane = "move:$item_name",
          run = function(tx, input)
            local item = stock.find(tx, input.item_name)
            local count = tx:value "select count(*) from items"
            tx:publish("moved", { count = count })
            tx:after_commit(function() print "committed" end)
            tx:on_rollback(function() print "rolled back" end)
            tx:exec("update items set stock = stock + 1 where id = $id", { id = item.id })
            local move = tx:insert("moves", { id = tx:uuid(), item_id = item.id })
            return { move = move, by = tx.caller and tx.caller.user_id }
          end,
        }
      ]],
      ["scripts/look.lua"] = [[
        return require "moonpool".operation { read_only = true, run = function(tx)
          return { one = tx:value "select 1" }
        end }
      ]],
    }
  end)

  teardown(function() project.remove() end)

  local function run(args) return project.run(args) end

  local input = [['{"itemName": "nut"}']]

  -- By the place of the line that made it.
  local function statements(costs)
    local found = {}
    for _, trip in ipairs(costs.round_trips) do
      for _, statement in ipairs(trip.statements) do
        if statement.place then found[statement.place] = { statement, trip } end
      end
    end
    return found
  end

  it("shows round trips, plans and locks, and stores nothing", function()
    local out, err, code = run("explain move " .. input .. " --json")
    assert.are.equal(0, code, err)
    local costs = json.decode(out)
    local found = statements(costs)
    local one, first = table.unpack(found["scripts/lib/stock.lua:3"])
    local value, second = table.unpack(found["scripts/move.lua:9"])
    assert.are.equal(first.number, second.number) -- they travelled together
    assert.are.equal("tx:value gives its result at once", second.why)
    assert.are.equal(1, one.rows)
    assert.is_true(one.ms > 0 and first.ms > 0)
    assert.are.equal("LockRows", one.nodes[1].what)
    assert.are.equal("items", one.nodes[2].table)
    assert.are.same({ { what = "items", mode = "RowShareLock" } }, one.locks)
    assert.are.equal("value", value.method)
    local insert, last = table.unpack(found["scripts/move.lua:14"])
    assert.are.equal("insert", insert.method)
    assert.are.equal("travels with COMMIT", last.why)
    assert.are.equal(#costs.round_trips, last.number)
    assert.are.equal("Update", found["scripts/move.lua:13"][1].nodes[1].operation)
    for _, statement in ipairs { "select stock - 5 from items", "select count(*) from moves",
                                 "select count(*) from moonpool.outbox" } do
      out, err = run(("run -e 'print(require \"moonpool.db\".value %q)'"):format(statement))
      assert.are.equal("0\n", out, err)
    end
  end)

  it("prints it for people; hooks do not run", function()
    local out, err, code = run("explain move " .. input)
    assert.are.same({ "", 0 }, { err, code })
    contains(out, "move: ", "round trip 1, ", ": tx:value gives its result at once",
             "  scripts/lib/stock.lua:3  select * from items where name = $name for update\n",
             "LockRows: 1 rows", "locks: items RowShareLock", "travels with COMMIT",
             "The host adds:\n  BEGIN (repeatable read)", "the lane move:$item_name", "a witness")
    assert.is_nil(out:find "committed\n")
    assert.is_nil(out:find "rolled back\n")
  end)

  it("counts a COMMIT that nothing travels with", function()
    local out = run "explain look"
    contains(out, "look: 2 round trips, 1 statement;", "round trip 2: travels with COMMIT",
             "BEGIN (read committed, read only)")
    assert.is_nil(out:find "witness")
  end)

  it("tells why a call fails", function()
    local _
    local out, err, code = run [[explain move '{"itemName": "bolt"}']]
    assert.are.same({ "", 1 }, { out, code })
    contains(err, "there is no bolt", "RESOURCE_NOT_FOUND")
    _, err, code = run "explain mov"
    contains(err, "did you mean `move`?")
    assert.are.equal(2, code)
    _, err, code = run "explain move --key x"
    contains(err, 'unknown option "--key"')
    assert.are.equal(2, code)
  end)
end)
