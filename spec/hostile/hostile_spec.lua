-- Scripts that mean harm, sandboxed and limited as operations are. Each must end, in the way that
-- it says; and nothing else may suffer: a neighbour goes on, the state's memory is back. How long
-- each takes is measured by `make soak`.
local host      = require "moonpool.host"
local moonpool  = require "moonpool"
local sandboxed = require "spec.support.data.sandboxed"
local scratch   = require "spec.support.data.scratch"

local MEMORY  = 4 << 20
local SHORT   = { cpu_ms = 20, memory = MEMORY }
-- for those that must end in another way, however slow the machine is
local LASTING = { cpu_ms = 3000, memory = MEMORY }

-- How it ended: "ok", "false", or the error's code.
local function run(code, name, limits)
  local handle = host.spawn_limited(limits, function() return sandboxed.load(code, name)() end)
  local ok, e = pcall(handle.wait, handle)
  if ok then return e == true and "ok" or "returned " .. tostring(e), e end
  return type(e.code) == "string" and e.code or "?", e
end

-- A task that goes on all the while: how often it had its turn.
local turns, over = 0, false
local neighbour

setup(function()
  neighbour = moonpool.spawn(function()
    while not over do
      turns = turns + 1
      moonpool.sleep(0.001)
    end
    return "alive"
  end)
end)

teardown(function()
  over = true
  assert.are.equal("alive", neighbour:wait())
end)

for _, theme in ipairs(sandboxed.themes) do
  describe("hostile " .. theme .. ":", function()
    for _, script in ipairs(sandboxed.hostile(theme)) do
      local name, ends, code = script[1], script[2], script[3]
      it(name, function()
        local expected = {}
        for word in (ends .. "|" .. (script.also or "")):gmatch "[^|]+" do expected[word] = true end
        local before = turns
        local by_time = expected.SCRIPT_TIMEOUT and (theme ~= "memory" or ends == "SCRIPT_TIMEOUT")
        local how, e = run(code, theme .. ".lua", by_time and SHORT or LASTING)
        assert(expected[how], ("it ended with %s: %s"):format(how, tostring(e)))
        if how == "SCRIPT_TIMEOUT" then
          assert.truthy(e.traceback:find("%.lua:%d+"), e.traceback)
        end
        scratch.await("the neighbour's next turn", function() return turns > before end)
      end)
    end
  end)
end

describe("after all of them", function()
  it("the state's memory is back", function()
    collectgarbage()
    collectgarbage()
    assert.is_true(collectgarbage "count" < 64 * 1024)
  end)

  it("Lua's libraries are as they were", function()
    assert.are.equal("xx", ("x"):rep(2))
    assert.are.equal(3, #table.pack(1, 2, 3))
    assert.is_nil(rawget(string, "evil"))
    assert.are.equal("1", table.concat { 1 })
  end)
end)
