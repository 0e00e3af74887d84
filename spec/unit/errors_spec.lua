-- The error object: what any error becomes when it leaves a task.
local moonpool = require "moonpool"
local errors = require "moonpool.errors"

-- The error object of a task that runs `fn`.
local function failure(fn, ...)
  local handle = moonpool.spawn(fn, ...)
  local ok, e = pcall(handle.wait, handle)
  assert.is_false(ok)
  assert.is_true(errors.is(e))
  return e
end

describe("errors.new", function()
  it("has defaults and copies its fields", function()
    local fields = { message = "text" }
    local e = errors.new(fields)
    assert.are.equal("ERROR", e.code)
    assert.are.equal(500, e.status)
    assert.are.equal("text", e.message)
    assert.is_nil(fields.code)
    assert.is_true(errors.is(errors.new()))
    assert.is_false(errors.is(fields))
    assert.is_false(errors.is("text"))
    assert.is_false(errors.is(nil))
  end)

  it("reads well on one line", function()
    assert.are.equal("ERROR", tostring(errors.new()))
    assert.are.equal("NOT_FOUND: no such deal", tostring(errors.new { code = "NOT_FOUND", message = "no such\ndeal" }))
    assert.are.equal(
      "DATABASE_ERROR: duplicate key (SQLSTATE 23505, constraint users_email_key) at scripts/y.lua:12",
      tostring(errors.new {
        code = "DATABASE_ERROR", message = "duplicate key", sqlstate = "23505",
        constraint = "users_email_key", line = "scripts/y.lua:12",
      }))
  end)
end)

describe("an error that leaves a task", function()
  it("has the place and the traceback of where it was raised", function()
    local function inner() error("boom") end
    local e = failure(function() inner() end)
    assert.are.equal("SCRIPT_ERROR", e.code)
    assert.are.equal(500, e.status)
    assert.are.equal("boom", e.message)
    assert.is_truthy(e.line:find("errors_spec%.lua:%d+$"), e.line)
    assert.is_truthy(e.traceback:find("inner", 1, true), e.traceback)
    assert.is_truthy(tostring(e):find("^SCRIPT_ERROR: boom at .*errors_spec%.lua:%d+$"), tostring(e))
  end)

  it("keeps an error object as it is", function()
    local mine = errors.new { code = "MINE", status = 409, message = "m" }
    local e = failure(function() moonpool.sleep(0) error(mine) end)
    assert.are.equal(mine, e)
    assert.are.equal(409, e.status)
    assert.is_truthy(e.traceback)
    assert.is_truthy(e.line:find("errors_spec%.lua:%d+$"))
  end)

  it("keeps the first traceback when it is raised again", function()
    local e = failure(function()
      local first = failure(function() error("deep") end)
      first.traceback = "kept"
      error(first)
    end)
    assert.are.equal("kept", e.traceback)
  end)

  it("keeps its place when it passes a script's coroutine", function()
    local inner
    local e = failure(function()
      coroutine.wrap(function()
        inner = debug.getinfo(1, "l").currentline + 1
        moonpool.sleep(-1)
      end)()
    end)
    assert.are.equal("INVALID_ARGUMENT", e.code)
    assert.are.equal(tostring(inner), e.line:match("errors_spec%.lua:(%d+)$"))
    e = failure(function()
      coroutine.wrap(function()
        moonpool.sleep(0)
        inner = debug.getinfo(1, "l").currentline + 1
        error(errors.new { code = "MINE" })
      end)()
    end)
    assert.are.equal(tostring(inner), e.line:match("errors_spec%.lua:(%d+)$"))
  end)

  it("is made of anything", function()
    assert.are.equal("nil", failure(function() error(nil) end).message)
    assert.are.equal("42", failure(function() error(42) end).message)
    assert.are.equal("own text", failure(function()
      error(setmetatable({}, { __tostring = function() return "own text" end }))
    end).message)
    assert.is_truthy(failure(function()
      error(setmetatable({}, { __tostring = function() error("again") end }))
    end).message:find("__tostring fails", 1, true))
    local e = failure(function() error { code = "C", message = "m", status = 404, more = 1 } end)
    assert.are.same({ "C", "m", 404, 1 }, { e.code, e.message, e.status, e.more })
  end)

  it("does not take a text for a place", function()
    assert.are.equal("at 10:30: lunch", failure(function() error("at 10:30: lunch", 0) end).message)
    assert.are.equal("ratio 1:2: x", failure(function() error("ratio 1:2: x", 0) end).message)
    local e = failure(function() error("scripts/a.lua:3: boom", 0) end)
    assert.are.equal("boom", e.message)
    assert.are.equal("scripts/a.lua:3", e.line)
    e = failure(load("local x = nil; return x.y"))
    assert.is_truthy(e.line:find("^%[string"), e.line)
    assert.is_truthy(e.message:find("^attempt to index a nil value"), e.message)
  end)

  it("survives an endless recursion", function()
    local function deep(n) return 1 + deep(n + 1) end
    local e = failure(deep, 1)
    assert.are.equal("SCRIPT_ERROR", e.code)
    assert.is_truthy(e.message:find("stack overflow", 1, true), e.message)
  end)

  it("may come from <close> while another passes", function()
    local e = failure(function()
      local _ <close> = setmetatable({}, { __close = function() moonpool.sleep(0) error("in close") end })
      error("first")
    end)
    assert.are.equal("in close", e.message)
  end)
end)
