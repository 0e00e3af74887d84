-- moonpool.is.nearest: finds the known name that a misspelled name probably stands for.

-- Edit distance; two swapped neighbours count as one edit. A distance above `limit` is returned as
-- limit + 1.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local before, previous, current = {}, {}, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    current[0] = i
    local best = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local d = math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      current[j] = d
      if d < best then best = d end
    end
    if best > limit then return limit + 1 end
    before, previous, current = previous, current, before
  end
  return previous[#b]
end

-- nearest("custmer_id", { customer_id = … }) -> "customer_id"; nil if no name is near enough.
return function(name, known)
  if #name > 64 then return nil end
  local limit = math.min(3, math.max(1, #name // 3))
  local best, best_distance = nil, limit + 1
  for candidate in next, known do
    local d = distance(name:lower(), candidate:lower(), limit)
    if d < best_distance or (d == best_distance and best and candidate < best) then
      best, best_distance = candidate, d
    end
  end
  return best
end
