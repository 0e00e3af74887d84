-- Reads outside of transactions that wait together share a connection and a Sync: nobody may notice
-- it but by the load of the server.
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

local await = scratch.await

describe("reads that wait together", function()
  local schema

  setup(function()
    schema = scratch.schema("reads_spec", {
      "create table reads_spec.things (id int primary key, name text, divisor int)",
      "insert into reads_spec.things select i, 'thing ' || i, i % 5 \z
        from generate_series(1, 100) as i",
      "create table reads_spec.closed (id int primary key)",
      "insert into reads_spec.closed values (1)",
      "create type reads_spec.mood as enum ('sad', 'glad')",
      "create sequence reads_spec.numbers",
    })
  end)

  teardown(function() schema.drop() end)

  -- Starts the reads while all connections are held, then lets them go: handles in their order.
  -- Each gives true and what it read, or false and its error.
  local function begin(pool, connections, reads)
    local held, release, holders = 0, false, {}
    for i = 1, connections do
      holders[i] = moonpool.spawn(pool.lease, function(conn)
        conn.value "select 1"
        held = held + 1
        await("the release", function() return release end)
      end)
    end
    await("the connections", function() return held == connections end)
    local handles = {}
    for i, read in ipairs(reads) do handles[i] = moonpool.spawn(pcall, table.unpack(read)) end
    moonpool.sleep(0)
    release = true
    for _, holder in ipairs(holders) do holder:wait() end
    return handles
  end

  local function all(connections, reads)
    local pool = db.open { url = host.app_url, max = connections }
    for _, read in ipairs(reads) do read[1] = pool[read[1]] end
    local answers = {}
    for i, handle in ipairs(begin(pool, connections, reads)) do
      answers[i] = table.pack(handle:wait())
    end
    pool.close()
    return answers
  end

  -- Holds the table closed while fn(backend) runs.
  local function with_closed_table(fn)
    schema.owner.transaction(function(tx)
      tx:exec "lock table reads_spec.closed in access exclusive mode"
      tx:flush()
      scratch.elsewhere(fn)
    end)
  end

  it("are few transactions, and each gets its own row", function()
    local reads, times, count = {}, {}, 0
    for i = 1, 8 do
      reads[i] = { "one", "select id, name, now() as at from reads_spec.things where id = $1",
                   i }
    end
    for i, answer in ipairs(all(1, reads)) do
      local row = answer[2]
      assert.are.same({ true, i, "thing " .. i }, { answer[1], row.id, row.name })
      if not times[tostring(row.at)] then times[tostring(row.at)], count = true, count + 1 end
    end
    assert.are.equal(2, count)
  end)

  it("may be hundreds, of several shapes and unknown types", function()
    local reads = {}
    for i = 1, 300 do
      reads[i] = i % 3 == 0 and { "value", "select $1::int + 1", i }
        or i % 3 == 1 and { "query", "select id from reads_spec.things where id <= $1", i % 9 }
        or { "first", "select array['sad', 'glad']::reads_spec.mood[] as moods, $1::int as n",
             i }
    end
    for i, answer in ipairs(all(3, reads)) do
      local value = answer[2]
      assert.is_true(answer[1], tostring(value))
      if i % 3 == 0 then assert.are.equal(i + 1, value) end
      if i % 3 == 1 then assert.are.equal(i % 9, #value) end
      if i % 3 == 2 then assert.are.same({ "sad", "glad", i }, { value.moods[1], value.moods[2],
                                                                  value.n }) end
    end
  end)

  it("do not share when they may change something, or answer for their own backend", function()
    for _, sql in ipairs { "select nextval('reads_spec.numbers') as n, now() as at",
                           "select id as n, now() as at from reads_spec.things where id = 1 \z
                             for share",
                           "select pg_backend_pid() as n, now() as at" } do
      local reads, times = {}, {}
      for i = 1, 8 do reads[i] = { "one", sql } end
      for _, answer in ipairs(all(1, reads)) do
        local at = tostring(answer[2].at)
        assert.is_nil(times[at], sql)
        times[at] = true
      end
    end
    assert.are.equal(9, db.value "select nextval('reads_spec.numbers')")
  end)

  it("fail alone: the neighbours of a failure are read again", function()
    local reads = {}
    for i = 1, 16 do
      reads[i] = { "value", "select 60 / divisor from reads_spec.things where id = $1", i }
    end
    for i, answer in ipairs(all(1, reads)) do
      if i % 5 == 0 then
        assert.are.same({ false, "22012" }, { answer[1], answer[2].sqlstate })
      else
        assert.are.same({ true, 60 // (i % 5) }, { answer[1], answer[2] })
      end
    end
  end)

  it("fail alone when the text itself is wrong", function()
    local reads = {}
    for i = 1, 8 do reads[i] = { "value", "select $1::int", i } end
    reads[3] = { "value", "select nothing from reads_spec.things" }
    for i, answer in ipairs(all(1, reads)) do
      assert.are.same(i ~= 3, answer[1])
      assert.are.equal(i == 3 and "42703" or i, i == 3 and answer[2].sqlstate or answer[2])
    end
  end)

  it("do not wait for one that hangs", function()
    local pool, hanging = db.open { url = host.app_url, max = 2 }, nil
    with_closed_table(function()
      local reads = { { pool.value, "select id from reads_spec.closed" } }
      for i = 2, 16 do
        reads[i] = { pool.value, "select id from reads_spec.things where id = $1", i }
      end
      local handles = begin(pool, 2, reads)
      for i = 2, 16 do assert.are.same({ true, i }, { handles[i]:wait() }) end
      hanging = handles[1]
    end)
    assert.are.same({ true, 1 }, { hanging:wait() })
    pool.close()
  end)

  it("do not wait for one that hangs behind them, whose neighbours' answers the server keeps back",
     function()
    local pool, hanging = db.open { url = host.app_url, max = 1 }, nil
    with_closed_table(function()
      local reads = {}
      for i = 1, 3 do
        reads[i] = { pool.value, "select id from reads_spec.things where id = $1", i }
      end
      reads[4] = { pool.value, "select id from reads_spec.closed" }
      local handles = begin(pool, 1, reads)
      for i = 1, 3 do assert.are.same({ true, i }, { handles[i]:wait() }) end
      hanging = handles[4]
    end)
    assert.are.same({ true, 1 }, { hanging:wait() })
    pool.close()
  end)

  it("go on when one is canceled, and when its connection is lost", function()
    local pool = db.open { url = host.app_url, max = 2 }
    with_closed_table(function()
      local reads = { { moonpool.timeout, 0.3, pool.value, "select id from reads_spec.closed" },
                      { pool.value, "select id from reads_spec.closed limit 1" } }
      for i = 3, 16 do
        reads[i] = { pool.value, "select id from reads_spec.things where id = $1", i }
      end
      local handles = begin(pool, 2, reads)
      for i = 3, 16 do assert.are.same({ true, i }, { handles[i]:wait() }) end
      local ok, e = handles[1]:wait()
      assert.are.same({ false, "DEADLINE_EXCEEDED" }, { ok, e.code })
      local pid = await("the second read's backend", function()
        return test.admin().value [[select pid from pg_stat_activity
          where query like 'select id from reads_spec.closed limit 1' and state = 'active']]
      end)
      test.admin().value("select pg_terminate_backend($1)", pid)
      ok, e = handles[2]:wait()
      assert.are.same({ false, "CONNECTION_LOST" }, { ok, e.code })
    end)
    assert.are.equal(7, pool.value "select 7")
    pool.close()
  end)

  it("end by DB_QUERY_TIMEOUT each by itself", function()
    with_closed_table(function()
      local output = scratch.script([[
        local moonpool, db = require "moonpool", require "moonpool.db"
        local calls = { function()
          local ok, e = pcall(db.value, "select id from reads_spec.closed")
          return ok or e.code
        end }
        for i = 2, 12 do
          calls[i] = function()
            return db.value("select id from reads_spec.things where id = $1", i)
          end
        end
        print(table.concat(moonpool.all(calls), " "))
        print(db.value "select 7")
      ]], { DB_QUERY_TIMEOUT = "2000", DB_POOL_MAX = "2", MOONPOOL_LOG_LEVEL = "error" })
      assert.are.equal("DEADLINE_EXCEEDED 2 3 4 5 6 7 8 9 10 11 12\n7\n", output)
    end)
  end)
end)
