-- db.stream: rows one by one.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

describe("db.stream", function()
  local function quiet()
    scratch.await("the connection to come back", function()
      return host.pool_stats().active_connections == 0
    end)
  end

  after_each(quiet)

  it("gives every row of the query in its order, with parameters", function()
    local sum, last = 0, 0
    local sql = "select n, $word::text as word from generate_series(1, $to::int) n order by n"
    for row in db.stream(sql, { to = 5000, word = "w" }) do
      assert.are.equal(last + 1, row.n)
      assert.are.equal("w", row.word)
      last, sum = row.n, sum + row.n
    end
    assert.are.equal(5000 * 5001 // 2, sum)
  end)

  it("gives nothing for no rows, and takes parameters by number", function()
    for _ in db.stream("select 1 where $1::int > 1", 0) do error "a row" end
  end)

  it("may be left early, by break and by an error, and gives its connection up", function()
    for row in db.stream "select n from generate_series(1, 100000) n" do
      if row.n == 20 then break end
    end
    quiet()
    pcall(function()
      for _ in db.stream "select n from generate_series(1, 100000) n" do error "enough" end
    end)
    quiet()
    assert.are.equal(1, db.value "select 1")
  end)

  it("lets the loop's body use the database, and waits", function()
    inline.with_pool_of(2, function()
      local count = 0
      for row in db.stream "select n from generate_series(1, 40) n" do
        count = count + db.value("select 1 where $1::int > 0", row.n)
        moonpool.sleep(0)
      end
      assert.are.equal(40, count)
    end)
  end)

  it("holds few rows at a time", function()
    collectgarbage()
    local before, most = collectgarbage "count", 0
    local at = 0
    for _ in db.stream "select n, repeat('x', 200) as text from generate_series(1, 60000) n" do
      at = at + 1
      if at % 5000 == 0 then
        collectgarbage()
        most = math.max(most, collectgarbage "count")
      end
    end
    assert.are.equal(60000, at)
    assert.is_true(most - before < 2048)
  end)

  it("raises what the query raises, where it is called or where it happens", function()
    assert.are.equal("42P01", failure(db.stream, "select * from nowhere").sqlstate)
    local got = 0
    local e = failure(function()
      for _ in db.stream "select 100 / (100 - n) from generate_series(1, 200) n" do
        got = got + 1
      end
    end)
    assert.are.equal("22012", e.sqlstate)
    assert.is_true(got < 100)
  end)

  it("is refused in an operation", function()
    assert.are.equal("INVALID_ARGUMENT", inline.refusal(function() db.stream "select 1" end).code)
  end)
end)
