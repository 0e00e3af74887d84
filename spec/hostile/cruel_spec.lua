-- The scripts of this folder, and create_deal, while all garbage is collected at each so-manieth
-- block that Lua asks for, in the middle of whatever it does: what is used after it was given back
-- shows, above all under `make asan`. CRUEL=1 in the environment: at each.
local dealership = require "spec.support.data.dealership"
local host       = require "moonpool.host"
local moonpool   = require "moonpool"
local sandboxed  = require "spec.support.data.sandboxed"

local EVERY  = tonumber(os.getenv "CRUEL" or 23)
local LIMITS = { cpu_ms = 15, memory = 4 << 20 }

-- fn() with the cruel collector -> how often it has collected
local function cruelly(fn)
  host.fault.memory("collect", EVERY)
  local ok, e = pcall(fn)
  local _, collected = host.fault.memory()
  return collected, ok, e
end

describe("while all is collected again and again", function()
    for _, theme in ipairs(sandboxed.themes) do
    it("hostile scripts end: " .. theme, function()
      local collected = 0
      for _, script in ipairs(sandboxed.hostile(theme)) do
        collected = collected + cruelly(function()
          return host.spawn_limited(LIMITS, function()
            return sandboxed.load(script[3], theme .. ".lua")()
          end):wait()
        end)
      end
      assert.is_true(collected > 100, collected)
    end)
  end

  it("create_deal makes its deal", function()
    local ours = dealership.new()
    for i = 1, 3 do
      local input = { dealership_id = ours.id, salesperson_id = ours.salesperson.id,
                      customer_data = { first_name = "Jane", last_name = tostring(i) } }
      local collected, ok, result = cruelly(function()
        return moonpool.call("create_deal", input)
      end)
      assert(ok, tostring(result))
      assert.truthy(tostring(result.deal.deal_number):find("000" .. i, 1, true))
      assert.is_true(collected > 0)
    end
  end)
end)
