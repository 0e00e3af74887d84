-- The <close> variables of a task that its limits end: they run, also where the error that ends it
-- is raised inside of code that cannot yield; and nothing else of the task does.
local host = require "moonpool.host"

local function closing(fn) return setmetatable({}, { __close = fn }) end

-- Strings and tables, a block of 100 KB among them.
local function need_memory()
  local list = { ("x"):rep(100000) }
  for i = 1, 1000 do list[#list + 1] = { i } end
  return #list
end

describe("a <close> variable of a task that is being ended", function()
  -- fn(note) runs under the limits; note(name) counts.
  local function run(limits, fn)
    local seen = {}
    local handle = host.spawn_limited(limits, fn, function(name)
      seen[name] = (seen[name] or 0) + 1
    end)
    local ok, e = pcall(handle.wait, handle)
    assert.is_false(ok)
    return e.code, seen
  end

  local function for_ever(fn)
    while true do pcall(fn) end
  end

  local memory = { memory = 32 << 20 }
  local ways = {
    ["fills its memory with what it keeps"] = function(note)
      local kept
      local _ <close> = closing(function()
        note(need_memory() == 1001 and kept and "closed")
      end)
      for_ever(function() while true do kept = { kept } end end)
    end,
    ["fills its memory with what is garbage then"] = function(note)
      local _ <close> = closing(function() note(need_memory() == 1001 and "closed") end)
      local kept
      for_ever(function() while true do kept = { kept } end end)
    end,
    ["asks for a block that is too large"] = function(note)
      local _ <close> = closing(function() note(need_memory() == 1001 and "closed") end)
      for_ever(function()
        local s = "x"
        while true do s = s .. s end
      end)
    end,
    ["is refused memory inside of what catches errors"] = function(note)
      for _ = 1, 4 do -- a refused buffer may count with the next refusal
        pcall(function()
          local _ <close> = closing(function() note "closed" end)
          return ("x"):rep(64 << 20)
        end)
      end
      note "went on"
    end,
    ["is refused memory inside of a coroutine"] = function(note)
      local function fill()
        local _ <close> = closing(function() note "closed" end)
        return ("x"):rep(64 << 20)
      end
      for _ = 1, 4 do pcall(coroutine.wrap(fill)) end
      note "went on"
    end,
  }
  for what, fn in pairs(ways) do
    it("runs when the task " .. what, function()
      local code, seen = run(memory, fn)
      assert.are.equal("OUT_OF_MEMORY", code)
      assert.truthy(seen.closed)
      assert.is_nil(seen["went on"])
    end)
  end

  it("runs when the task's CPU time ends inside of code that cannot yield", function()
    local pattern = (".-"):rep(9) .. "b"
    local subject = ("a"):rep(500)
    for _, spin in ipairs {
      function() subject:find(pattern) end,
      function() table.sort({ 1, 2, 3 }, function() while true do end end) end } do
      local code, seen = run({ cpu_ms = 30 }, function(note)
        for_ever(function()
          local _ <close> = closing(function()
            note "begun"
            if need_memory() == 1001 then note "closed" end
          end)
          spin()
        end)
      end)
      assert.are.equal("SCRIPT_TIMEOUT", code)
      assert.are.equal(seen.begun, seen.closed)
    end
  end)

  it("does not let the task go on", function()
    local code, seen = run({ cpu_ms = 30 }, function(note)
      local _ <close> = closing(function()
        note "closed"
        while true do
          pcall(function() while true do end end)
        end
      end)
      while true do end
    end)
    assert.are.equal("SCRIPT_TIMEOUT", code)
    assert.are.same({ closed = 1 }, seen)
  end)

  it("may not catch its own end for ever", function()
    local code = run(memory, function()
      local _ <close> = closing(function()
        for_ever(function() for_ever(need_memory) end)
      end)
      for_ever(function() return ("x"):rep(64 << 20) end)
    end)
    assert.are.equal("OUT_OF_MEMORY", code)
  end)
end)
