-- moonpool.calls: the steps of recorded calls of operations: of running calls, of the last calls,
-- and of calls that failed, were retried or were slow. Only of this host, since its start.
local crew = require "moonpool.serve.crew"
local host = require "moonpool.host"

local calls = {}

-- Those under way first, then the newest.
local function newer(a, b)
  local first, second = a.outcome == "running", b.outcome == "running"
  if first ~= second then return first end
  return a.began > b.began
end

--- recent{limit=, notable=} -> an array, newest first. `notable`: only calls that failed, were
--- retried or were slow.
function calls.recent(options)
  options = options or {}
  local limit, notable = options.limit or 20, options.notable or false
  return crew.together(host.calls(limit, notable),
                       { what = "calls", limit = limit, notable = notable }, newer)
end

--- find(id) -> the call with its `notes`; nil if the host does not have the call (any more).
function calls.find(id)
  local found = host.call_notes(id)
  if found then return found end
  for _, one in ipairs(crew.ask { what = "call", id = id }) do
    found = found or one.answer and one.answer.call
  end
  return found
end

-- ---- as text ----

local said = {
  queued    = function(note)
    local place = note.n and note.n > 1 and (", number %d in the queue"):format(note.n) or ""
    return ("waits in its lane%s, behind %s"):format(place, note.text)
  end,
  blocked   = function(note)
    return ("waits for a lock, held by: %s%s")
      :format(note.text, note.n and (" (backend %d)"):format(note.n) or "")
  end,
  lane      = function() return "its turn in the lane" end,
  waits     = function() return "waits for a connection" end,
  connected = function(note) return ("has a connection (backend %s)"):format(note.n or "?") end,
  attempt   = function(note) return ("the script starts, attempt %d"):format(note.n) end,
  sent      = function(note)
    return ("round trip %d%s"):format(note.n, note.text and ", with " .. note.text or "")
  end,
  statement = function(note)
    return ("    %s%s  %s"):format(note.text or "(the host's own)",
      note.n and (", %d inserts as one"):format(note.n) or "", note.query)
  end,
  answered  = function(note) return ("round trip %d is answered"):format(note.n) end,
  failed    = function(note) return "fails: " .. note.text end,
  rollback  = function() return "rolls back" end,
  backoff   = function(note)
    return ("waits %d ms before the next attempt: %s"):format(note.n or 0, note.text)
  end,
  resolve   = function()
    return "the answer to COMMIT was lost: checks whether the work is stored"
  end,
}

--- A note as a line of text.
function calls.say(note) return said[note.kind](note) end

local function line_of(call)
  return ("%s  %s  %s  %.1f ms%s"):format(call.id, call.operation, call.outcome, call.duration,
    call.error and "  " .. call.error or "")
end

--- timeline(id) -> text, or nil.
function calls.timeline(id)
  local call = calls.find(id)
  if not call then return nil end
  local lines = { line_of(call) }
  local function add(...) lines[#lines + 1] = string.format(...) end
  add("began %s%s%s", call.began, call.caller and ", by " .. call.caller or "",
      call.lane and ", in lane " .. call.lane or "")
  if call.request_id then add("request %s, trace %s", call.request_id, call.trace_id) end
  if call.group then add("shared its transaction with %d other calls", call.group - 1) end
  local last = 0
  for _, note in ipairs(call.notes) do
    add("%10.3f ms  %9s  %s", note.at,
        note.kind == "statement" and "" or ("+%.3f"):format(note.at - last), calls.say(note))
    last = note.at
  end
  if call.omitted then add("(%d further steps were not kept)", call.omitted) end
  if call.attempts then
    add("%10.3f ms  %9s  %s", call.duration, ("+%.3f"):format(call.duration - last), call.outcome)
  end
  return table.concat(lines, "\n")
end

--- summary{limit=, notable=} -> one line per call.
function calls.summary(options)
  local lines = {}
  for i, call in ipairs(calls.recent(options)) do lines[i] = line_of(call) end
  return lines[1] and table.concat(lines, "\n") or "no calls yet"
end

return calls
