-- moonpool.watch.outbound: a receiver on another machine, to which this host posts JSON. The
-- receiver's URL is a secret: messages and logs show only the name of its host.
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local outbound = {}

local TIMEOUT_MS    = 5000
local LONGEST_PAUSE = 30  -- s, longest back-off
local LONGEST_WAIT  = 600 -- s, longest wait that the receiver can ask for (Retry-After)

--- Makes a receiver. `what` ("the alert webhook") names it in the log, `setting` in the error for
--- an invalid URL. `options`: attempts; pause, the first pause between attempts (s; each pause is
--- twice as long as the one before); timeout_ms of each attempt; and final(status), optional: true
--- if a retry after this status is useless.
function outbound.receiver(what, setting, url, options)
  local place, fault = host.url_host(url)
  if not place then
    error(
      errors.new { code = "USAGE", status = 400, message = ("%s is %s"):format(setting, fault) }, 0)
  end
  return { what = ("%s at %s"):format(what, place), url = url, down = false,
           attempts = options.attempts, pause = options.pause,
           timeout_ms = options.timeout_ms or TIMEOUT_MS,
           final = options.final }
end

-- Posts once. -> nil if the receiver accepted the body; else the reason, true if a retry is
-- useless, and the seconds that the receiver asks to wait (Retry-After).
local function attempt(to, body)
  local ok, answer, retry_after =
    pcall(host.post, { url = to.url, body = body, timeout_ms = to.timeout_ms,
    headers = { ["Content-Type"] = "application/json" } })
  if not ok then return errors.is(answer) and answer.message or tostring(answer) end
  if answer < 200 or answer > 299 then
    return ("it answered %d"):format(answer), to.final and to.final(answer), retry_after
  end
end

-- Logs the begin and the end of an outage: once each, not for every attempt.
local function tell(to, fault)
  if fault and not to.down then
    host.log("warn", ("%s takes nothing: %s; it is tried again"):format(to.what, fault), "outbound")
  elseif not fault and to.down then
    host.log("info", to.what .. " is back", "outbound")
  end
  to.down = fault ~= nil
end

--- Posts a body, with retries. -> "delivered" or "failed"
function outbound.post(to, body)
  local pause = to.pause
  for n = 1, to.attempts do
    local fault, final, retry_after = attempt(to, body)
    tell(to, fault)
    if not fault then return "delivered" end
    if final then return "failed" end
    if n < to.attempts then
      host.sleep(math.max(pause, math.min(retry_after or 0, LONGEST_WAIT)))
    end
    pause = math.min(pause * 2, LONGEST_PAUSE)
  end
  return "failed"
end

return outbound
