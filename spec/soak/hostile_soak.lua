-- The scripts of spec/hostile with their figures: how long each took until it was over, how far the
-- process grew, and how long a neighbour, who calls an operation each 2 ms, had to wait meanwhile.
-- SCRIPT=text in the environment takes those whose name has it. Run it alone: moonpool spec -p
-- _soak spec/soak/hostile_soak.lua
local host      = require "moonpool.host"
local moonpool  = require "moonpool"
local sandbox   = require "moonpool.script.sandbox"
local sandboxed = require "spec.support.data.sandboxed"

local CPU_MS    = 100
local MEMORY    = 32 << 20
local PAUSE_S   = 0.002
-- ms above the limit; and, for it is the whole process that is measured, watchdog and neighbour
-- too,
local ALLOWED   = 20
local SHARE     = 0.1  -- of the limit
local GROWTH    = 0.10
local OWN       = 8 << 20 -- bytes: of the process; a block that grows is there twice while it moves
local P99_MS    = 25
local TIME      = { cpu_ms = CPU_MS, memory = MEMORY }
local SPACE     = { cpu_ms = 3000, memory = MEMORY } -- time enough to use it up
local only      = os.getenv "SCRIPT" or ""
local path      = os.tmpname()

local function write(where, text)
  local file = assert(io.open(where, "wb"))
  file:write(text)
  file:close()
end

-- KiB: what the process has in memory now, and the most since the last forget_peak.
local function resident(name)
  for line in io.lines "/proc/self/status" do
    local kib = line:match("^" .. name .. ":%s+(%d+) kB")
    if kib then return math.tointeger(kib) end
  end
end

local function forget_peak() write("/proc/self/clear_refs", "5") end

-- -- the neighbour --------------------------------------------------------------------------------

local waits, over, neighbour = {}, false, nil
local cost_ms = 0 -- CPU time of one of its calls
local op = moonpool.operation { run = function(tx) return tx:value "select 1" end }

-- Lateness counts: the pause is part of what it has to wait for.
local function call_and_call()
  while not over do
    local from = host.clock()
    moonpool.sleep(PAUSE_S)
    assert(moonpool.call(op, {}) == 1)
    waits[#waits + 1] = (host.clock() - from - PAUSE_S) * 1000
  end
  return "alive"
end

local function percentile(values, part)
  table.sort(values)
  return values[math.max(1, math.ceil(#values * part))] or 0
end

-- -- one script -----------------------------------------------------------------------------------

local function measure(theme, name, code)
  local limits = theme == "memory" and SPACE or TIME
  collectgarbage()
  write(path, code)
  waits = {}
  forget_peak()
  local before, wall, cpu = resident "VmRSS", host.clock(), os.clock()
  local handle = host.spawn_limited(limits, function()
    return assert(sandbox.load(path, theme .. ".lua"))()
  end)
  local ok, e = pcall(handle.wait, handle)
  wall, cpu = (host.clock() - wall) * 1000, (os.clock() - cpu) * 1000 - cost_ms * #waits
  moonpool.sleep(PAUSE_S * 2) -- the call that waited meanwhile counts
  return {
    name = theme .. ": " .. name, how = ok and "returned" or tostring(e.code), wall = wall,
    cpu = cpu, limit = limits.cpu_ms,
    growth = (resident "VmHWM" - before) * 1024, slowest = percentile(waits, 1), waits = waits,
  }
end

local function worst(list, field, count)
  table.sort(list, function(a, b) return a[field] > b[field] end)
  local lines = {}
  for i = 1, math.min(count, #list) do
    local one = list[i]
    lines[i] = ("  %-60s %-16s cpu %7.1f ms  wall %6.1f ms  grew %5.1f MiB  neighbour %5.1f ms")
      :format(one.name, one.how,
      one.cpu, one.wall, one.growth / (1 << 20), one.slowest)
  end
  return table.concat(lines, "\n")
end

describe("scripts that mean harm", function()
  it("end in time, keep to their memory, and let others work", function()
    for _ = 1, 50 do moonpool.call(op, {}) end
    local _ <close> = setmetatable({}, { __close = function() over = true end })
    local from = os.clock()
    neighbour = moonpool.spawn(call_and_call)
    moonpool.sleep(0.5)
    cost_ms = (os.clock() - from) * 1000 / #waits
    local quiet = percentile(waits, 0.99)
    local results, all, offenders = {}, {}, {}
    for _, theme in ipairs(sandboxed.themes) do
      for _, script in ipairs(sandboxed.hostile(theme)) do
        if (theme .. ": " .. script[1]):find(only, 1, true) then
          local one = measure(theme, script[1], script[3])
          results[#results + 1] = one
          for _, wait in ipairs(one.waits) do all[#all + 1] = wait end
          local late = one.cpu > one.limit * (1 + SHARE) + ALLOWED + (script.ends_ms or 0)
          if not script.elsewhere and (late or one.growth > MEMORY * (1 + GROWTH) + OWN) then
            offenders[#offenders + 1] = worst({ one }, "cpu", 1)
          end
        end
      end
    end
    over = true
    assert.are.equal("alive", neighbour:wait())
    os.remove(path)
    print(
      ("\n%d scripts, %d calls of the neighbour; p99 %.1f ms (before: %.1f ms), slowest %.1f ms")
        :format(#results, #all,
      percentile(all, 0.99), quiet, percentile(all, 1)))
    print("longest, CPU time (the process's, without the neighbour's part):\n"
          .. worst(results, "cpu", 8))
    print("most memory, of " .. (MEMORY >> 20) .. " MiB:\n" .. worst(results, "growth", 8))
    print("slowest call of the neighbour:\n" .. worst(results, "slowest", 12))
    assert.are.same({}, offenders)
    assert.is_true(percentile(all, 0.99) <= P99_MS, "the neighbour's p99")
  end)
end)
