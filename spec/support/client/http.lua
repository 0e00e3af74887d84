-- A raw HTTP client and the process of an HTTP server, for specs. Bytes go out as they are written;
-- waiting is for what comes back, never for time to pass. Runs on a loop of its own: the host's
-- loop stands still meanwhile.
local uv = require "luv"

local http = {}

-- A wait that is not over by then is a failure, whatever the server was meant to do.
local patience_ms = 30000

-- Turns the loop until `over()` is true.
local function wait(what, over)
  local late = false
  local timer = uv.new_timer()
  uv.update_time() -- the loop has stood still since the last wait; its clock is that wait's
  timer:start(patience_ms, 0, function() late = true end)
  while not late and not over() do uv.run "once" end
  timer:close()
  if late then error("waited in vain: " .. what, 3) end
end

-- ---- processes ----

--- Starts a program and waits for the line "port N" on its stdout.
---@param path string
---@param args string[]
---@param options? { env?: string[], cwd?: string }
function http.start(path, args, options)
  local server = { out = "" }
  local stdin, stdout = uv.new_pipe(false), uv.new_pipe(false)
  local exit
  local handle, pid = uv.spawn(path, {
    args = args, stdio = { stdin, stdout, 2 }, env = options and options.env,
    cwd = options and options.cwd,
  }, function(code, signal) exit = { code = code, signal = signal } end)
  assert(handle, pid)
  server.pid = pid
  local ended = false
  stdout:read_start(function(err, chunk)
    if err or not chunk then ended = true else server.out = server.out .. chunk end
  end)
  wait("the server listens", function() return exit or server.out:match "port (%d+)\n" end)
  assert(not exit, "the server did not start")
  server.port = tonumber(server.out:match "port (%d+)\n")

  --- Asks it to end; `server.join()` waits for that.
  function server.signal(name) handle:kill(name) end

  --- Ends it by closing its stdin, and waits.
  ---@return integer code
  function server.stop()
    if not stdin:is_closing() then stdin:close() end
    return server.join()
  end

  function server.join()
    wait("the server ends", function() return exit and ended end)
    if not stdin:is_closing() then stdin:close() end
    if not stdout:is_closing() then stdout:close() end
    if not handle:is_closing() then handle:close() end
    uv.run "nowait"
    assert(exit.signal == 0, ("the server ended by signal %d"):format(exit.signal))
    return exit.code
  end

  --- Processor time so far, in clock ticks.
  function server.ticks()
    local file = assert(io.open(("/proc/%d/stat"):format(pid)))
    local text = file:read "a"
    file:close()
    local fields = {}
    for field in text:match "%) (.*)":gmatch "%S+" do fields[#fields + 1] = tonumber(field) or 0 end
    return fields[12] + fields[13]
  end

  return server
end

--- The echo server, built beside the executable that runs us, with these settings ("idle_ms=100").
function http.echo(...)
  return http.start(os.getenv "HTTP_ECHO" or uv.exepath():gsub("[^/]*$", "spec/http_echo"), { ... })
end

-- ---- clients ----

-- Takes one answer from the front of `text`. Nothing if it is not complete; `ended`: no more will
-- come.
local function take_answer(text, ended, head_only)
  local head, rest = text:match "^(.-\r\n)\r\n(.*)$"
  if not head then return nil end
  local answer = { status = tonumber(head:match "^HTTP/1%.1 (%d%d%d) "), headers = {}, head = head }
  for name, value in head:gmatch "\r?\n([^:\r\n]+): ([^\r\n]*)" do
    answer.headers[name:lower()] = value
  end
  if answer.status < 200 or answer.status == 204 or answer.status == 304 or head_only then
    answer.body = ""
    return answer, rest
  end
  local length = tonumber(answer.headers["content-length"])
  if length then
    if #rest < length then return nil end
    answer.body = rest:sub(1, length)
    return answer, rest:sub(length + 1)
  end
  if answer.headers["transfer-encoding"] == "chunked" then
    local pieces, at = {}, 1
    while true do
      local size, from = rest:match("^(%x+)\r\n()", at)
      if not size then return nil end
      size = tonumber(size, 16)
      if #rest < from + size + 1 then return nil end
      pieces[#pieces + 1] = rest:sub(from, from + size - 1)
      assert(rest:sub(from + size, from + size + 1) == "\r\n", "a chunk has no end")
      at = from + size + 2
      if size == 0 then
        answer.body = table.concat(pieces)
        return answer, rest:sub(at)
      end
    end
  end
  if not ended then return nil end
  answer.body = rest
  return answer, ""
end

--- A connection to a port of 127.0.0.1.
function http.connect(port)
  local client = { received = "", ended = false, reset = nil }
  local tcp = uv.new_tcp()
  local connected, failed
  tcp:connect("127.0.0.1", port, function(err) connected, failed = true, err end)
  wait("connected", function() return connected end)
  if failed then
    tcp:close()
    return nil, failed
  end
  tcp:nodelay(true)
  client.port = tcp:getsockname().port

  local function on_read(err, chunk)
    if err then client.reset = err end
    if chunk then client.received = client.received .. chunk else client.ended = true end
  end
  tcp:read_start(on_read)

  --- Writes all of it; the server may be slow to take it.
  function client.send(...)
    tcp:write { ... }
    uv.run "nowait"
    return client
  end

  --- Says that nothing more will come, and goes on reading.
  function client.shut()
    tcp:shutdown()
    uv.run "nowait"
    return client
  end

  function client.stop_reading() tcp:read_stop() end
  function client.go_on_reading() tcp:read_start(on_read) end

  --- The next answer; `head_only`: it answers HEAD. Nothing at the connection's end.
  function client.answer(head_only)
    local answer, rest
    wait("an answer", function()
      answer, rest = take_answer(client.received, client.ended, head_only)
      return answer or client.ended
    end)
    if answer then client.received = rest end
    return answer
  end

  --- Everything up to the connection's end.
  function client.rest()
    wait("the connection ends", function() return client.ended end)
    return client.received
  end

  --- Waits until this text has come.
  function client.expect(text)
    wait("to receive " .. text, function()
      return client.received:find(text, 1, true) or client.ended
    end)
    return client.received:find(text, 1, true) ~= nil
  end

  --- Closes, at once: with unread bytes the other side sees a reset.
  function client.close()
    if not tcp:is_closing() then tcp:close() end
    uv.run "nowait"
  end

  return client
end

--- Sends the bytes on a connection of their own and returns all answers until the server closes.
--- The connection stays open on our side: a server that waits for more is an error.
---@return table[] answers
---@return string rest what is no answer
function http.exchange(port, ...)
  local client = assert(http.connect(port))
  client.send(...)
  local text = client.rest()
  client.close()
  local answers = {}
  while true do
    local answer, rest = take_answer(text, true)
    if not answer then return answers, text end
    answers[#answers + 1], text = answer, rest
  end
end

--- One request over a connection of its own.
function http.request(port, method, path, options)
  options = options or {}
  local lines = { ("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"):format(method,
    path) }
  for name, value in pairs(options.headers or {}) do
    lines[#lines + 1] = ("%s: %s\r\n"):format(name, value)
  end
  if options.body then lines[#lines + 1] = ("Content-Length: %d\r\n"):format(#options.body) end
  lines[#lines + 1] = "\r\n"
  lines[#lines + 1] = options.body
  local answers = http.exchange(port, table.concat(lines))
  return answers[1]
end

http.wait = wait

return http
