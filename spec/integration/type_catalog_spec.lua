-- Types that the host does not know: enums, domains, composites, ranges, those of extensions. It
-- asks the server once.
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local values   = require "spec.support.data.values"

local unseen, through, stored, refusal = values.unseen, values.through, values.stored,
  values.refusal

local function items(array) return { table.unpack(array) } end

describe("a type that the host does not know", function()
  local schema, serial = nil, 0
  setup(function()
    schema = scratch.schema("catalog_types", {
      "create type catalog_types.st as enum ('a', 'b', 'C d')",
      "create domain catalog_types.pos as integer check (value > 0)",
      "create domain catalog_types.pos2 as catalog_types.pos",
      "create domain catalog_types.money_ as numeric(12, 2)",
      "create domain catalog_types.doc as jsonb",
      "create domain catalog_types.ints as integer[]",
      "create domain catalog_types.mail as text check (value like '%@%')",
      "create domain catalog_types.at as timestamptz",
      "create type catalog_types.pair as (x integer, y text)",
      [[create table catalog_types.things (id integer generated always as identity primary key,
        s catalog_types.st,
          ss catalog_types.st[], p catalog_types.pos2, ps catalog_types.pos[],
            m catalog_types.money_, d catalog_types.doc,
          ds catalog_types.doc[], i catalog_types.ints, ms catalog_types.mail[],
            a catalog_types.at[], pairs catalog_types.pair[],
          r int4range[], n inet[], b box[])]],
    })
  end)
  teardown(function() schema.drop() end)

  it("is an array of an enum, read and written", function()
    assert.are.same({ "a", "C d" }, items(db.value "select array['a', 'C d']::catalog_types.st[]"))
    assert.are.same({ "a", "b", "C d" }, items(through("catalog_types.st[]", { "a", "b", "C d" })))
    assert.are.equal("{a,b}", stored("catalog_types.st[]", { "a", "b" }))
    assert.are.same({ { "a" }, { "b" } },
                    { items(through("catalog_types.st[]", { { "a" }, { "b" } })[1]), { "b" } })
    local row = db.insert("catalog_types.things", { s = "a", ss = { "a", json.null } })
    assert.are.same({ "a", json.null }, items(row.ss))
    assert.are.equal(
      1, db.value(unseen "select count(*) from catalog_types.things where s = any($1)",
                  { "a", "b" }))
    assert.are.equal(
      1, db.value(unseen "select count(*) from catalog_types.things where s = any($list)",
                  { list = { "a" } }))
    assert.are.equal("22P02", refusal(unseen "select $1::catalog_types.st[]", { "zz" }).sqlstate)
  end)

  it("is a domain, as its base", function()
    assert.are.equal(5, through("catalog_types.pos2", 10 / 2))
    assert.are.same({ 1, 2 }, items(through("catalog_types.pos[]", { 1, 4 / 2 })))
    assert.are.same({ "hello", "5" }, items(through("catalog_types.doc[]", { "hello", "5" })))
    assert.are.equal("5", through("catalog_types.doc", "5"))
    assert.are.equal(1, through("catalog_types.doc", { a = 1 }).a)
    assert.are.same({ 1, 2 }, items(through("catalog_types.ints", { 1, 2 })))
    assert.are.same({ "a@b", "c,d@e" }, items(through("catalog_types.mail[]", { "a@b", "c,d@e" })))
    assert.are.same({ "2026-11-23T18:09:27Z" },
                    items(through("catalog_types.at[]", { "2026-11-23T18:09:27Z" })))
    assert.are.equal("1.50", tostring(through("catalog_types.money_", moonpool.decimal "1.5")))
    local row = db.insert("catalog_types.things",
                          { p = 6 / 2, d = "x", ds = { "x", { y = 1 } }, i = { 1 }, ps = { 3 },
                            m = moonpool.decimal "2.50" })
    assert.are.same({ 3, "x", "x", 1, 1, 3, "2.50" },
      { row.p, row.d, row.ds[1], row.ds[2].y, row.i[1], row.ps[1], tostring(row.m) })
  end)

  it("is an array of composites, ranges, addresses or boxes", function()
    assert.are.same({ "(1,x)", '(2,"y z")' },
                    items(through("catalog_types.pair[]", { "(1,x)", '(2,"y z")' })))
    assert.are.same({ "[1,5)", "empty" }, items(through("int4range[]", { "[1,4]", "empty" })))
    assert.are.same({ "10.0.0.1" }, items(through("inet[]", { "10.0.0.1" })))
    assert.are.same({ "P1D" }, items(through("interval[]", { "1 day" })))
    assert.are.same({ "(1,1),(0,0)", "(2,2),(1,1)" },
                    items(through("box[]", { "(0,0),(1,1)", "(1,1),(2,2)" })))
    assert.are.equal("1 2", db.value "select '1 2'::int2vector")
  end)

  it("is no array only because it begins with a brace", function()
    assert.are.equal("{a}", db.value "select '{a}'::text")
  end)

  it("is known also where a row is only given back", function()
    db.exec "insert into catalog_types.things (ss) values ('{b}')"
    local op = moonpool.operation { run = function(tx)
      return { row = tx:one "select ss from catalog_types.things where ss = '{b}'",
               new = tx:insert("catalog_types.things", { ss = { "a" } }) }
    end }
    for _ = 1, 2 do
      local text = json.encode(moonpool.call(op).row)
      assert.are.equal('{"ss":["b"]}', text)
    end
    assert.are.same({ "a" }, items(moonpool.call(op).new.ss))
  end)

  it("may be made while the host runs, and is asked for once", function()
    for i = 1, 3 do
      serial = serial + 1
      schema.owner.exec(("create type catalog_types.later%d as enum ('x%d')"):format(serial, i))
      schema.owner.exec(("grant usage on type catalog_types.later%d to public"):format(serial))
      local op = moonpool.operation { run = function(tx)
        return tx:value(("select array['x%d']::catalog_types.later%d[]"):format(i, serial))
      end }
      local got, info = moonpool.call_info(op)
      assert.are.same({ "x" .. i }, items(got))
      assert.are.same({ 2, 1 }, { info.round_trips, info.statements })
    end
  end)

  it("is each database's own", function()
    local other = db.open { url = host.app_url, max = 1 }
    local sql = unseen "select $1::catalog_types.st[]"
    assert.are.same({ "a" }, items(db.value(sql, { "a" })))
    assert.are.same({ "b" }, items(other.value(sql, { "b" })))
    other.close()
    assert.are.same({ "b" }, items(db.value(sql, { "b" })))
  end)

  it("does not stand in the way of failures", function()
    local e = refusal(unseen "select array['a']::catalog_types.st[], 1 / (random() * 0)::int")
    assert.are.equal("22012", e.sqlstate)
    db.transaction(function(tx)
      pcall(tx.savepoint, tx, function(inner)
        inner:value(unseen "select $1::catalog_types.st[]", { "zz" })
      end)
      assert.are.same({ "a" }, items(tx:value(unseen "select $1::catalog_types.st[]", { "a" })))
    end)
  end)
end)
