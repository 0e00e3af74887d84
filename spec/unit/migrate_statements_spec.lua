-- moonpool.migrate.statements: what is known of a statement before it runs.
local statements = require "moonpool.migrate.statements"

local function server(major)
  return { value = function() return major end }
end

local function split(text, conn, note)
  return statements.split(conn or server(15), text, "0001_x.sql", 1, note)
end

describe("moonpool.migrate.statements", function()
  it("knows what cannot run in a transaction", function()
    for _, sql in ipairs {
      "create index concurrently i on t (a)",
      "create unique index concurrently if not exists i on t (a)",
      "drop index concurrently i", "reindex index concurrently i",
      "reindex (concurrently, verbose) table t",
      "reindex schema public", "reindex database d",
      "alter table p detach partition c concurrently", "vacuum",
      "vacuum (full, analyze) t", "cluster", "create database d", "drop database d",
      "alter database d set tablespace s",
      "create tablespace s location '/s'", "drop tablespace s", "alter system set work_mem = '1MB'",
      "alter type e add value 'x'", "create subscription s connection 'c' publication p",
    } do
      assert.is_true(split(sql)[1].alone, sql)
    end
  end)

  it("leaves the rest in one", function()
    for _, sql in ipairs {
      "create index i on t (a)", "drop index i", "reindex index i", "reindex table t",
      "alter table p detach partition c",
      "analyze t", "cluster t using i", "alter type e rename value 'x' to 'y'",
      "alter type c add attribute a integer",
      "refresh materialized view concurrently v",
      "create table concurrent (\"concurrently\" integer)",
      "select 'create index concurrently i on t (a)'", "do $$ begin execute 'vacuum'; end $$",
      "savepoint s",
      "rollback to savepoint s", "release savepoint s", "alter database d set work_mem = '1MB'",
      "comment on table t is '\"concurrent\":true'",
    } do
      assert.is_false(split(sql)[1].alone, sql)
    end
  end)

  it("groups them into segments", function()
    local list = split "select 1; select 2; vacuum; vacuum; select 3;"
    local shape = {}
    for _, segment in ipairs(statements.segments(list)) do
      shape[#shape + 1] = (segment.alone and "a" or "t") .. #segment
    end
    assert.are.equal("t2 a1 a1 t1", table.concat(shape, " "))
    assert.are.equal(4, statements.segments(list, 4)[1][1].number)
    assert.are.equal(2, #statements.segments(list, 4))
  end)

  it("reads the index, its table and their quoted names", function()
    local index = split('create index concurrently "By name" on "Some shop"."Apples" (a)')[1].index
    assert.are.same({ name = "By name", schema = "Some shop", table = "Apples", concurrent = true },
                    index)
  end)

  it("refuses what the parser cannot read, with the place", function()
    local ok, failure = pcall(split, "select 'ä';\n\n  creat table t ();\n")
    assert.is_false(ok)
    assert.are.equal(
      "0001_x.sql:3: syntax error at or near \"creat\"\n     3 |   creat table t ();\n       |   \z
        ^\n" ..
                     "nothing of this file was applied; correct it and run migrate again",
                     tostring(failure))
  end)

  it("lets a newer server judge newer syntax, statement by statement", function()
    local notes = {}
    local list = split(
      "select ';';\ncreate table t (a int, b int generated always as (a * 2) virtual);\n" ..
                       "create index concurrently i on t (a) with magic ;", server(18),
                       function(line) notes[1] = line end)
    assert.are.equal(3, #list)
    assert.are.same({ 1, 2, 3 }, { list[1].line, list[2].line, list[3].line })
    assert.are.same({ false, false, true }, { list[1].alone, list[2].alone, list[3].alone })
    assert.is_nil(list[2].kind)
    assert.truthy(notes[1]:find("0001_x.sql:2: syntax newer than PostgreSQL 15", 1, true), notes[1])
  end)

  it("gives one checksum whatever the comments and blanks", function()
    local one, other = split("select  1 /* one */ ;")[1].checksum,
      split("-- x\nselect 1;")[1].checksum
    assert.are.equal(one, other)
    assert.are_not.equal(one, split("select 2;")[1].checksum)
  end)

  it("takes time in proportion to the text", function()
    local function cpu_s(count)
      local lines = {}
      for i = 1, count do
        lines[i] = ("insert into t values (%d, 'it''s the name of number %d');\n"):format(i, i)
      end
      local text, began = table.concat(lines), os.clock()
      assert.are.equal(count, #split(text))
      return os.clock() - began
    end
    cpu_s(2000)
    local few = math.max(cpu_s(2000), cpu_s(2000))
    assert.is_true(cpu_s(20000) < 40 * few)      -- 100 times as long, were it quadratic
  end)

  it("ends a comment where PostgreSQL does", function()
    local list = split "-- Apples.\rcreate table apples ();\r"
    assert.are.same({ 1, "create table apples ()" }, { #list, list[1].sql })
  end)
end)
