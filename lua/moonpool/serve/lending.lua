-- moonpool.serve.lending: how many connections each worker of the host may have. Together they may
-- have `limit`; a worker that does not need its part lends it to the others.
local lending = {}

-- What each pool is to have: first what it needs and one more, so that its next call finds a
-- connection, as far as all can have that; the rest goes one by one to the pool that has least.
local function parts(pools, limit)
  local shares, order, left = {}, {}, limit
  for i, pool in ipairs(pools) do
    local least = i == 1 and limit > #pools and 2 or 1 -- the relay of the front needs two
    order[i] = { at = i, need = math.max(least, pool.active + pool.waiting + 1) }
  end
  table.sort(order, function(a, b)
    if a.need ~= b.need then return a.need < b.need end
    return a.at < b.at
  end)
  for n, one in ipairs(order) do -- the modest first: what they leave is for those that need more
    shares[one.at] = math.max(1, math.min(one.need, left // (#order - n + 1)))
    left = left - shares[one.at]
  end
  for _ = 1, left do
    local poorest = 1
    for i = 2, #shares do
      if shares[i] < shares[poorest] then poorest = i end
    end
    shares[poorest] = shares[poorest] + 1
  end
  return shares
end

--- The new maximum of each pool, in their order. Pure. A maximum grows only by what no pool has
--- open or may open, so that all connections together stay within the limit at every moment; what
--- a lender still has open is given at a later call.
---@param pools { active: integer, waiting: integer, total: integer, max: integer }[]
---@param limit integer  at least one for each pool
---@return integer[]
function lending.shares(pools, limit)
  local shares, held, room = parts(pools, limit), {}, limit
  for i, pool in ipairs(pools) do
    held[i] = math.max(pool.total, math.min(pool.max, shares[i]))
    room = room - held[i]
  end
  for i in ipairs(pools) do
    local more = math.min(shares[i] - held[i], math.max(room, 0))
    if more > 0 then
      shares[i], room = held[i] + more, room - more
    else
      shares[i] = math.min(shares[i], held[i])
    end
  end
  return shares
end

return lending
