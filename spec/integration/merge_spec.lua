-- Queued inserts of one table go as one statement, and nothing else changes: neither rows nor
-- errors.
local db       = require "moonpool.db"
local inline   = require "spec.support.data.inline"
local calls    = require "moonpool.calls"
local moonpool = require "moonpool"
local failure  = require "spec.support.data.failure"
local scratch  = require "spec.support.data.scratch"

local define, call, refusal = inline.define, inline.call, inline.refusal

describe("queued inserts", function()
  local schema

  setup(function()
    schema = scratch.schema("merge_spec", {
      [[create table merge_spec.things (
          id int primary key, name text constraint things_name_key unique, amount numeric(12,2),
          list int[], data jsonb,
          constraint things_amount_check check (amount >= 0))]],
      [[create table merge_spec.numbered (
          id bigint generated always as identity primary key, name text,
          twice text generated always as (name || name) stored)]],
      "create table merge_spec.parts (thing int not null references merge_spec.things (id), n int)",
      [[create table merge_spec.tree (
          id int primary key, parent int references merge_spec.tree (id))]],
      [[create table merge_spec.sliced (id int, name text) partition by range (id);
        create table merge_spec.sliced_low partition of merge_spec.sliced
          for values from (0) to (10);
        create table merge_spec.sliced_high partition of merge_spec.sliced default]],
      [[create table merge_spec.owned (id int, who text);
        alter table merge_spec.owned enable row level security;
        create policy owned_who on merge_spec.owned using (who = 'me')]],
      [[create table merge_spec.watched (id int, seen int);
        create table merge_spec.seen (n bigint);
        create function merge_spec.watch() returns trigger language plpgsql as
          'begin
             insert into merge_spec.seen select count(*) from merge_spec.watched; return null;
           end';
        create trigger watch after insert on merge_spec.watched for each row
          execute function merge_spec.watch()]],
      [[create table merge_spec.swallowing (id int);
        create function merge_spec.swallow() returns trigger language plpgsql as
          'begin return case when new.id % 2 = 0 then null else new end; end';
        create trigger swallow before insert on merge_spec.swallowing for each row
          execute function merge_spec.swallow()]],
      [[create function merge_spec.next_no() returns bigint language sql stable as
          'select count(*) from pg_class where relname = ''sliced''';
        grant execute on function merge_spec.next_no() to moonpool_app;
        create table merge_spec.counted (id int, no bigint default merge_spec.next_no())]],
      "create table merge_spec.later (id int)",
      "create table merge_spec.wide (id int)",
    })
  end)
  teardown(function() schema.drop() end)

  before_each(function()
    schema.owner.exec [[truncate merge_spec.things, merge_spec.numbered, merge_spec.parts,
      merge_spec.tree, merge_spec.sliced, merge_spec.owned, merge_spec.watched, merge_spec.seen,
      merge_spec.swallowing, merge_spec.counted restart identity]]
  end)

  local function insert_things(n, change)
    return function(tx)
      local rows = {}
      for i = 1, n do
        local values = { id = i, name = "thing " .. i, amount = i }
        if change then change(i, values) end
        rows[i] = tx:insert("merge_spec.things", values)
      end
      return rows
    end
  end

  -- The same with one statement for each insert: what it gives, or its error.
  local function both(run, fields)
    local function outcome(merge)
      local given = { merge = merge }
      for name, value in pairs(fields or {}) do given[name] = value end
      local op = define(run, given)
      local ok, result, info = pcall(moonpool.call_info, op, {})
      local stored = schema.owner.value [[
        select coalesce(json_agg(t order by id), '[]')::text
          from (select id, name, amount, list, data from merge_spec.things) t]]
      schema.owner.exec "truncate merge_spec.things, merge_spec.parts, merge_spec.tree"
      return ok, result, info, stored
    end
    local ok, result, info, stored = outcome(true)
    local ok_alone, result_alone, info_alone, stored_alone = outcome(false)
    assert.are.equal(ok_alone, ok)
    assert.are.equal(stored_alone, stored)
    if ok then return result, info, info_alone end
    for _, field in ipairs { "code", "status", "message", "constraint", "table", "column", "detail",
                             "line", "query", "sqlstate", "parameter" } do
      assert.are.equal(result_alone[field], result[field], field)
    end
    return result
  end

  for _, isolation in ipairs { "read committed", "serializable" } do
    describe("under " .. isolation, function()
      it("are a handful of statements, and each gives its own row", function()
        local rows, info, alone = both(insert_things(1000), { isolation = isolation })
        assert.are.equal(1000, alone.statements)
        assert.is_true(info.statements <= 13, info.statements)
        assert.are.equal(1, info.attempts)
        for i = 1, 1000 do
          assert.are.equal(i, rows[i].id)
          assert.are.equal("thing " .. i, rows[i].name)
          assert.are.equal(i, tonumber(tostring(rows[i].amount)))
        end
      end)

      it("have the error of the row that is refused", function()
        local e = both(insert_things(50, function(i, values)
          if i == 33 then values.name = "thing 7" end
        end), { isolation = isolation })
        assert.are.equal("things_name_key", e.constraint)
        assert.matches("thing 7", e.detail, 1, true)
      end)
    end)
  end

  it("have the error of a check, a foreign key, a type and a length, with its line", function()
    both(insert_things(20, function(i, values) if i == 9 then values.amount = -1 end end))
    both(insert_things(20, function(i, values) if i == 9 then values.id = 1 << 40 end end))
    both(function(tx)
      tx:insert("merge_spec.things", { id = 1 })
      for i = 1, 8 do tx:insert("merge_spec.parts", { thing = 1, n = i }) end
      tx:insert("merge_spec.parts", { thing = 2, n = 1 })
      for i = 1, 8 do tx:insert("merge_spec.parts", { thing = 1, n = i }) end
      tx:flush()
    end)
    local e = both(insert_things(20, function(i, values)
      if i == 11 then values.list = { "no number" } else values.list = { i } end
    end))
    assert.are.equal("22P02", e.sqlstate)
  end)

  it("fail inside of a savepoint as they do one by one", function()
    local result = both(function(tx)
      local ok, e = pcall(tx.savepoint, tx, function()
        insert_things(10, function(i, values) if i == 5 then values.name = "thing 1" end end)(tx)
      end)
      for i = 101, 110 do tx:insert("merge_spec.things", { id = i, name = "after " .. i }) end
      return { ok = ok, constraint = e.constraint, attempt = tx.attempt }
    end)
    assert.are.same({ ok = false, constraint = "things_name_key", attempt = 1 }, result)
  end)

  it("draw from a sequence in their order, and have what the database makes", function()
    local rows = call(function(tx)
      local rows = {}
      for i = 1, 300 do rows[i] = tx:insert("merge_spec.numbered", { name = "n" .. i }) end
      return rows
    end)
    for i = 1, 300 do
      assert.are.equal(i, rows[i].id)
      assert.are.equal(("n%dn%d"):format(i, i), rows[i].twice)
    end
  end)

  it("may be of other columns, of NULLs, of arrays and of documents", function()
    local _, info = both(function(tx)
      for i = 1, 4 do tx:insert("merge_spec.things", { id = i }) end
      for i = 5, 8 do
        tx:insert("merge_spec.things", { id = i, name = moonpool.null, list = { i, i + 1 },
          data = { deep = { i } }, amount = moonpool.decimal "7.50" })
      end
      for i = 9, 10 do tx:insert("merge_spec.things", { id = i }) end
    end)
    assert.are.equal(4, info.statements)
  end)

  it("are as many as the protocol has room for parameters", function()
    local columns = {}
    for i = 1, 520 do columns[i] = ("c%d int"):format(i) end
    schema.owner.exec("alter table merge_spec.wide add " .. table.concat(columns, ", add "))
    local ids = call(function(tx)
      local rows = {}
      for i = 1, 130 do
        local values = { id = i }
        for c = 1, 520 do values["c" .. c] = i end
        rows[i] = tx:insert("merge_spec.wide", values)
      end
      return { rows[1].id, rows[64].c520, rows[65].c1, rows[130].id }
    end)
    assert.are.same({ 1, 64, 65, 130 }, ids)
  end)

  it("into a partitioned table come back in their order", function()
    local rows = call(function(tx)
      local rows = {}
      for i = 1, 32 do
        local id = i % 2 == 0 and i or i % 10
        rows[i] = tx:insert("merge_spec.sliced", { id = id, name = "s" .. i })
      end
      return rows
    end)
    for i = 1, 32 do assert.are.equal("s" .. i, rows[i].name) end
  end)

  it("that a policy refuses have its error", function()
    local function run(tx)
      for i = 1, 10 do tx:insert("merge_spec.owned", { id = i, who = i == 6 and "you" or "me" }) end
      tx:flush()
    end
    local merged, alone = refusal(run), refusal(run, { merge = false })
    for _, field in ipairs { "code", "message", "line", "sqlstate", "query" } do
      assert.are.equal(alone[field], merged[field], field)
    end
    assert.are.equal("42501", merged.sqlstate)
  end)

  describe("go one by one", function()
    local function one_by_one(run, n)
      local op = define(run)
      moonpool.call(op, {}) -- learns it
      local _, info = moonpool.call_info(op, {})
      assert.are.equal(n, info.statements)
    end

    it("where a trigger would see them together", function()
      one_by_one(function(tx)
        for i = 1, 5 do tx:insert("merge_spec.watched", { id = i }) end
      end, 5)
      assert.are.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, schema.owner.value
        "select json_agg(n order by n) from merge_spec.seen")
    end)

    it("where a trigger keeps rows away", function()
      call(function(tx)
        local rows = {}
        for i = 1, 8 do rows[i] = tx:insert("merge_spec.swallowing", { id = i }) end
        for i = 1, 8, 2 do assert.are.equal(i, rows[i].id) end
        for i = 2, 8, 2 do
          assert.are.equal("ROW_NOT_STORED", failure(function() return rows[i].id end).code)
        end
      end)
    end)

    it("where a row may refer to a later one", function()
      local e = refusal(function(tx)
        for i = 1, 6 do tx:insert("merge_spec.tree", { id = i, parent = i + 1 }) end
      end)
      assert.are.equal("23503", e.sqlstate)
    end)

    it("where a default is a function of unknown effect", function()
      one_by_one(function(tx)
        for i = 1, 5 do tx:insert("merge_spec.counted", { id = i }) end
      end, 5)
    end)

    it("from the moment when that becomes so", function()
      local op = define(function(tx)
        for i = 1, 6 do tx:insert("merge_spec.later", { id = i }) end
      end)
      local function statements() return select(2, moonpool.call_info(op, {})).statements end
      assert.are.equal(3, statements())
      schema.owner.exec [[create trigger watch after insert on merge_spec.later for each row
        execute function merge_spec.watch()]]
      scratch.await("the trigger to be known", function() return statements() == 6 end)
    end)

    it("when the operation says so", function()
      local _, info = moonpool.call_info(define(insert_things(10), { merge = false }), {})
      assert.are.equal(10, info.statements)
      db.transaction({ merge = false }, insert_things(10, function(i, values)
        values.id, values.name = i + 10, "other " .. i
      end))
    end)
  end)

  it("are told as one by why", function()
    local _, info = moonpool.call_info(define(insert_things(10)), {})
    assert.matches("8 inserts as one", calls.timeline(info.id), 1, true)
  end)
end)
