-- moonpool types: definitions for editors, of the host, the tables and the operations.
local inline   = require "spec.support.data.inline"
local migrated = require "spec.support.process.migrated"
local lfs      = require "lfs"
local moonpool = require "moonpool"

local contains = inline.contains

describe("moonpool types", function()
  local project, folder

  setup(function()
    project = migrated {
      ["migrations/0001_orders.sql"] = [[
        create type speed as enum ('slow', 'fast');
        create domain short as text check (length(value) < 9);
        create schema audit;
        create table orders (
          id uuid primary key, number int generated always as identity, amount numeric(10, 2),
          speed speed not null default 'slow', speeds speed[], tags short[] not null,
          data jsonb not null, "odd name" boolean, placed_at timestamptz not null default now());
        create table audit.entries (id bigint primary key, text short not null);
        create view open_orders as select id, amount from orders;
        comment on column orders.amount is 'with
          tax';
        grant usage on schema audit to moonpool_app;
      ]],
      ["scripts/place_order.lua"] = [[
        local moonpool = require "moonpool"
        local is       = require "moonpool.is"
        return moonpool.operation {
          input  = is.object {
            amount = is.decimal:describe "with tax", note = is.string:optional(),
            count = is.integer:default(1), speed = is.enum { "slow", "fast" },
            order_lines = is.array(is.object { sku = is.string, price = is.decimal:nullable() }),
          },
          output = is.object { order = is.row },
          run    = function() return { order = {} } end,
        }
      ]],
      ["scripts/free.lua"] = [[
        return require "moonpool".operation { run = function() end }
      ]],
    }
    folder = project.folder
  end)

  teardown(function() project.remove() end)

  local function run(args) return project.run(args) end

  local function read(path)
    local file <close> = assert(io.open(folder.path .. "/" .. path))
    return file:read "a"
  end

  it("writes a class for each table and each operation", function()
    local out, err, code = run "types"
    assert.are.same({ "", 0 }, { err, code })
    contains(out, ".luarc.json\n", "types/: 3 tables, 2 operations")
    contains(read "types/tables.lua", [[
---@class row.orders: moonpool.row
---@field id string
---@field number integer
---@field amount moonpool.decimal?  with tax
---@field speed "slow"|"fast"
---@field speeds ("slow"|"fast")[]?
---@field tags string[]
---@field data any
---@field ["odd name"] boolean?
---@field placed_at string
]], [[
---@class insert.orders
---@field id string
---@field amount? moonpool.decimal|number|string
---@field speed? "slow"|"fast"
---@field speeds? ("slow"|"fast")[]
---@field tags string[]
---@field data any
---@field ["odd name"]? boolean
---@field placed_at? string
]], "---@class row.audit.entries: moonpool.row\n---@field id integer\n---@field text string\n",
      "---@class row.open_orders: moonpool.row\n",
      'fun(self: moonpool.tx, table_name: "orders", values: insert.orders): row.orders\n')
    contains(read "types/operations.lua", [[
---@class input.place_order
---@field amount moonpool.decimal  with tax
---@field count integer
---@field note? string
---@field order_lines ({ price: moonpool.decimal|lightuserdata, sku: string })[]
---@field speed "slow"|"fast"

---@class result.place_order
---@field order moonpool.row
]], [[---@field call fun(name: "place_order", input: input.place_order, ]]
      .. "options?: moonpool.call_options): result.place_order\n",
      [[fun(name: "free", input: any, ]])
    contains(read ".luarc.json", '"workspace.library": ["types"]')
    assert.is_nil(read "types/tables.lua":find "moonpool_migrations")
    for _, name in ipairs { "tables", "operations" } do
      assert(loadfile(folder.path .. "/types/" .. name .. ".lua"))
    end
  end)

  it("writes all of the host's definitions but those of its own modules", function()
    assert.are.equal(0, select(3, run "types other"))
    local own, theirs = {}, {}
    for name in lfs.dir(moonpool.app_dir .. "/lua/moonpool/types") do
      own[name] = name ~= "host.lua" or nil
    end
    for name in lfs.dir(folder.path .. "/other/moonpool") do theirs[name] = true end
    assert.are.same(own, theirs)
  end)

  it("leaves a .luarc.json alone that is there", function()
    folder.write(".luarc.json", "{}")
    local out, _, code = run "types"
    assert.are.equal(0, code)
    contains(out, '.luarc.json is there: its "workspace.library" must name "types"')
    assert.are.equal("{}", read ".luarc.json")
    local _, err
    _, err, code = run "types a b"
    contains(err, 'unknown argument "b"')
    assert.are.equal(2, code)
  end)
end)
