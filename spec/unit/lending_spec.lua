-- How the workers of a host share their connections.
local lending = require "moonpool.serve.lending"

local function pool(active, waiting, total, max)
  return { active = active, waiting = waiting, total = total, max = max }
end

describe("connections of several workers", function()
  it("are shared equally while nobody needs more", function()
    assert.are.same({ 7, 7, 6 }, lending.shares({ pool(0, 0, 2, 7), pool(0, 0, 7, 7),
                                                  pool(0, 0, 1, 6) }, 20))
  end)

  it("are lent to a worker whose calls wait; a lender keeps one more than it needs", function()
    assert.are.same({ 3, 16, 1 }, lending.shares({ pool(2, 0, 2, 7), pool(7, 20, 7, 7),
                                                   pool(0, 0, 1, 6) }, 20))
  end)

  it("are given on only when the lender has closed them; the front keeps two", function()
    local first = lending.shares({ pool(0, 0, 7, 7), pool(7, 20, 7, 7), pool(0, 0, 6, 6) }, 20)
    assert.are.same({ 2, 7, 1 }, first)
    assert.are.same({ 2, 17, 1 }, lending.shares({ pool(0, 0, 2, 2), pool(7, 20, 7, 7),
                                                   pool(0, 0, 1, 1) }, 20))
  end)

  it("come back when they are not needed any more", function()
    local pools = { pool(0, 0, 2, 2), pool(1, 0, 17, 17), pool(0, 5, 1, 1) }
    assert.are.same({ 2, 7, 1 }, lending.shares(pools, 20))
    pools[2] = pool(1, 0, 8, 7) -- one is still to be closed
    assert.are.same({ 7, 7, 5 }, lending.shares(pools, 20))
  end)

  it("are never more than the limit, whatever the workers need and have", function()
    local random = 1
    local function next_number(below)
      random = (random * 1103515245 + 12345) % 2147483648
      return random // 65536 % below
    end
    for _ = 1, 2000 do
      local count = 2 + next_number(4)
      local limit, pools = count + next_number(30), {}
      local left = limit
      for i = 1, count do
        local max = i == count and left or 1 + next_number(left - (count - i))
        left = left - max
        local total = next_number(max + 1)
        pools[i] = pool(next_number(total + 1), next_number(20), total, max)
      end
      local sum, held = 0, 0
      for i, share in ipairs(lending.shares(pools, limit)) do
        assert.is_true(share >= 1)
        sum, held = sum + share, held + math.max(share, pools[i].total)
      end
      assert.is_true(sum <= limit and held <= limit, ("%d and %d of %d"):format(sum, held, limit))
    end
  end)
end)
