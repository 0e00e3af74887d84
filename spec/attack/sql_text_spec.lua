-- Hostile SQL texts: long, deep, dense. The host reads each, or says why it does not; nobody else
-- waits for it.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"
local sql      = require "moonpool.sql"

-- A text around the middle: what is in front and behind is there n times.
local function nested(begin, front, middle, behind, finish)
  return function(n) return begin .. front:rep(n) .. middle .. behind:rep(n) .. finish end
end

local function chain(begin, link) return function(n) return begin .. link:rep(n) end end

-- What makes trees deep, or many of something; with a number that is far beyond any limit.
local deep = {
  ["a sum"]                  = { chain("select 1", "+1"), 80000 },
  ["comparisons"]            = { chain("select 1", " is null"), 80000 },
  ["casts"]                  = { chain("select 1", "::int"), 80000 },
  ["collations"]             = { chain("select 'x'", ' collate "C"'), 40000 },
  ["time zones"]             = { chain("select now()", " at time zone 'UTC'"), 40000 },
  ["unions"]                 = { chain("select 1", " union select 1"), 60000 },
  ["joins"]                  = { chain("select 1 from a", " join a on true"), 60000 },
  ["natural joins"]          = { chain("select 1 from a", " natural join a"), 60000 },
  ["a JSON path of arrows"]  = { chain("select $1::jsonb", " -> 'a'"), 80000 },
  ["concatenations"]         = { chain("select 'a'", "||'a'"), 80000 },
  ["brackets"]               = { nested("select ", "(", "1", ")", ""), 200000 },
  ["sub-selects"]            = { nested("select ", "(select ", "1", ")", ""), 50000 },
  ["derived tables"]         =
    { nested("select 1 from ", "(select 1 from ", "a", ") x", ""), 30000 },
  ["calls"]                  = { nested("select ", "abs(", "1", ")", ""), 80000 },
  ["cases"]                  =
    { nested("select ", "case when true then ", "1", " end", ""), 30000 },
  ["negations"]              = { nested("select ", "not ", "true", "", ""), 200000 },
  ["minus signs"]            = { nested("select ", "- ", "1", "", ""), 200000 },
  ["arrays"]                 = { nested("select array", "[", "1", "]", ""), 200000 },
  ["arrays of arrays"]       = { nested("select ", "array[", "1", "]", ""), 80000 },
  ["rows"]                   = { nested("select ", "row(", "1", ")", ""), 80000 },
  ["subscripts in each other"] = { nested("select x", "[x", "", "]", ""), 80000 },
  ["with in with"]           = { nested("", "with a as (", "select 1", ") select 1", ""), 30000 },
  ["lists in lists"]         =
    { nested("select 1 where 1 ", "in (1, (select 1 where 1 ", "in (1)", "))", ""), 20000 },
  ["unclosed comments"]      = { chain("select 1 ", "/*"), 200000 },
  ["plus signs"]             = { chain("select ", "+"), 200000 },
  ["plus and minus"]         = { chain("select ", "+-"), 200000 },
  ["comments in comments"]   = { nested("select ", "/*", "", "*/", ""), 100000 },
  ["unclosed brackets"]      = { chain("select ", "("), 400000 },
}

-- What is broad, but flat.
local broad = {
  ["a list of columns"]      = chain("select 1", ",1"),
  ["IN"]                     = function(n)
    return "select 1 where 1 in (1" .. (",1"):rep(n) .. ")"
  end,
  ["OR"]                     = chain("select 1 where true", " or true"),
  ["rows of VALUES"]         = chain("values (1)", ",(1)"),
  ["arms of CASE"]           = function(n)
    return "select case" .. (" when true then 1"):rep(n) .. " end"
  end,
  ["subscripts"]             = chain("select x", "[1]"),
}

local function told(run)
  local ok, e = pcall(run)
  return ok and "ok" or e.code .. ": " .. e.message
end

describe("a hostile SQL text in an operation", function()
  for name, case in pairs(deep) do
    it("is refused, not swallowed: " .. name, function()
      local e = inline.refusal(function(tx) return tx:value(case[1](case[2])) end)
      assert.are.equal("INVALID_ARGUMENT", e.code, e.message)
    end)
  end

  -- Each depth up to the limit: the parser's own thread has the stack for it, whatever the server
  -- says to it.
  for name, case in pairs(deep) do
    it("is read at the limit of nesting: " .. name, function()
      for _, n in ipairs { 300, 990, 1900, 9900 } do
        told(function() return sql.kind(case[1](n)) end)
      end
      assert.are.equal(1, db.value "select 1")
    end)
  end

  it("beyond the limit of nesting says what to do instead", function()
    local e = inline.refusal(function(tx) return tx:query("select 1" .. ("+1"):rep(80000)) end)
    inline.contains(e.message, "tx:query", "nested too deeply", "2000", "one parameter")
  end)

  -- The largest n that the host reads.
  local function limit_of(write, most)
    local good, bad = 1, most
    while bad - good > 1 do
      local n = (good + bad) // 2
      local _, e = pcall(sql.kind, write(n))
      if tostring(e):find("nested too deeply", 1, true) then bad = n else good = n end
    end
    return good
  end

  for name, case in pairs(deep) do
    it("is never too deep for the server when the host takes it: " .. name, function()
      -- Planned, not run: the text of rows in rows has twice the bytes for each level.
      local function write(n) return "select 1 where false and exists (" .. case[1](n) .. ")" end
      local n = limit_of(write, 4000)
      local ok, e = pcall(inline.call, function(tx) return tx:query(write(n)) end)
      assert.is_true(ok or e.sqlstate ~= "54001", ok or tostring(e))
    end)
  end

  it("or a value that is too deep for the server has a code of its own", function()
    local e = inline.refusal(function(tx)
      return tx:value("select jsonb_typeof($1::text::jsonb)", ("["):rep(50000) .. ("]"):rep(50000))
    end)
    assert.are.same({ "STATEMENT_TOO_COMPLEX", "54001", 500 }, { e.code, e.sqlstate, e.status })
  end)

  it("costs the task that brings it what the parser spends on it", function()
    local long, read = " select 1" .. (",1"):rep(200000), 0
    local task = moonpool.host.spawn_limited({ cpu_ms = 500 }, function()
      for i = 1, 20 do -- two statements: the host refuses them, and the server never sees them
        pcall(db.query, "select 1;" .. i .. long)
        read = i
      end
    end)
    assert.are.equal("SCRIPT_TIMEOUT", failure(task.wait, task).code)
    assert.is_true(read > 0, "its own work has used up the time")
  end)

  it("beyond the limit of length says what to do instead", function()
    local e = inline.refusal(function(tx) return tx:query("select 1" .. (",1"):rep(2500000)) end)
    inline.contains(e.message, "5000008 bytes", "1048576 are the limit", "unnest($1::int[])")
  end)

  for name, write in pairs(broad) do
    it("may be broad: " .. name, function()
      assert.is_string((sql.kind(write(20000))))
    end)
  end

  it("with thousands of parameters in one list is taken", function()
    local n = inline.call(function(tx)
      local marks, values = {}, {}
      for i = 1, 1500 do
        marks[i], values[i] = "($" .. i .. "::int, 'some text that makes it long')", i
      end
      return tx:value("select count(*) from (values " .. table.concat(marks, ", ") .. ") v",
                      table.unpack(values))
    end)
    assert.are.equal(1500, n)
  end)

  it("with a NUL byte is refused, short or long", function()
    for _, text in ipairs { "select 1\0", "select 1" .. (" "):rep(20000) .. "\0" } do
      local e = inline.refusal(function(tx) return tx:query(text) end)
      inline.contains(e.message, "NUL byte")
      inline.contains(failure(sql.split, text).message, "NUL byte")
    end
  end)

  it("of one long name, or of one long string, is no trouble", function()
    assert.are.equal("SelectStmt", (sql.kind("select 1 as " .. ("a"):rep(500000))))
    assert.are.equal("SelectStmt", (sql.kind("select '" .. ("a"):rep(500000) .. "'")))
    assert.are.equal("SelectStmt", (sql.kind('select 1 as "' .. ("ä"):rep(200000) .. '"')))
  end)

  it("is not waited for by others", function()
    local text = "select 1" .. (",1"):rep(100000)
    local turns, done = 0, false
    moonpool.all {
      function()
        pcall(db.query, text)
        done = true
      end,
      function()
        while not done do
          moonpool.sleep(0.001)
          turns = turns + 1
        end
      end,
    }
    assert.is_true(turns > 2, turns .. " turns")
  end)

  it("ends with its caller", function()
    local e = failure(moonpool.call, inline.define(function(tx)
      for i = 1, 1000 do pcall(tx.query, tx, "select " .. i .. (",1"):rep(400000)) end
    end, { timeout = 0.3 }), {})
    assert.are.equal("DEADLINE_EXCEEDED", e.code)
  end)

  it("costs its task also where it is only split", function()
    local read = 0
    local task = host.spawn_limited({ cpu_ms = 300, memory = 1 << 28 }, function()
      for i = 1, 200 do
        sql.split("select " .. i .. (",1"):rep(100000))
        read = read + 1
      end
    end)
    assert.are.equal("SCRIPT_TIMEOUT", failure(task.wait, task).code)
    assert.is_true(read < 20, read .. " texts were read")
  end)

  it("needs a place that can wait", function()
    local e = inline.refusal(function(tx)
      table.sort({ 2, 1 }, function(a, b)
        tx:exec("select " .. ("1,"):rep(10000) .. "1")
        return a < b
      end)
    end)
    inline.contains(e.message, "cannot wait inside")
  end)
end)

describe("a hostile text for moonpool.sql", function()
  for name, case in pairs(deep) do
    it("is split, or refused: " .. name, function()
      told(function() return sql.split(case[1](case[2]), true) end)
      told(function() return sql.checksum(case[1](case[2])) end)
      assert.are.equal(1, #sql.split "select 1")
    end)
  end

  it("has a limit that is told", function()
    inline.contains(failure(sql.split, ("select 1;"):rep(1000000)).message, "8388608 are the limit")
    inline.contains(failure(sql.checksum, ("select 1;"):rep(1000000)).message,
                    "8388608 are the limit")
  end)

  it("of many statements is split with the line of each", function()
    local list = sql.split(("insert into a\nvalues (1);\n"):rep(5000))
    assert.are.equal(5000, #list)
    assert.are.equal(9999, list[5000].line)
    assert.are.equal("InsertStmt", list[5000].kind)
  end)
end)

describe("a long text on a page", function()
  it("shows its beginning without values, cut in front of a string", function()
    local secret = ("4711"):rep(10000)
    pcall(db.query, "select 'x', 12, $1::int as \"ä\"" .. (" + 13"):rep(500) .. " || '" .. secret
          .. "'", 1)
    local found
    for _, entry in ipairs(require "moonpool.metrics".queries { limit = 20 }) do
      if entry.query:find('"ä"', 1, true) then found = entry.query end
    end
    assert.matches('^select %$2, %$3, %$1::int as "ä" %+ %$4', found)
    assert.is_nil(found:find("4711", 1, true))
    assert.is_nil(found:find("13", 4000, true))
  end)
end)
