-- Queued inserts move to others of their table, past inserts into other tables that cannot see
-- them; and only there.
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local define, refusal = inline.define, inline.refusal

describe("queued inserts into several tables", function()
  local schema

  setup(function()
    schema = scratch.schema("merge_order", {
      "create table merge_order.a (id int primary key, t text)",
      "create table merge_order.b (id int primary key, t text)",
      [[create table merge_order.orders (
          id uuid primary key, shop int not null, no int, unique (shop, no));
        create table merge_order.lines (
          "order" uuid not null constraint lines_order_fkey references merge_order.orders (id),
          shop int, no int, text text,
          constraint lines_no_fkey foreign key (shop, no)
            references merge_order.orders (shop, no))]],
      [[create sequence merge_order.numbers;
        create table merge_order.drawn_x (
          no bigint default nextval('merge_order.numbers'), t text);
        create table merge_order.drawn_y (
          no bigint default nextval('merge_order.numbers'), t text)]],
      [[create table merge_order.late_x (
          t text, constraint late_x_key unique (t) deferrable initially deferred);
        create table merge_order.late_y (
          t text, constraint late_y_key unique (t) deferrable initially deferred)]],
      "create table merge_order.seen (n bigint)",
    })
  end)
  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec [[truncate merge_order.a, merge_order.b, merge_order.orders,
      merge_order.lines, merge_order.drawn_x, merge_order.drawn_y, merge_order.late_x,
      merge_order.late_y, merge_order.seen]]
  end)

  -- What it needs when the catalog is known.
  local function statements(run, fields)
    local op = define(run, fields)
    local result, info = moonpool.call_info(op, {})
    return info.statements, result
  end

  it("become a handful of statements", function()
    for _, isolation in ipairs { "read committed", "serializable" } do
      local count, rows = statements(function(tx)
        local rows = {}
        for i = 1, 128 do
          rows[i] = { tx:insert("merge_order.a", { id = i, t = "a" .. i }),
                      tx:insert("merge_order.b", { id = i, t = "b" .. i }) }
        end
        return rows
      end, { isolation = isolation })
      assert.are.equal(2, count)
      for i = 1, 128 do
        assert.are.equal("a" .. i, rows[i][1].t)
        assert.are.equal("b" .. i, rows[i][2].t)
      end
      schema.owner.exec "truncate merge_order.a, merge_order.b"
    end
  end)

  local function orders(tx, last) -- `last`: a function, or the input
    local ids = {}
    for i = 1, 8 do
      ids[i] = tx:uuid()
      tx:insert("merge_order.orders", { id = ids[i], shop = 1, no = i })
      for n = 1, 4 do
        tx:insert("merge_order.lines", { order = ids[i], shop = 1, no = i, text = "line " .. n })
      end
    end
    if type(last) == "function" then last(tx, ids) end
  end

  it("move past rows of which a foreign key refers to others", function()
    statements(function(tx) tx:insert("merge_order.lines", {
      order = tx:insert("merge_order.orders", { id = tx:uuid(), shop = 0, no = 0 }).id,
      shop = 0, no = 0, text = "first" }) end)
    assert.are.equal(2, (statements(orders)))
    assert.are.equal(33, schema.owner.value "select count(*) from merge_order.lines")
  end)

  it("stay behind a row that comes later and that another refers to", function()
    local function backwards(tx)
      tx:insert("merge_order.orders", { id = tx:uuid(), shop = 1, no = 0 })
      for i = 1, 8 do
        local id = tx:uuid()
        tx:insert("merge_order.lines", { order = id, shop = 1, no = i, text = "too early" })
        tx:insert("merge_order.orders", { id = id, shop = 1, no = i })
      end
      tx:flush()
    end
    statements(orders)
    schema.owner.exec "truncate merge_order.orders, merge_order.lines"
    local e = refusal(backwards)
    assert.are.equal("lines_order_fkey", e.constraint)
    assert.are.equal(refusal(backwards, { merge = false }).line, e.line)
  end)

  it("have the error of the first one that is refused, where it stands", function()
    local function twice(tx)
      orders(tx, function(_, ids)
        tx:insert("merge_order.lines", { order = tx:uuid(), shop = 1, no = 1, text = "no order" })
        tx:insert("merge_order.orders", { id = ids[1], shop = 1, no = 9 })
        for i = 10, 14 do tx:insert("merge_order.orders", { id = tx:uuid(), shop = 1, no = i }) end
        tx:flush()
      end)
    end
    local merged, alone = refusal(twice), refusal(twice, { merge = false })
    assert.are.equal("lines_order_fkey", merged.constraint)
    for _, field in ipairs { "code", "message", "constraint", "line", "query" } do
      assert.are.equal(alone[field], merged[field], field)
    end
  end)

  it("stay behind one that draws from the same sequence", function()
    statements(function(tx)
      for i = 1, 6 do
        tx:insert("merge_order.drawn_x", { t = "x" .. i })
        tx:insert("merge_order.drawn_y", { t = "y" .. i })
      end
    end)
    assert.are.equal("x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 x6 y6", schema.owner.value [[
      select string_agg(t, ' ' order by no)
        from (select * from merge_order.drawn_x union all select * from merge_order.drawn_y) t]])
  end)

  it("stay behind a statement that reads them", function()
    statements(function(tx)
      for i = 1, 6 do
        tx:insert("merge_order.a", { id = i, t = "a" })
        tx:insert("merge_order.b", { id = i, t = "b" })
        tx:exec "insert into merge_order.seen select count(*) from merge_order.a"
      end
    end)
    assert.are.equal("[1, 2, 3, 4, 5, 6]", schema.owner.value
      "select json_agg(n order by n)::text from merge_order.seen")
  end)

  it("stay in their savepoint", function()
    statements(function(tx)
      for i = 1, 6 do
        tx:insert("merge_order.a", { id = i, t = "kept" })
        pcall(tx.savepoint, tx, function()
          tx:insert("merge_order.a", { id = 100 + i, t = "undone" })
          tx:insert("merge_order.b", { id = i, t = "undone" })
          error "undo"
        end)
        tx:insert("merge_order.b", { id = i, t = "kept" })
      end
    end)
    assert.are.equal("kept 12", schema.owner.value [[
      select string_agg(distinct t, ',') || ' ' || count(*)
        from (select * from merge_order.a union all select * from merge_order.b) t]])
  end)

  it("are as undone as they would be where a savepoint ends in an error", function()
    local function run(tx)
      local rows = {}
      local _, e = pcall(tx.savepoint, tx, function()
        tx:insert("merge_order.a", { id = 1, t = "first" })
        tx:insert("merge_order.a", { id = 1, t = "twice" })
        for i = 2, 6 do
          rows[#rows + 1] = tx:insert("merge_order.b", { id = i, t = "behind" })
          rows[#rows + 1] = tx:insert("merge_order.a", { id = i, t = "behind" })
        end
      end)
      local codes = { e.constraint }
      for i, row in ipairs(rows) do
        codes[i + 1] = select(2, pcall(function() return row.id end)).code
      end
      return codes
    end
    local _, merged = statements(run)
    local _, alone = statements(run, { merge = false })
    assert.are.same(alone, merged)
    assert.are.equal(11, #merged)
  end)

  it("have the error of the deferred constraint that is violated first", function()
    local function late(tx)
      for i = 1, 6 do
        tx:insert("merge_order.late_x", { t = "x" .. i })
        tx:insert("merge_order.late_y", { t = "y" .. i })
      end
      tx:insert("merge_order.late_y", { t = "y1" })
      tx:insert("merge_order.late_x", { t = "x1" })
    end
    local merged, alone = refusal(late), refusal(late, { merge = false })
    assert.are.equal(alone.constraint, merged.constraint)
    assert.are.equal(alone.message, merged.message)
  end)
end)
