-- Clients that keep connections busy without ever being done, each in its own way, and with `rude`
-- also clients that leave again in the middle of anything. Run by plain Lua with luv:
--   slow_clients.lua PORT N TOKEN OPERATION[,OPERATION…] [rude]
-- Prints `ready` when N are connected; whoever is dismissed comes again. At the end of stdin it
-- prints what it saw, a Lua table.
local uv = require "luv"

local port, count, token = tonumber(arg[1]), tonumber(arg[2]), arg[3]
local PAUSE_MS = 4000 -- the longest after which one of those that leave comes again
local operations = {}
for name in arg[4]:gmatch "[^,]+" do operations[#operations + 1] = name end
local operation = operations[1]
local seen = { connected = 0, open = 0, refused = 0, timed_out = 0, ended = 0, failed = 0,
               most = 0, left = 0 }
local over, ready = false, false

local authorization = "Host: a\r\nAuthorization: Bearer " .. token .. "\r\n"
local call = "POST /api/ops/" .. operation .. " HTTP/1.1\r\n" .. authorization

-- A call of any of the operations.
local function some()
  local name = operations[math.random(#operations)]
  return "POST /api/ops/" .. name .. " HTTP/1.1\r\n" .. authorization .. "\r\n"
end

-- What is sent first, and again and again; whether answers are not read; after how many
-- milliseconds the client leaves.
local ways = {
  -- says nothing
  function() return "", "" end,
  -- never ends its head
  function() return "POST /api/ops/" .. operation .. " HTTP/1.1\r\nHost: a\r\nX-Slow: ", "x" end,
  -- ... or its body
  function() return call .. "Content-Length: 100000\r\n\r\n{", " " end,
  -- ... in pieces
  function() return call .. "Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n" end,
  -- is idle after some calls
  function() return (call .. "\r\n"):rep(3), "" end,
  function()
    return ("GET /openapi.json HTTP/1.1\r\n" .. authorization .. "\r\n"):rep(20), "", true
  end, -- takes no answer
}

-- Those that leave.
local rude = {
  function() return some(), "", true, 0 end,
  function() return some(), "", false, math.random(50) end,
  function() return some():sub(1, math.random(40)), "", false, math.random(20) end,
  function() return some():rep(20), "", true, math.random(100) end,
  function() return "\22\3\1 no HTTP at all\r\n\r\n", "", false, 1000 end,
  function() return some(), some(), false, math.random(2000) end,
}
if arg[5] == "rude" then table.move(rude, 1, #rude, #ways + 1, ways) end

local clients = {}

local function connect(i)
  local tcp, client = uv.new_tcp(), {}
  clients[i] = client
  client.tcp = tcp
  local function gone(why)
    if tcp:is_closing() then return end
    tcp:close()
    seen[why] = seen[why] + 1
    if client.open then seen.open = seen.open - 1 end
    if over then return end
    if not client.leaves then return connect(i) end
    local pause = uv.new_timer()
    pause:start(math.random(PAUSE_MS), 0, function()
      pause:close()
      if not over then connect(i) end
    end)
  end
  tcp:connect("127.0.0.1", port, function(failed)
    if failed then return gone "failed" end
    seen.connected, seen.open, client.open = seen.connected + 1, seen.open + 1, true
    seen.most = math.max(seen.most, seen.open)
    local first, again, deaf, stays_ms = ways[i % #ways + 1]()
    client.again = again
    client.leaves = stays_ms ~= nil
    if stays_ms then
      local timer = uv.new_timer()
      timer:start(stays_ms, 0, function()
        timer:close()
        gone "left"
      end)
    end
    if first ~= "" then tcp:write(first) end
    if not deaf then
      local last = ""
      tcp:read_start(function(err, chunk)
        last = (last .. (chunk or "")):sub(-400)
        if chunk then return end
        gone(err and "ended" or last:find "HTTP/1.1 503" and "refused" or last:find "HTTP/1.1 408"
             and "timed_out" or "ended")
      end)
    end
    if not ready and (seen.open == count or (arg[5] == "rude" and seen.connected >= count)) then
      ready = true
      print "ready"
      io.stdout:flush()
    end
  end)
end

for i = 1, count do connect(i) end

-- A byte of each now and then, spread over time.
local at, drip = 0, uv.new_timer()
drip:start(10, 10, function()
  for _ = 1, math.max(1, count // 100) do
    at = at % count + 1
    local client = clients[at]
    if client.open and client.again ~= "" and not client.tcp:is_closing() then
      client.tcp:write(client.again, function() end)
    end
  end
end)

local stdin = uv.new_pipe(false)
stdin:open(0)
stdin:read_start(function(_, chunk)
  if chunk then return end
  over = true
  uv.stop()
end)
uv.run()
local parts = {}
for name, value in pairs(seen) do parts[#parts + 1] = ("%s = %d"):format(name, value) end
print(("return { %s }"):format(table.concat(parts, ", ")))
io.stdout:flush()
os.exit(0, false) -- what is open is the system's to close
