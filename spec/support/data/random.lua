-- Random numbers from a seed: what was drawn is drawn again by the same seed, in every process.
local random = {}

--- A function draw(n) -> an integer from 1 to n.
---@param seed integer
---@return fun(n: integer): integer
function random.new(seed)
  local state = (seed * 0x9E3779B97F4A7C15 + 1) | 1
  return function(n)
    state = state ~ (state << 13)
    state = state ~ (state >> 7)
    state = state ~ (state << 17)
    return ((state * 0x2545F4914F6CDD1D) >> 33) % n + 1
  end
end

--- The seed of this run: MP_SEED, or a fresh one; failures name it.
function random.seed()
  return math.tointeger(tonumber(os.getenv "MP_SEED" or nil)) or os.time() % 1000000
end

return random
