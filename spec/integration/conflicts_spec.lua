-- Transactions of one operation that conflict with each other: fewer of them run at a time.
local inline   = require "spec.support.data.inline"
local moonpool = require "moonpool"

describe("conflicts", function()
  local running, most, conflicting

  -- Of a name of its own: the calls of one name share a brake.
  local function operation(name)
    return inline.define(function(tx)
      local _ <close> = setmetatable({}, { __close = function() running = running - 1 end })
      running = running + 1
      most = math.max(most, running)
      tx:value "select pg_sleep(0.01)"
      if conflicting then tx:value "select moonpool_fault.raise('40001')" end
    end, { retries = 0, isolation = "serializable" }, name)
  end

  local function call_often(op, calls)
    local all = {}
    running, most = 0, 0
    for i = 1, 8 do
      all[i] = function()
        for _ = 1, calls do pcall(moonpool.call, op, {}) end
      end
    end
    moonpool.all(all)
    assert.are.equal(0, running)
    assert.are.equal(0, moonpool.host.lanes().waiting)
  end

  it("that never happen: all calls run at once", function()
    conflicting = false
    call_often(operation "conflicts_spec_none", 20)
    assert.is_true(most > 4, ("only %d ran at once"):format(most))
  end)

  it("that are frequent: few calls run at once, and all do again when the conflicts end", function()
    local op = operation "conflicts_spec_many"
    conflicting = true
    call_often(op, 10)
    call_often(op, 10)
    assert.is_true(most >= 1 and most <= 3, ("%d ran at once"):format(most))
    conflicting = false
    call_often(op, 100)
    assert.is_true(most > 4, ("only %d ran at once"):format(most))
  end)
end)
