-- moonpool.watch.webhook: posts each change of an alert to a URL, as JSON, in their order. One task
-- sends; whoever reports a change only puts it into a bounded queue, so that no receiver holds up
-- anything.
local alerts   = require "moonpool.alerts"
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local outbound = require "moonpool.watch.outbound"

local webhook = {}

local ATTEMPTS = 10  -- of one change: over two minutes
local PAUSE    = 0.5 -- s, the first
local QUEUE    = 100

-- The receiver of this host (outbound.lua), or nil; with its queue, and the task that sends while
-- there is something to send.
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
    threshold = known(change.threshold), since = known(change.since), time = host.now(),
    host = host.name,
    text = text_of(change),
  }
end

local function send_all(to)
  while to.queue[1] do
    host.outbound_counted("webhook", outbound.post(to, to.queue[1]))
    table.remove(to.queue, 1)
  end
  to.sender = nil
end

-- The first of the queue is being sent; the oldest behind it gives way.
local function add(to, body)
  if #to.queue >= to.limit then
    table.remove(to.queue, 2)
    host.outbound_counted("webhook", "dropped")
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

--- From now on changes go to `url`; a URL that is none is an error, which does not repeat it.
--- `options`: attempts, pause, timeout_ms (outbound.lua), limit (of the queue).
function webhook.start(url, options)
  options = options or {}
  local to = outbound.receiver("the alert webhook", "MOONPOOL_ALERT_WEBHOOK", url, {
    attempts = options.attempts or ATTEMPTS, pause = options.pause or PAUSE,
    timeout_ms = options.timeout_ms })
  webhook.stop()
  to.queue, to.limit = {}, options.limit or QUEUE
  receiver = to
  listen()
end

--- At once: what was not delivered yet is dropped.
function webhook.stop()
  if not receiver then return end
  local left = receiver.queue
  if receiver.sender then receiver.sender:cancel() end
  if #left > 0 then
    host.outbound_counted("webhook", "dropped", #left)
    host.log("warn", ("%d changes of alerts were not delivered to %s"):format(#left, receiver.what),
             "outbound")
  end
  receiver = nil
end

return webhook
