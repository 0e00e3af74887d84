-- A process between a host and its PostgreSQL that understands the messages of the protocol, in
-- both directions, and does harm at a chosen one. Run by plain Lua with luv:
--   proxy_process.lua SERVER_SOCKET ANSWERS
--
-- It listens on a free port of 127.0.0.1, tells the port as the first line of ANSWERS (a FIFO), and
-- then obeys lines on stdin, answering each with a line; it ends with its stdin. No encryption: the
-- host says sslmode=disable.
--
--   watch                    forget all faults, undo those that last, number the messages from 1
--   at SIDE WHICH ACTION     arm a fault; each happens once, several may be armed
--     SIDE    F: from the host (front end), B: from the server (back end); each side is numbered
--             on its own
--     WHICH   N: the N-th message since `watch`, over all connections, their starts included
--             begin1, begin2 …: a transaction's messages, those of BEGIN being the first (F)
--             commit, insert …: the next that executes such a command (F), or the next answer to
--             one (B)
--     ACTION  cut before | cut within K | cut after
--                                      pass nothing of it, its first K bytes, or all; then close
--             delay MS                 hold it, and what comes behind it
--             freeze                   pass nothing any more, in both directions; nothing is closed
--             tag WORD                 (B) an answer that names another command in its place
--             fail SEVERITY SQLSTATE   (B) an error in place of the message; FATAL and PANIC close
--   deaf                     until `watch`, requests to cancel are taken and not answered
--   drop                     close all connections
--   told                     the faults that happened since `watch`: SIDE N WHAT COMMANDS,
--                            separated by `;`, or "none"; COMMANDS are those that the host has
--                            executed in this transaction and that were passed on
--   list                     the messages since `watch`: SIDE NAME BYTES COMMAND, separated by `;`
-- Shorter: `cut never`, `cut message N`, `cut commit before` and `cut commit after` are `watch`,
-- followed by `at F beginN cut before`, `at F commit cut before`, `at B commit cut before`.
local uv = require "luv"

local server_path, answers_path = arg[1], arg[2]
local answers = assert(io.open(answers_path, "w"))
answers:setvbuf "line"

local names = {
  F = { P = "Parse", B = "Bind", D = "Describe", E = "Execute", S = "Sync", C = "Close",
        Q = "Query", H = "Flush",
        X = "Terminate", p = "Password", d = "CopyData", c = "CopyDone", f = "CopyFail" },
  B = { R = "Authentication", S = "ParameterStatus", K = "BackendKeyData", Z = "ReadyForQuery",
        ["1"] = "ParseComplete",
        ["2"] = "BindComplete", ["3"] = "CloseComplete", t = "ParameterDescription",
        T = "RowDescription", n = "NoData",
        D = "DataRow", C = "CommandComplete", E = "ErrorResponse", N = "NoticeResponse",
        I = "EmptyQueryResponse",
        A = "NotificationResponse", G = "CopyInResponse", H = "CopyOutResponse", d = "CopyData",
        c = "CopyDone" },
}
local CANCEL = 80877102

local faults, told, list, count, links, deaf

local function close(handle)
  if handle and not handle:is_closing() then handle:close() end
end

-- What was written is still sent; then the other side sees the end.
local function finish(handle)
  if handle:is_closing() then return end
  if not pcall(handle.shutdown, handle, function() close(handle) end) then close(handle) end
end

local function cut(link)
  link.over = true
  finish(link.F.to)
  finish(link.B.to)
  links[link] = nil
end

local function watch()
  for link in pairs(links or {}) do
    if link.frozen or link.gone then cut(link) end
  end
  faults, told, list, count, links, deaf = {}, {}, {}, { F = 0, B = 0 }, links or {}, false
end

-- The name of a command: the first word of its text.
local function word(sql) return (sql:match "^%s*(%a+)" or "?"):upper() end

-- What a message says of itself: the command that it belongs to, and that in lower case if it
-- executes or answers it.
local function understand(link, side, kind, body)
  if side == "B" then
    local tag = kind == "C" and body:match "^%Z*"
    return tag, tag and tag:match "^%a+":lower()
  elseif kind == "P" then
    local name, sql = body:match "^(%Z*)%z(%Z*)%z"
    link.statements[name] = word(sql)
    return word(sql)
  elseif kind == "B" then
    link.bound = link.statements[body:match "^%Z*%z(%Z*)%z"] or "?"
    return link.bound
  elseif kind == "E" then
    return link.bound, link.bound:lower()
  end
end

local function error_response(severity, sqlstate)
  local body = ("S%s\0V%s\0C%s\0M%s\0\0"):format(severity, severity, sqlstate,
                                                 "injected " .. sqlstate)
  return "E" .. string.pack(">I4", #body + 4) .. body
end

local function release(link, flow)
  local held = flow.held
  flow.held = nil
  for _, message in ipairs(held or {}) do flow.take(table.unpack(message)) end
  if link.gone and not link.over then cut(link) end
end

local acts = {
  cut = function(link, flow, whole, where, bytes)
    if where == "within" then
      flow.to:write(whole:sub(1, math.min(math.tointeger(bytes), #whole - 1)))
    elseif where == "after" then
      flow.to:write(whole)
    end
    cut(link)
  end,
  delay = function(link, flow, whole, ms)
    flow.held = {}
    local timer = uv.new_timer()
    timer:start(math.tointeger(ms), 0, function()
      close(timer)
      if link.over then return end
      flow.to:write(whole)
      release(link, flow)
    end)
  end,
  freeze = function(link)
    link.frozen = true
    link.F.held, link.B.held = {}, {}
  end,
  tag = function(_, flow, _, tag)
    flow.to:write("C" .. string.pack(">I4", #tag + 5) .. tag .. "\0")
  end,
  fail = function(link, flow, _, severity, sqlstate)
    flow.to:write(error_response(severity, sqlstate))
    if severity ~= "ERROR" then cut(link) end
  end,
}

-- One whole message; `kind` is "" for a connection's first.
local function take(link, flow, kind, whole, body)
  local side = flow.side
  local command, special = understand(link, side, kind, body)
  if side == "F" and command == "BEGIN" and not link.inside then
    link.inside, link.executed = 0, {}
  end
  if side == "F" and link.inside then link.inside = link.inside + 1 end
  count[side] = count[side] + 1
  local n = count[side]
  list[#list + 1] = ("%s %s %d %s")
    :format(side, kind == "" and "Startup" or names[side][kind] or kind, #whole, command or "-")
  for i, fault in ipairs(faults) do
    if fault.side == side and (fault.which == tostring(n) or fault.which == special
                               or fault.which == "begin" .. (link.inside or "")) then
      table.remove(faults, i)
      local what = side == "B" and "answer" or special or names.F[kind] or "Startup"
      told[#told + 1] = ("%s %d %s %s"):format(side, n, what, table.concat(link.executed, ","))
      return acts[fault.action](link, flow, whole, fault.first, fault.second)
    end
  end
  if kind == "E" and side == "F" then
    link.executed[#link.executed + 1] = command
    if command == "COMMIT" or command == "ROLLBACK" then link.inside = nil end
  end
  flow.to:write(whole)
end

-- Takes chunks of a stream, hands over whole messages.
local function splitter(link, flow, typed)
  local rest = ""
  return function(chunk)
    rest = rest .. chunk
    while not link.over do
      local head = typed and 1 or 0
      if #rest < head + 4 then return end
      local length = string.unpack(">I4", rest, head + 1)
      if #rest < head + length then return end
      local whole = rest:sub(1, head + length)
      rest = rest:sub(head + length + 1)
      local kind = typed and whole:sub(1, 1) or ""
      if not typed then
        typed = true
        if string.unpack(">I4", whole, 5) == CANCEL then -- no part of the conversation
          link.frozen = deaf
          if not deaf then flow.to:write(whole) end
          goto continue
        end
      end
      if flow.held then
        table.insert(flow.held, { kind, whole, whole:sub(head + 5) })
      else
        flow.take(kind, whole, whole:sub(head + 5))
      end
      ::continue::
    end
  end
end

local function flow(link, side, from, to)
  local self = { side = side, to = to }
  self.take = function(kind, whole, body)
    if link.over then return end
    if self.held then return table.insert(self.held, { kind, whole, body }) end
    return take(link, self, kind, whole, body)
  end
  local split = splitter(link, self, side == "B")
  self.start = function()
    from:read_start(function(err, chunk)
      if link.over then return end
      if not err and chunk then return split(chunk) end
      if link.frozen or self.held then -- a broken network tells nobody
        link.gone = true
        from:read_stop()
      else
        cut(link)
      end
    end)
  end
  return self
end

-- A side that is gone is told by the write's error.
local broken_pipe = uv.new_signal()
broken_pipe:start("sigpipe", function() end)
broken_pipe:unref()

local listener = uv.new_tcp()
assert(listener:bind("127.0.0.1", 0))
assert(listener:listen(128, function(err)
  assert(not err, err)
  local client, server = uv.new_tcp(), uv.new_pipe(false)
  listener:accept(client)
  client:nodelay(true)
  local link = { statements = {}, executed = {}, bound = "?" }
  links[link] = true
  link.F, link.B = flow(link, "F", client, server), flow(link, "B", server, client)
  server:connect(server_path, function(failed)
    if failed then return cut(link) end
    link.F.start()
    link.B.start()
  end)
end))

local shorter = {
  ["^cut never$"] = false,
  ["^cut message (%d+)$"] = "F begin%s cut before",
  ["^cut commit before$"] = "F commit cut before",
  ["^cut commit after$"] = "B commit cut before",
}

local function arm(text)
  local side, which, action, first, second = text:match "^([FB]) (%w+) (%a+) ?(%w*) ?(%w*)$"
  if not side or not acts[action] then return false end
  faults[#faults + 1] = { side = side, which = which, action = action, first = first,
                          second = second }
  return true
end

local function obey(line)
  for pattern, long in pairs(shorter) do
    local n = line:match(pattern)
    if n then
      watch()
      return not long or arm(long:format(n)), "ok"
    end
  end
  if line == "watch" then
    watch()
    return true, "ok"
  elseif line == "deaf" then
    deaf = true
    return true, "ok"
  elseif line == "drop" then
    for link in pairs(links) do cut(link) end
    return true, "ok"
  elseif line == "told" then
    return true, told[1] and table.concat(told, ";") or "none"
  elseif line == "list" then
    return true, table.concat(list, ";")
  end
  return line:find "^at " and arm(line:sub(4)), "ok"
end

watch()
local orders, rest = uv.new_pipe(false), ""
orders:open(0)
orders:read_start(function(err, chunk)
  if err or not chunk then
    uv.stop()
    return
  end
  rest = rest .. chunk
  for line in rest:gmatch "([^\n]*)\n" do
    local known, answer = obey(line)
    answers:write(known and answer or "unknown: " .. line, "\n")
  end
  rest = rest:match "[^\n]*$"
end)

answers:write(listener:getsockname().port, "\n")
uv.run()
