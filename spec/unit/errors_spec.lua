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
    assert.are.equal("NOT_FOUND: no such deal",
                     tostring(errors.new { code = "NOT_FOUND", message = "no such\ndeal" }))
    assert.are.equal(
      "DATABASE_ERROR: duplicate key (SQLSTATE 23505, constraint users_email_key) at \z
        scripts/y.lua:12",
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
    assert.is_truthy(tostring(e):find("^SCRIPT_ERROR: boom at .*errors_spec%.lua:%d+$"),
                     tostring(e))
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
    assert.are.equal("error(nil) was raised: raise a text, or use moonpool.fail", failure(function()
      error(nil)
    end).message)
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
      local _ <close> = setmetatable({}, { __close = function()
        moonpool.sleep(0) error("in close")
      end })
      error("first")
    end)
    assert.are.equal("in close", e.message)
  end)
end)

describe("an error of a script's own making", function()
  it("has a code, a text and a status of errors, or is a mistake at the line that made it",
     function()
    local line
    local function fails(...)
      local arguments = table.pack(...)
      return failure(function()
        line = debug.getinfo(1, "l").currentline + 1
        moonpool.fail(table.unpack(arguments, 1, arguments.n))
      end)
    end
    for _, status in ipairs { 400, 404, 409.0, 499, 500, 599 } do
      local e = fails("X", "m", { status = status })
      assert.are.same({ "X", "m", status }, { e.code, e.message, e.status })
    end
    assert.are.equal(400, fails("X", "m").status)
    local wrong = { { "X", "m", { status = 100 } }, { "X", "m", { status = 200 } },
                    { "X", "m", { status = 399 } },
      { "X", "m", { status = 600 } }, { "X", "m", { status = 99999 } },
      { "X", "m", { status = 0 / 0 } },
      { "X", "m", { status = 1 / 0 } }, { "X", "m", { status = 404.5 } },
      { "X", "m", { status = "404" } },
      { "X", "m", { status = true } }, { "X", "m", { status = {} } }, { "X", "m", 404 },
      { "X", "m", "404" },
      { "X", nil }, { "X", 1 }, { "X", {} }, { nil, "m" }, { 7, "m" }, { "", "m" }, { "x", "m" },
      { "Not Found", "m" }, { "1X", "m" }, { "X\n", "m" }, { ("X"):rep(64), "m" } }
    for i, arguments in ipairs(wrong) do
      local e = fails(table.unpack(arguments, 1, 3))
      assert.are.same({ "SCRIPT_ERROR", 500 }, { e.code, e.status }, "number " .. i)
      assert.matches("^moonpool%.fail: ", e.message)
      assert.matches("errors_spec%.lua:" .. line .. "$", e.line)
    end
    assert.matches("{ status = 404 }", fails("X", "m", 404).message, 1, true)
  end)

  it("may be a table with a code; what is none of an error's is said, and no address", function()
    local made = {
      { { code = "X" }, "X", "X was raised without a message" },
      { { code = "X", message = {} }, "X", "X was raised without a message" },
      { {}, "SCRIPT_ERROR", "SCRIPT_ERROR was raised without a message" },
      { { code = {} , message = "m" }, "SCRIPT_ERROR", "without the text `code`" },
      { { code = "no code", message = "m" }, "SCRIPT_ERROR", "capitals, digits and _" },
      { { code = "X", message = "m", status = 99999 }, "SCRIPT_ERROR", "a number from 400 to 599" },
      { { code = "X", message = "m", status = "404" }, "SCRIPT_ERROR", "a number from 400 to 599" },
      { io.stdout, "SCRIPT_ERROR", "file" }, { print, "SCRIPT_ERROR", "a function was raised" },
      { coroutine.create(print), "SCRIPT_ERROR", "a thread was raised" },
      { true, "SCRIPT_ERROR", "a boolean was raised" },
      { setmetatable({}, {}), "SCRIPT_ERROR", "a table was raised" },
    }
    for i, case in ipairs(made) do
      local e = failure(function() error(case[1]) end)
      assert.are.equal(case[2], e.code, "number " .. i)
      assert.truthy(e.message:find(case[3], 1, true), e.message)
      assert.is_true(math.type(e.status) == "integer" and e.status >= 400 and e.status <= 599)
      if i ~= 8 then assert.is_nil(e.message:find("0x", 1, true), e.message) end
    end
  end)

  it("is judged too where a script has written into one of the host's", function()
    local e = errors.new { code = "X", message = "m", status = 409 }
    e.status = 200
    assert.are.same({ "SCRIPT_ERROR", 500 }, { failure(error, e).code, failure(error, e).status })
  end)
end)

describe("the `errors` of an operation", function()
  local is = require "moonpool.is"

  local function defines(entry, input)
    return pcall(moonpool.operation,
                 { input = input, errors = { sku_key = entry }, run = function() end })
  end

  it("are judged when it is defined", function()
    local input = is.object { sku = is.string, lines = is.array(is.string) }
    for _, entry in ipairs { { "DUP" }, { "DUP", 409 }, { "DUP", 409, "SKU $sku costs $5" },
                             { "DUP", nil, "taken" } } do
      assert.is_true(defines(entry, input))
    end
    for fault, entry in pairs {
      ["must be { code, status, message }, not a string"] = "DUP",
      ["the code must be a text, not nil"] = {},
      ["capitals, digits and _"] = { "dup", 409 },
      ["from 400 to 599"] = { "DUP", 200 },
      ["the message must be a text"] = { "DUP", 409, {} },
      ["there is no `status` in it"] = { "DUP", status = 409 },
      ["names `$skuu`, which is not a field of the input; did you mean `$sku`?"] =
        { "DUP", 409, "SKU $skuu" },
      ["names `$lines`, which is more than one value"] = { "DUP", 409, "SKU $lines" },
    } do
      local ok, e = defines(entry, input)
      assert.is_false(ok, fault)
      assert.truthy(e.message:find("errors.sku_key: ", 1, true) and e.message:find(fault, 1, true),
                    e.message)
    end
    assert.is_false(defines({ "DUP", 409, "SKU $sku" })) -- no schema, no fields
  end)
end)
