-- Calls of a group share their statements until one of them fails; then each is undone and blamed
-- by itself.
local db         = require "moonpool.db"
local fault      = require "spec.support.workload.fault"
local inline     = require "spec.support.data.inline"
local is         = require "moonpool.is"
local lane_queue = require "spec.support.workload.lane_queue"
local moonpool   = require "moonpool"
local scratch    = require "spec.support.data.scratch"

describe("calls that share a transaction", function()
  local schema, owner, runs

  setup(function()
    schema = scratch.schema("group_merge", {
      [[create table group_merge.events (
          id int constraint events_pkey primary key, name text,
          constraint events_name_check check (name <> 'bad'))]],
    })
    owner = db.open { url = moonpool.host.admin_url, max = 1 } -- of the witnesses
  end)
  teardown(function()
    owner.close()
    schema.drop()
  end)
  before_each(function()
    schema.owner.exec "truncate group_merge.events"
    runs = {}
  end)
  after_each(fault.assert_quiet)

  local input = is.object { id = is.integer, name = is.string }

  -- Runs it for each of the names behind a call that holds the lane. Operations of one name learn
  -- from each other's failures, so each has a name of its own. -> results or errors, infos
  local function together(name, names, run, more)
    local fields = { input = input, lane = "group_merge", group = 16, group_ms = 10000 }
    for field, value in pairs(more or {}) do fields[field] = value end
    local op = inline.define(function(tx, given)
      runs[given.name] = (runs[given.name] or 0) + 1
      return run(tx, given)
    end, fields, name)
    moonpool.call(op, { id = 0, name = "first" }) -- the types of its parameters are known then
    schema.owner.exec "truncate group_merge.events"
    runs = {}
    local answers, infos, calls = {}, {}, {}
    for i, called in ipairs(names) do
      calls[i] = function()
        local _, result, info = pcall(moonpool.call_info, op, { id = i, name = called })
        answers[i], infos[i] = result, info
      end
    end
    lane_queue.behind(function(wait)
      moonpool.call(inline.define(wait, { lane = "group_merge" }, name .. "_holder"), {})
    end, calls)
    return answers, infos
  end

  local function insert(tx, given)
    return tx:insert("group_merge.events", { id = given.id, name = given.name })
  end

  local function stored()
    return schema.owner.value "select string_agg(name, ' ' order by id) from group_merge.events"
  end

  it("have their inserts in one statement, and each has its own row", function()
    local names = {}
    for i = 1, 16 do names[i] = "n" .. i end
    local answers, infos = together("gm_one", names, insert)
    for i = 1, 16 do
      assert.are.equal(i, answers[i].id)
      assert.are.equal("n" .. i, answers[i].name)
      assert.are.equal(16, infos[i].group)
      assert.are.equal(1, infos[i].statements)
      assert.are.equal(1, runs["n" .. i])
    end
    assert.are.equal(table.concat(names, " "), stored())
  end)

  it("are each blamed for their own row", function()
    local answers = together("gm_row", { "a", "b", "bad", "c", "d", "e" }, insert)
    assert.are.equal("events_name_check", answers[3].constraint)
    assert.matches("group_merge_spec.lua", answers[3].line, 1, true)
    assert.are.equal("a b c d e", stored())
    assert.are.equal("d", answers[5].name)
  end)

  it("are undone alone when they raise behind what they have written", function()
    local answers = together("gm_raise", { "a", "b", "c", "d", "e" }, function(tx, given)
      local row = insert(tx, given)
      if given.name == "c" and row.id then moonpool.fail("NO_C", "c is not wanted") end
      return row
    end)
    assert.are.equal("NO_C", answers[3].code)
    assert.are.equal("a b d e", stored())
  end)

  it("are undone alone when a row that they promise is missing", function()
    local answers = together("gm_missing", { "a", "b", "c", "d" }, function(tx, given)
      insert(tx, given)
      tx:one("select 1 as one where $1 <> 'b'", given.name)
      return given.name
    end)
    assert.are.equal("RESOURCE_NOT_FOUND", answers[2].code)
    assert.are.equal("a c d", stored())
  end)

  it("do not start again for one that has written nothing", function()
    local answers = together("gm_reader", { "a", "b", "c", "d" }, function(tx, given)
      local found = tx:value "select count(*) from group_merge.events"
      if given.name == "b" then moonpool.fail("NO_B", "after " .. found) end
      return insert(tx, given)
    end)
    assert.are.equal("NO_B", answers[2].code)
    assert.are.equal("a c d", stored())
    assert.are.same({ a = 1, b = 1, c = 1, d = 1 }, runs)
  end)

  it("leave one witness, and one each when one has failed", function()
    local function witnesses(name)
      return owner.value("select count(*) from moonpool.witness where operation = $1", name)
    end
    together("gm_witness", { "a", "b", "c", "d" }, insert)
    assert.are.equal(1 + 1, witnesses "gm_witness") -- the first call's, too
    together("gm_witnesses", { "a", "bad", "c", "d" }, insert)
    assert.are.equal(1 + 3, witnesses "gm_witnesses")
  end)

  it("go one by one when their operation says so", function()
    local _, infos = together("gm_apart", { "a", "b", "c", "d", "e" }, insert, { merge = false })
    assert.are.equal(5, infos[1].statements)
  end)
end)
