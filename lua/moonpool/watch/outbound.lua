-- moonpool.watch.outbound: a receiver elsewhere, which the host posts JSON to. Its URL is a secret:
-- it is told to nobody, only its host is.
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local outbound = {}

local TIMEOUT_MS    = 5000
local LONGEST_PAUSE = 30  -- s, of our own
local LONGEST_WAIT  = 600 -- s, however much the receiver asks for

--- A receiver; `what` ("the alert webhook") is for the log, `setting` for the error that tells that
--- the URL is none. `options`: attempts, and the first pause between them (s; each is twice as long
--- as the one before); timeout_ms of each; and final(status), optional: is it of no use to try
--- again?
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

-- nil: it was taken; else why not, whether it never will be, and after how many seconds the
-- receiver wants to be asked again.
local function attempt(to, body)
  local ok, answer, retry_after =
    pcall(host.post, { url = to.url, body = body, timeout_ms = to.timeout_ms,
    headers = { ["Content-Type"] = "application/json" } })
  if not ok then return errors.is(answer) and answer.message or tostring(answer) end
  if answer < 200 or answer > 299 then
    return ("it answered %d"):format(answer), to.final and to.final(answer), retry_after
  end
end

-- Once per outage, however many attempts fall into it.
local function tell(to, fault)
  if fault and not to.down then
    host.log("warn", ("%s takes nothing: %s; it is tried again"):format(to.what, fault), "outbound")
  elseif not fault and to.down then
    host.log("info", to.what .. " is back", "outbound")
  end
  to.down = fault ~= nil
end

--- Posts, again and again if need be -> "delivered" or "failed".
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
