-- moonpool.watch.webhook: posts each change of an alert to a URL, as JSON, in order. One task
-- sends. The code that reports a change only adds it to a bounded queue, so that a slow receiver
-- delays nothing else.
local alerts   = require "moonpool.alerts"
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local outbound = require "moonpool.watch.outbound"

local webhook = {}

local ATTEMPTS = 10  -- for one change; they take more than two minutes
local PAUSE    = 0.5 -- s, the first pause between attempts
local QUEUE    = 100 -- changes that may wait to be sent

-- This host's receiver of alerts (outbound.lua), or nil. Its further fields: `queue`, and `sender`,
-- the task that sends; it ends when the queue is empty.
local receiver

-- The change as one line of text, which chat services show.
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

-- Adds a change to the queue. The first change of the queue is being sent; if the queue is full,
-- the second one, which is the oldest that waits, is discarded.
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

--- From now on posts changes to `url`. Raises USAGE if it is not a valid URL; the message does not
--- repeat the URL. `options`: attempts, pause, timeout_ms (outbound.lua), limit (of the queue).
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

--- Stops at once: changes that were not delivered yet are discarded.
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
