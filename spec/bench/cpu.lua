-- What all protections cost a script that only computes: the scripts of cpu_scripts.lua as an
-- operation's code is run (sandbox, CPU time and memory limited and accounted, watchdog), and by
-- plain lua5.4, in turns.
--   moonpool bench cpu [--rounds 7] [--only NAME] [--lua lua5.4]
-- CPU time of the process, medians, ratios and their geometric mean. Needs no database.
local host     = require "moonpool.host"
local moonpool = require "moonpool"
local sandbox  = require "moonpool.script.sandbox"
package.path   = moonpool.app_dir .. "/spec/?.lua;" .. package.path
local options  = require "bench.lib.options" ({ rounds = 7, only = "", lua = "lua5.4" }, ...)
local process  = require "bench.lib.process"

local scripts = dofile(moonpool.app_dir .. "/spec/bench/cpu_scripts.lua")

-- The script is the file itself, so that both load the same.
local path = os.tmpname()

local function write(code)
  local file = assert(io.open(path, "w"))
  file:write(code)
  file:close()
end

local function in_the_host()
  local chunk = assert(sandbox.load(path, "bench.lua"))
  collectgarbage()
  local from = os.clock()
  local result = host.spawn_limited({ cpu_ms = 60000, memory = 64 << 20 }, chunk):wait()
  return os.clock() - from, tostring(result)
end

local plain = [[local f = assert(loadfile(arg[1])) collectgarbage() local t = os.clock()
  local v = f()
  io.write(os.clock() - t, "\n", tostring(v))]]

local function in_plain_lua()
  local output = process.run(process.command { options.lua, "-e",
                                               "arg = { '" .. path .. "' } " .. plain })
  local seconds, result = output:match "^(%S+)\n(.*)$"
  return tonumber(seconds), result
end

local function median(values)
  table.sort(values)
  return values[(#values + 1) // 2]
end

print(("%-16s %10s %10s %7s"):format("CPU ms", "operation", options.lua, "ratio"))
local product, count = 0, 0
for _, script in ipairs(scripts) do
  local name, code = script[1], script[2]
  if options.only == "" or options.only == name then
    write(code)
    local mine, theirs = {}, {}
    for round = 1, options.rounds do
      local result, expected
      mine[round], result = in_the_host()
      theirs[round], expected = in_plain_lua()
      assert(result == expected, name .. " gave " .. result .. " instead of " .. expected)
    end
    local a, b = median(mine), median(theirs)
    product, count = product + math.log(a / b), count + 1
    print(("%-16s %10.1f %10.1f %7.2f"):format(name, a * 1000, b * 1000, a / b))
  end
end
os.remove(path)
print(("%-16s %29.2f"):format("geometric mean", math.exp(product / count)))
