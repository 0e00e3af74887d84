-- Speaks to the control socket of a running host. Run by plain Lua with luv.
--   control_client.lua SOCKET LINE              sends the line, prints the answer
--   control_client.lua SOCKET storm N STOP_FILE [RATE]
--       N connections call the operation `versions` one call after the other (or, with RATE, so
--       many per second over all) until STOP_FILE exists; then it prints what it saw as a Lua table
local uv = require "luv"

local path, what = arg[1], arg[2]

if what ~= "storm" then -- for whoever wants to kill it
  print(("%d"):format(uv.os_getpid()))
  io.stdout:flush()
end

local function connect(on_line)
  local pipe, pending = uv.new_pipe(false), ""
  pipe:connect(path, function(failed)
    assert(not failed, failed)
    pipe:read_start(function(_, data)
      if not data then
        pipe:close()
        return on_line(nil)
      end
      pending = pending .. data
      while true do
        local at = pending:find("\n", 1, true)
        if not at then break end
        on_line(pending:sub(1, at - 1))
        pending = pending:sub(at + 1)
      end
    end)
  end)
  return pipe
end

if what ~= "storm" then
  local pipe
  pipe = connect(function(line)
    if not line then return end
    print(line)
    pipe:close()
  end)
  pipe:write(what .. "\n")
  uv.run()
  return
end

local connections, stop_file, rate = tonumber(arg[3]), arg[4], tonumber(arg[5])
local seen = { calls = 0, failed = 0, mixed = 0, generations = 0, slowest_ms = 0, lost = 0 }
local hashes, first_failure, times = {}, "", {}
local order = '{"do":"call","name":"versions"}\n'

local function judge(line)
  seen.calls = seen.calls + 1
  local generation = line:match '^{"ok":true,"generation":(%d+)'
  if not generation then
    seen.failed = seen.failed + 1
    first_failure = first_failure == "" and line or first_failure
    return
  end
  local operation, lib, late = line:match '"operation":(%d+)', line:match '"lib":(%d+)',
    line:match '"late":(%d+)'
  local own = line:match '"number":(%d+)'
  local files = line:match '"files":(%b{})'
  if not hashes[generation] then seen.generations = seen.generations + 1 end
  hashes[generation] = hashes[generation] or files
  if operation ~= lib or lib ~= late or own ~= generation or not files
      or hashes[generation] ~= files then
    seen.mixed = seen.mixed + 1
    first_failure = first_failure == "" and line or first_failure
  end
end

local open, stopping = 0, false
local interval_ms = rate and connections * 1000 / rate
for i = 1, connections do
  local pipe, sent, timer
  local function send()
    if stopping then
      pipe:close()
      open = open - 1
      return
    end
    sent = uv.hrtime()
    pipe:write(order)
  end
  pipe = connect(function(line)
    if not line then
      seen.lost = seen.lost + 1
      open = open - 1
      return
    end
    local took_ms = (uv.hrtime() - sent) / 1e6
    times[#times + 1] = took_ms
    seen.slowest_ms = math.max(seen.slowest_ms, took_ms)
    judge(line)
    if not rate then return send() end
    timer = timer or uv.new_timer()
    timer:start(math.max(0, math.floor(interval_ms - took_ms)), 0, send)
  end)
  open = open + 1
  local start = uv.new_timer()
  start:start(interval_ms and math.floor(interval_ms * i / connections) or 0, 0, function()
    start:close()
    send()
  end)
end

local look = uv.new_timer()
look:start(20, 20, function()
  stopping = stopping or uv.fs_stat(stop_file) ~= nil
  if open <= 0 then uv.stop() end
end)
uv.run()
table.sort(times)
seen.p50_ms, seen.p99_ms = times[#times // 2 + 1] or 0, times[math.ceil(#times * 0.99)] or 0
local parts = {}
for name, value in pairs(seen) do parts[#parts + 1] = ("%s = %s"):format(name, tostring(value)) end
print(("return { %s, first_failure = %q }"):format(table.concat(parts, ", "), first_failure))
