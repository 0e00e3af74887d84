-- require and its friends: as in plain Lua, but a module's body may wait.
local lfs = require "lfs"
local moonpool = require "moonpool"

local dir, old_path
local files = {}

local function write(name, text)
  local path = dir .. "/" .. name
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  files[#files + 1] = path
  return path
end

local function later(...)
  moonpool.sleep(0)
  return ...
end

local function forget(...)
  for _, name in ipairs { ... } do
    package.loaded[name], package.preload[name] = nil, nil
  end
end

setup(function()
  dir = os.tmpname()
  os.remove(dir)
  assert(lfs.mkdir(dir))
  old_path = package.path
  package.path = dir .. "/?.lua;" .. package.path
end)

teardown(function()
  package.path = old_path
  for _, path in ipairs(files) do os.remove(path) end
  lfs.rmdir(dir)
end)

describe("require", function()
  it("lets the body of a module wait, once for all who ask", function()
    local runs = 0
    package.preload["t.waits"] = function(...)
      runs = runs + 1
      assert.are.same({ "t.waits", ":preload:" }, { ... })
      later()
      later()
      return { ready = true }
    end
    finally(function() forget "t.waits" end)
    local function get() return require "t.waits" end
    local all = moonpool.all { get, get, get }
    assert.are.equal(1, runs)
    assert.is_true(all[1].ready)
    assert.are.equal(all[1], all[2])
    assert.are.equal(all[1], all[3])
    assert.are.equal(1, select("#", require "t.waits"))
  end)

  it("stores true for a module that returns nothing, and keeps what it set itself", function()
    package.preload["t.none"] = function() end
    package.preload["t.sets"] = function(name) package.loaded[name] = "own" end
    package.preload["t.false"] = function() return false end
    finally(function() forget("t.none", "t.sets", "t.false") end)
    assert.is_true((require "t.none"))
    assert.are.equal("own", (require "t.sets"))
    assert.is_false((require "t.false"))
  end)

  it("gives the file as its second result", function()
    local path = write("t_file.lua",
                       "local name, file = ... later_value = nil return { name, file }")
    finally(function() forget "t_file" end)
    local value, data = require "t_file"
    assert.are.same({ "t_file", path }, value)
    assert.are.equal(path, data)
    local _, place = require "moonpool.errors"
    assert.is_nil(place)
  end)

  it("finds C modules", function()
    assert.is_function(require "lfs".attributes)
  end)

  it("reports a loop with its members", function()
    package.preload["t.a"] = function() return require "t.b" end
    package.preload["t.b"] = function() later() return require "t.a" end
    finally(function() forget("t.a", "t.b") end)
    local ok, e = pcall(require, "t.a")
    assert.is_false(ok)
    assert.is_truthy(e:find("module 't.a' requires itself: t.a -> t.b -> t.a", 1, true), e)
    -- nothing stays behind
    package.preload["t.b"] = function() return "b" end
    assert.are.equal("b", (require "t.a"))
  end)

  it("reports a loop across tasks instead of waiting for ever", function()
    package.preload["t.x"] = function() later() return require "t.y" end
    package.preload["t.y"] = function() later() return require "t.x" end
    finally(function() forget("t.x", "t.y") end)
    local results = moonpool.all {
      function() return select(2, pcall(require, "t.x")) end,
      function() return select(2, pcall(require, "t.y")) end,
    }
    local text = tostring(results[1]) .. tostring(results[2])
    assert.is_truthy(text:find("requires itself", 1, true), text)
  end)

  it("lets another task try again when the first one failed", function()
    local runs = 0
    package.preload["t.flaky"] = function()
      runs = runs + 1
      local first = runs == 1
      later()
      if first then error("first fails", 0) end
      return "second"
    end
    finally(function() forget "t.flaky" end)
    local results = moonpool.all {
      function() return select(2, pcall(require, "t.flaky")) end,
      function() return (require "t.flaky") end,
    }
    assert.are.same({ "first fails", "second" }, results)
  end)

  it("lists the places that it looked at", function()
    local ok, e = pcall(function() require "no.such" end)
    assert.is_false(ok)
    assert.is_truthy(e:find("^[^\n]*require_spec%.lua:%d+: module 'no%.such' not found"), e)
    assert.is_truthy(e:find("package.preload['no.such']", 1, true))
    assert.is_truthy(e:find("/scripts/no/such.lua", 1, true))
    assert.is_truthy(e:find(dir .. "/no/such.lua", 1, true))
    assert.is_truthy(e:find("/no/such.so", 1, true))
  end)

  it("refuses names that are paths", function()
    for _, name in ipairs { "a/b", "../a", "a..b", ".a", "a\\b", "a\0b", "" } do
      local ok, e = pcall(require, name)
      assert.is_false(ok)
      assert.is_truthy(e:find("is refused", 1, true), e)
    end
    local ok, e = pcall(require)
    assert.is_false(ok)
    assert.is_truthy(e:find("string expected, got no value", 1, true), e)
    assert.is_truthy(select(2, pcall(require, {})):find("string expected, got table", 1, true))
  end)

  it("names file and line of a module that does not compile", function()
    write("t_syntax.lua", "local a = 1\nlocal = 2\n")
    local ok, e = pcall(require, "t_syntax")
    assert.is_false(ok)
    assert.is_truthy(e:find("t_syntax.lua:2: ", 1, true), e)
    assert.is_truthy(e:find("in module 't_syntax'", 1, true), e)
  end)
end)

describe("chunks", function()
  local bytecode = string.dump(function() return 1 end)

  it("are text only", function()
    local path = write("t_binary.lua", bytecode)
    for _, result in ipairs {
      { load(bytecode) }, { load(bytecode, "x", "b") }, { load(bytecode, "x", "bt", {}) },
      { loadfile(path) }, { loadfile(path, "b") }, { pcall(dofile, path) },
      { pcall(require, "t_binary") },
    } do
      assert.is_truthy(not result[1])
      assert.is_truthy(tostring(result[2]):find("binary chunk", 1, true), tostring(result[2]))
    end
  end)

  it("load as in plain Lua otherwise", function()
    assert.are.equal(3, load("return 1 + 2")())
    assert.are.equal(5, load("return x", "name", "t", { x = 5 })())
    assert.has_error(load("return x.y", "name", "t", nil)) -- an environment of nil
    assert.is_nil((load("return +")))
    local parts = { "return ", "7" }
    assert.are.equal(7, load(function() return table.remove(parts, 1) end)())
    local path = write("t_chunk.lua", "#!/usr/bin/env lua\nreturn v, ...\n")
    assert.are.same({ 8, 9 }, { loadfile(path, "t", { v = 8 })(9) })
    assert.is_nil((loadfile(dir .. "/none.lua")))
    assert.has_error(function() dofile(dir .. "/none.lua") end)
  end)

  it("may wait inside dofile", function()
    local path = write("t_wait.lua", "require 'moonpool'.sleep(0) return 'done'")
    assert.are.equal("done", dofile(path))
  end)
end)
