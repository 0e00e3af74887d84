-- Columns are read by their names: two of one name are an error, wherever a row could be looked at.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local json     = require "moonpool.json"
local moonpool = require "moonpool"

local twice = "select 1 as id, 'x' as name, 2 as id"

local function assert_told(e, first, second, name)
  assert.are.equal("SCRIPT_ERROR", e.code)
  assert.matches(("columns %d and %d of the result are both named `%s`"):format(first, second,
    name), e.message, 1, true)
  assert.matches("with `as`", e.message, 1, true)
  assert.is_string(e.line)
end

local function run(fn, options)
  return moonpool.call(moonpool.operation { run = fn }, nil, options)
end

describe("two columns of one name", function()
  it("are an error of each function that gives rows", function()
    for _, name in ipairs { "query", "first", "one" } do
      assert_told(failure(db[name], twice), 1, 3, "id")
      assert_told(failure(db.transaction, function(tx)
        return tx[name](tx, twice).id
      end), 1, 3, "id")
    end
    assert_told(failure(function() for _ in db.stream(twice) do end end), 1, 3, "id")
    assert_told(failure(db.lease, function(conn) return conn.first(twice) end), 1, 3, "id")
  end)

  it("are an error without rows too", function()
    assert_told(failure(db.query, "select 1 as a, 2 as a where false"), 1, 2, "a")
  end)

  it("are found among many", function()
    local columns = {}
    for i = 1, 1600 do columns[i] = ("%d as c%d"):format(i, i) end
    assert.are.equal(1600, db.one("select " .. table.concat(columns, ", ")).c1600)
    columns[1600] = "0 as c900"
    assert_told(failure(db.first, "select " .. table.concat(columns, ", ")), 900, 1600, "c900")
  end)

  it("are found in a join", function()
    assert_told(
      failure(db.query, "select * from (select 1 as id, 2 as a) x, (select 3 as b, 4 as id) y"), 1,
      4, "id")
  end)

  it("differ by their case", function()
    local row = db.one [[select 1 as a, 2 as "A"]]
    assert.are.same({ 1, 2 }, { row.a, row.A })
  end)

  it("matter to nobody who reads the first column, or counts", function()
    assert.are.equal(1, db.value(twice))
    assert.are.equal(1, db.count(twice))
    assert.are.equal(1, db.transaction(function(tx) return tx:value(twice) end))
    db.transaction(function(tx) tx:exec(twice) end)
  end)

  it("end the transaction before COMMIT, also of a row that the script only gives back", function()
    local topic = "column_names"
    local function published()
      return db.value("select count(*) from moonpool.outbox where topic = $1", topic)
    end
    local before = published()
    for _, options in ipairs { {}, { key = moonpool.uuid() } } do
      local e = failure(run, function(tx)
        tx:publish(topic, 1)
        return tx:one(twice)
      end, options)
      assert_told(e, 1, 3, "id")
    end
    assert.are.equal(before, published())
  end)

  it("can be told by pcall, and the row stays an error", function()
    db.transaction(function(tx)
      local row = tx:one "select 1 as a"
      assert.are.equal(1, row.a)
    end)
    local rows = db.query "select 1 as a, 2 as b"
    assert.are.equal('{"a":1,"b":2}', json.encode(rows[1]))
  end)
end)

describe("two columns that JSON would name alike", function()
  local row
  setup(function()
    row = db.one [[select 1 as user_id, 2 as "userId", 3 as line_2, 4 as "lineTwo"]]
  end)

  it("are an error at the border, which names both", function()
    local ok, message = pcall(json.encode, row, { camel = true })
    assert.is_false(ok)
    assert.matches("columns 1 (user_id) and 2 (userId) would both be `userId`", message, 1, true)
  end)

  it("are none inside", function()
    assert.are.equal('{"user_id":1,"userId":2,"line_2":3,"lineTwo":4}', json.encode(row))
    assert.are.same({ 1, 2 }, { row.user_id, row.userId })
  end)
end)
