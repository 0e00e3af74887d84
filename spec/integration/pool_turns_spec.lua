-- Tenants take turns at the pool: one that asks for many connections does not keep others waiting.
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local is       = require "moonpool.is"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

describe("the pool's connections", function()
  it("are given to tenants in turns", function()
    inline.with_pool_of(1, function()
      local order, open = {}, false
      local op = inline.define(function(tx, input)
        tx:value "select 1"
        order[#order + 1] = input.tenant
        scratch.await("the gate to open", function() return open end)
      end, { tenant = "tenant", input = is.object { tenant = is.string }, timeout = 30 }, "turns")
      local calls = {}
      local function start(tenant)
        calls[#calls + 1] = moonpool.spawn(moonpool.call, op, { tenant = tenant })
      end
      start "noisy"
      scratch.await("the first inside", function() return #order == 1 end)
      for _ = 1, 50 do start "noisy" end
      scratch.await("the others to wait", function()
        return host.pool_stats().waiting_clients == 50
      end)
      start "calm"
      start "other"
      scratch.await("all to wait", function() return host.pool_stats().waiting_clients == 52 end)
      open = true
      for _, call in ipairs(calls) do call:wait() end
      local place = {}
      for i, tenant in ipairs(order) do place[tenant] = i end
      assert.are.equal(53, #order)
      assert.is_true(place.calm <= 4 and place.other <= 4, table.concat(order, " ", 1, 6))
    end)
  end)

  it("are refused to the tenant that fills the queue, not to others", function()
    local output = scratch.script([[
      local moonpool, is = require "moonpool", require "moonpool.is"
      local open, done, refused = false, 0, 0
      local op = moonpool.operation { tenant = "tenant", input = is.object { tenant = is.string },
        run = function(tx)
          tx:value "select 1"
          done = done + 1
          while not open do moonpool.sleep(0.001) end
        end }
      local function start(tenant)
        return moonpool.spawn(function()
          local ok, e = pcall(moonpool.call, op, { tenant = tenant })
          if not ok then refused = refused + 1 end
          return ok, e
        end)
      end
      local noisy = { start "noisy" }
      while done < 1 do moonpool.sleep(0.001) end
      for n = 2, 6 do noisy[n] = start "noisy" end
      while refused < 2 do moonpool.sleep(0.001) end
      local calm = start "calm"
      while refused < 3 do moonpool.sleep(0.001) end
      open = true
      local codes = {}
      for _, call in ipairs(noisy) do
        local ok, e = call:wait()
        local code = ok and "ok" or e.code
        codes[code] = (codes[code] or 0) + 1
      end
      local ok, e = calm:wait()
      print(codes.ok, codes.BUSY, ok, e)
    ]], { MOONPOOL_QUEUE_LIMIT = "3", DB_POOL_MAX = "1", MOONPOOL_LOG_LEVEL = "error" })
    assert.are.equal("3\t3\ttrue\tnil\n", output)
  end)
end)
