-- moonpool.webhook: posts each change of an alert to a URL, as JSON, in their order. One task sends; whoever reports a change
-- only puts it into a bounded queue, so that no receiver holds up anything. The URL is a secret: it is told to nobody, only
-- its host is.
local alerts = require "moonpool.alerts"
local errors = require "moonpool.errors"
local host   = require "moonpool.host"
local json   = require "moonpool.json"

local webhook = {}

local TIMEOUT_MS  = 5000
local ATTEMPTS    = 10   -- of one change: over two minutes
local FIRST_PAUSE = 0.5  -- s; twice as long each time
local LONGEST     = 30
local QUEUE       = 100

-- The receiver of this host, or nil: { url, place, queue, sender, … }
local receiver

-- One line for people; it is what chat services show.
local function text_of(change)
  if not change.to then return ("resolved: %s (%s)"):format(change.title, host.name) end
  return ("%s: %s; %s (%s)"):format(change.to, change.message, change.action, host.name)
end

local function body_of(change)
  local function known(value) if value == nil then return json.null end return value end
  return json.encode {
    rule = change.name, title = change.title, from = known(change.from), to = known(change.to),
    message = known(change.message), action = change.action, value = known(change.value),
    threshold = known(change.threshold), since = known(change.since), time = host.now(), host = host.name,
    text = text_of(change),
  }
end

-- nil: it was taken; else why not.
local function attempt(to, body)
  local ok, answer = pcall(host.post, { url = to.url, body = body, timeout_ms = to.timeout_ms,
    headers = { ["Content-Type"] = "application/json" } })
  if not ok then return errors.is(answer) and answer.message or tostring(answer) end
  if answer < 200 or answer > 299 then return ("it answered %d"):format(answer) end
end

-- Once per outage, however many changes and attempts fall into it.
local function tell(to, fault)
  if fault and not to.down then
    host.log("warn", ("the alert webhook at %s takes nothing: %s; it is tried again"):format(to.place, fault), "alert")
  elseif not fault and to.down then
    host.log("info", ("the alert webhook at %s takes alerts again"):format(to.place), "alert")
  end
  to.down = fault ~= nil
end

local function deliver(to, body)
  local pause = to.first_pause
  for n = 1, to.attempts do
    local fault = attempt(to, body)
    tell(to, fault)
    if not fault then return "delivered" end
    if n < to.attempts then host.sleep(pause) end
    pause = math.min(pause * 2, LONGEST)
  end
  return "failed"
end

local function send_all(to)
  while to.queue[1] do
    host.webhook_counted(deliver(to, to.queue[1]))
    table.remove(to.queue, 1)
  end
  to.sender = nil
end

-- The first of the queue is being sent; the oldest behind it gives way.
local function add(to, body)
  if #to.queue >= to.limit then
    table.remove(to.queue, 2)
    host.webhook_counted "dropped"
  end
  to.queue[#to.queue + 1] = body
  to.sender = to.sender or host.spawn(send_all, to)
end

local listening = false

local function listen()
  if listening then return end
  listening = true
  alerts.on_change(function(change) if receiver then add(receiver, body_of(change)) end end)
end

--- From now on changes go to `url`; a URL that is none is an error, which does not repeat it. `options`: attempts,
--- first_pause (s), timeout_ms, limit (of the queue).
function webhook.start(url, options)
  local place, fault = host.url_host(url)
  if not place then
    error(errors.new { code = "USAGE", status = 400, message = "MOONPOOL_ALERT_WEBHOOK is " .. fault }, 0)
  end
  options = options or {}
  webhook.stop()
  receiver = { url = url, place = place, queue = {}, down = false, attempts = options.attempts or ATTEMPTS,
               first_pause = options.first_pause or FIRST_PAUSE, timeout_ms = options.timeout_ms or TIMEOUT_MS,
               limit = options.limit or QUEUE }
  listen()
end

--- At once: what was not delivered yet is dropped.
function webhook.stop()
  if not receiver then return end
  local left = receiver.queue
  if receiver.sender then receiver.sender:cancel() end
  if #left > 0 then
    host.webhook_counted("dropped", #left)
    host.log("warn", ("%d changes of alerts were not delivered to the webhook at %s"):format(#left, receiver.place), "alert")
  end
  receiver = nil
end

return webhook
