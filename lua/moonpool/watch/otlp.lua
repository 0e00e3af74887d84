-- moonpool.watch.otlp: sends calls as traces to an OpenTelemetry collector: OTLP/HTTP with JSON
-- (https://opentelemetry.io/docs/specs/otlp/#otlphttp). The calls are those that the recorder keeps
-- (watch/recorder.h): each second at most the last 200. Values, callers and lanes are not sent. One
-- task reads and sends.
local host     = require "moonpool.host"
local json     = require "moonpool.json"
local outbound = require "moonpool.watch.outbound"

local otlp = {}

local PAUSE_S  = 1
local AT_ONCE  = 25 -- calls that are encoded before other tasks may run
local BATCH    = 200
local ATTEMPTS = 4 -- of one batch, with pauses of 1, 2 and 4 s

local INTERNAL, SERVER, CLIENT = 1, 2, 3 -- SpanKind
local FAILED = 2                         -- StatusCode

-- ---- spans ----

local function attribute(list, key, value)
  if value == nil then return end
  local typed = math.type(value) == "integer" and { intValue = tostring(value) }
    or { stringValue = tostring(value) }
  list[#list + 1] = { key = key, value = typed }
end

local function attributes(pairs_of)
  local list = json.array()
  for i = 1, pairs_of.n, 2 do attribute(list, pairs_of[i], pairs_of[i + 1]) end
  return list
end

-- Microseconds since 1970 as nanoseconds: a text, because OTLP writes 64-bit numbers as JSON
-- strings.
local function nanoseconds(us) return ("%d000"):format(us) end

local function at_us(call, ms) return call.began_us + math.floor(ms * 1000 + 0.5) end

-- A child span of another span of the call. Its id is derived from the call's id, so that a
-- repeated batch has the same ids.
local function child(call, parent, number, name, kind, from)
  return { traceId = parent.traceId, spanId = host.sha256(call.id .. number):sub(1, 16),
           parentSpanId = parent.spanId,
           name = name, kind = kind, startTimeUnixNano = nanoseconds(at_us(call, from)),
           attributes = json.array(),
           events = json.array() }
end

local function end_span(call, span, at)
  if span then span.endTimeUnixNano = nanoseconds(at_us(call, at)) end
end

local function event(call, span, note)
  span.events[#span.events + 1] =
    { timeUnixNano = nanoseconds(at_us(call, note.at)), name = note.kind,
    attributes = attributes(table.pack("moonpool.note", note.text, "db.query.text", note.query)) }
end

local function root_of(call)
  local id = call.id:gsub("-", "")
  local root = {
    traceId = call.trace_id or id, spanId = call.span_id or id:sub(17),
    parentSpanId = call.parent_id,
    name = call.operation, kind = call.request_id and SERVER or INTERNAL,
    startTimeUnixNano = nanoseconds(call.began_us),
    attributes = attributes(table.pack("moonpool.call_id", call.id, "moonpool.request_id",
                                       call.request_id,
      "moonpool.outcome", call.outcome, "moonpool.attempts", call.attempts, "moonpool.round_trips",
      call.round_trips,
      "moonpool.group_size", call.group)),
    events = json.array(),
  }
  if call.error then root.status = { code = FAILED, message = call.error } end
  return root
end

--- The spans of a recorded call: the call itself, its attempts as children, their round trips as
--- children of the attempts. All other notes are events of the innermost open span.
function otlp.spans(call)
  local root = root_of(call)
  local spans, attempt, trip = json.array { root }, nil, nil
  local function open(parent, name, kind, at)
    local span = child(call, parent, #spans, name, kind, at)
    spans[#spans + 1] = span
    return span
  end
  for _, note in ipairs(call.notes) do
    if note.kind == "attempt" then
      end_span(call, attempt, note.at)
      attempt = open(root, ("attempt %d"):format(note.n), INTERNAL, note.at)
    elseif note.kind == "sent" then
      end_span(call, trip, note.at)
      trip = open(attempt or root, ("round trip %d"):format(note.n), CLIENT, note.at)
      trip.attributes = attributes(table.pack("db.system.name", "postgresql", "moonpool.with",
                                              note.text))
    elseif note.kind == "answered" and trip then
      end_span(call, trip, note.at)
      trip = nil
    else
      event(call, trip or attempt or root, note)
      if note.kind == "failed" and attempt then
        attempt.status = { code = FAILED, message = note.text }
      end
      if note.kind == "backoff" then
        end_span(call, attempt, note.at)
        attempt = nil
      end
    end
  end
  for _, span in ipairs(spans) do
    if not span.endTimeUnixNano then end_span(call, span, call.duration) end
  end
  return spans
end

-- ---- sending ----

local resource = {
  attributes = attributes(table.pack("service.name", "moonpool", "service.version", host.version,
  "service.instance.id", host.name, "host.name", (host.name or ""):match "^(.*)/")) }
local scope = { name = "moonpool", version = host.version }

local again = { [429] = true, [502] = true, [503] = true, [504] = true } -- OTLP/HTTP, "Failures"

-- This host's receiver of traces (outbound.lua), or nil. Its further fields: `sender`, the task
-- that sends, and `from`, the number of the next call to read.
local receiver

-- The JSON texts of a call's spans. If they cannot be made, the list is empty and the call is
-- counted as failed; the other calls are still sent.
local function texts_of(call)
  local ok, texts = pcall(function()
    local list = {}
    for i, span in ipairs(otlp.spans(call)) do list[i] = json.encode(span) end
    return list
  end)
  if ok then return texts end
  host.outbound_counted("traces", "failed", 1)
  return {}
end

-- The JSON of the calls that have ended since the last batch, and their number; nil and 0 if no
-- call has ended.
local function batch(to)
  local texts, count = {}, 0
  while count < BATCH do
    local list, next_one, missed = host.calls_ended(to.from, AT_ONCE)
    to.from = next_one
    if missed > 0 then host.outbound_counted("traces", "dropped", missed) end
    if #list == 0 then break end
    for _, call in ipairs(list) do
      local spans = call.unsampled and {} or texts_of(call)
      for _, text in ipairs(spans) do texts[#texts + 1] = text end
      count = count + (spans[1] and 1 or 0)
    end
    host.sleep(0)
  end
  if count == 0 then return nil, 0 end
  return ('{"resourceSpans":[{"resource":%s,"scopeSpans":[{"scope":%s,"spans":[%s]}]}]}')
    :format(json.encode(resource),
    json.encode(scope), table.concat(texts, ",")), count
end

local function send_all(to)
  while true do
    host.sleep(to.pause)
    local body, count = batch(to)
    if body then host.outbound_counted("traces", outbound.post(to, body), count) end
  end
end

--- From now on sends calls that end to the collector at the base URL `base`. Raises USAGE if it is
--- not a valid URL; the message does not repeat the URL. `options`: pause (s), timeout_ms.
function otlp.start(base, options)
  options = options or {}
  local to = outbound.receiver("the collector of traces", "MOONPOOL_OTLP_ENDPOINT",
                               base:gsub("/+$", "") .. "/v1/traces", {
    attempts = ATTEMPTS, pause = options.pause or PAUSE_S,
    final = function(status) return not again[status] end, timeout_ms = options.timeout_ms })
  otlp.stop()
  to.from = select(2, host.calls_ended(nil, 0))
  to.sender = host.spawn(send_all, to)
  receiver = to
end

--- Stops at once: calls that were not sent yet are lost.
function otlp.stop()
  if receiver then receiver.sender:cancel() end
  receiver = nil
end

return otlp
