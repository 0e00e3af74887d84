-- A process between a host and its PostgreSQL that understands as much of the protocol as it takes to cut the connection at
-- a chosen message. Run by plain Lua with luv: proxy_process.lua SERVER_SOCKET ANSWERS
--
-- It listens on a free port of 127.0.0.1, tells the port as the first line of ANSWERS (a FIFO), and then obeys lines on
-- stdin, answering each with a line; it ends with its stdin.
--   cut never            pass everything
--   cut message N        close in front of the N-th message of a transaction, its first (of BEGIN) being 1
--   cut commit before    close in front of the message that executes COMMIT
--   cut commit after     pass COMMIT on, and close when the server's answer to it arrives, which is not passed on
--   told                 what the cut saw: "none", or the number of messages passed and the commands executed before it
-- A cut is made once.
local uv = require "luv"

local server_path, answers_path = arg[1], arg[2]
local answers = assert(io.open(answers_path, "w"))
answers:setvbuf "line"

local plan = { kind = "never" }
local told = "none"

local function close(handle)
  if handle and not handle:is_closing() then handle:close() end
end

local function cut(link, why)
  told = ("%d %s %s"):format(link.messages, why, table.concat(link.executed, ","))
  plan = { kind = "never" }
  link.cut = true
  close(link.client)
  -- What was passed on is still written; then the server sees the end, too.
  link.server:shutdown(function() close(link.server) end)
end

-- The name of a command: the first word of its text.
local function word(sql) return (sql:match "^%s*(%a+)" or "?"):upper() end

-- One whole message from the client. False: it is not to be passed on, the link is cut.
local function from_client(link, kind, body)
  if kind == "P" then
    local name, sql = body:match "^(%Z*)%z(%Z*)%z"
    link.statements[name] = word(sql)
    link.parsed = word(sql)
  elseif kind == "B" then
    local name = body:match "^%Z*%z(%Z*)%z"
    link.bound = link.statements[name] or "?"
  end
  local starts = (kind == "P" and link.parsed or kind == "B" and link.bound) == "BEGIN"
  if starts and not link.inside then link.inside, link.messages, link.executed = true, 0, {} end
  if not link.inside then return true end
  if plan.kind == "message" and link.messages + 1 == plan.n then
    cut(link, "message")
    return false
  end
  if kind == "E" then
    if link.bound == "COMMIT" then
      if plan.kind == "before" then
        cut(link, "commit")
        return false
      end
      link.committing = plan.kind == "after"
      link.inside = false
    elseif link.bound == "ROLLBACK" then
      link.inside = false
    end
    link.executed[#link.executed + 1] = link.bound
  end
  link.messages = link.messages + 1
  return true
end

-- Splits a stream into messages; `each(kind, body, whole)` says whether to go on.
local function splitter(each, typed)
  local rest = ""
  return function(chunk)
    rest = rest .. chunk
    while true do
      local head = typed and 1 or 0
      if #rest < head + 4 then return end
      local length = string.unpack(">I4", rest, head + 1)
      if #rest < head + length then return end
      local whole = rest:sub(1, head + length)
      rest = rest:sub(head + length + 1)
      if typed then
        if not each(whole:sub(1, 1), whole:sub(6), whole) then return end
      else -- the start-up packet, or a request for encryption, which the server answers with one byte
        local code = string.unpack(">I4", whole, 5)
        typed = code ~= 80877103 and code ~= 80877104
        each("", whole, whole)
      end
    end
  end
end

local listener = uv.new_tcp()
assert(listener:bind("127.0.0.1", 0))
assert(listener:listen(128, function(err)
  assert(not err, err)
  local client, server = uv.new_tcp(), uv.new_pipe(false)
  listener:accept(client)
  local link = { client = client, server = server, statements = {}, messages = 0, executed = {}, inside = false }
  local function finish()
    close(client)
    close(server)
  end
  server:connect(server_path, function(failed)
    if failed then return finish() end
    local upstream = splitter(function(kind, body, whole)
      if link.cut then return false end
      if kind ~= "" and not from_client(link, kind, body) then return false end
      server:write(whole)
      return true
    end, false)
    -- Only COMMIT's answer matters on the way back: its tag is the first of that name.
    local seen = ""
    client:read_start(function(e, chunk)
      if link.cut then return end
      if e or not chunk then return finish() end
      upstream(chunk)
    end)
    server:read_start(function(e, chunk)
      if link.cut then return end
      if e or not chunk then return finish() end
      if link.committing then
        seen = (seen .. chunk):sub(-65536)
        if seen:find("COMMIT\0", 1, true) then return cut(link, "answer") end
      end
      if not client:is_closing() then client:write(chunk) end
    end)
  end)
end))

local function obey(line)
  local n = line:match "^cut message (%d+)$"
  if n then plan = { kind = "message", n = tonumber(n) }
  elseif line == "cut commit before" then plan = { kind = "before" }
  elseif line == "cut commit after" then plan = { kind = "after" }
  elseif line == "cut never" then plan = { kind = "never" }
  elseif line == "told" then
    answers:write(told, "\n")
    return
  else
    answers:write("unknown: ", line, "\n")
    return
  end
  told = "none"
  answers:write "ok\n"
end

local orders, rest = uv.new_pipe(false), ""
orders:open(0)
orders:read_start(function(err, chunk)
  if err or not chunk then
    uv.stop()
    return
  end
  rest = rest .. chunk
  for line in rest:gmatch "([^\n]*)\n" do obey(line) end
  rest = rest:match "[^\n]*$"
end)

answers:write(listener:getsockname().port, "\n")
uv.run()
