-- 5,000 clients that are never done, in six ways, for half a minute; others are answered meanwhile,
-- and memory stays bounded.
local moonpool = require "moonpool"
local service  = require "spec.support.process.http_service"

describe("5,000 slow clients", function()
  it("do not keep others from being answered", function()
    local host = service.start({ ["scripts/hello.lua"] = [[
      local moonpool = require "moonpool"
      return moonpool.operation { summary = "x", run = function(tx)
        return tx:value "select 42" end }]] },
      { shell = "ulimit -S -n 1024" }) -- as most shells begin
    local token, before, from = service.token "--scopes ops:*", host:resident(),
      moonpool.host.clock()
    local most = 0
    local seen = service.among_slow(host, token, 5000, function()
      most = math.max(most, host:resident() or 0)
      return moonpool.host.clock() - from < 30
    end)
    assert.are.equal(5000, seen.most)
    assert.are.same({ 0, 0 }, { seen.refused, seen.failed })
    assert.is_true(seen.timed_out > 1000) -- and came again
    assert.is_true(most == 0 or most - before < 120 * 1024, most .. " KiB")
    print(
      ("\n%d calls answered, the slowest in %.0f ms; %d connections, %d timed out, %d ended; \z
        %.1f KiB each"):format(
      seen.answered, seen.slowest_ms, seen.connected, seen.timed_out, seen.ended,
      (most - (before or 0)) / 5000))
    host:signal "TERM"
    assert.are.equal(0, host:wait())
    host.folder.remove()
  end)
end)
