-- A cancel that arrives when its statement is over: the next statement of the connection is not hit
-- by it.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local fault    = require "spec.support.workload.fault"

local ROUNDS = 150

describe("a cancel that comes late", function()
  after_each(fault.assert_quiet)

  it("does not hit the next statement on a kept connection", function()
    local ended = 0
    db.lease(function(conn)
      for i = 1, ROUNDS do
        local seconds = 0.001 + i % 10 / 2000
        if not pcall(moonpool.timeout, seconds, conn.value, "select pg_sleep($1)::text",
          seconds) then
          ended = ended + 1
        end
        assert.are.equal("", conn.value "select pg_sleep(0.003)::text")
      end
    end, { timeout = 0 })
    assert.truthy(ended > 0, "nothing was canceled")
  end)
end)
