-- moonpool.serve.control: answers requests on the control socket of a running host. A request is
-- one line of JSON, and so is its answer:
--
--   {"do":"call","name":"place_order","input":{…},"tenant":…,"as":…,"scopes":…,"key":…,"timeout":…}
--       {"ok":true,"generation":3,"result":…}
--       {"ok":false,"generation":3,"error":{code,message,…}}
--   {"do":"reload"}
--       {"ok":…,"generation":…,"files":…,"changed":…,"ms":…,"report":"…"}
--   {"do":"generations"}
--       {"ok":true,"generations":[{number,state,opened_at,age,calls,memory,files},…]}
--   {"do":"schedules"}
--       {"ok":true,"schedules":[{operation,every,last_due,next_due,runs,missed,…},…]}
--   {"do":"status"}
--       {"ok":true,"generation":…,"pool":{…},"transactions":{…}}
--   {"do":"why","id":…}
--       {"ok":true,"call":{…,"notes":[…]},"report":"…"}
--       {"ok":true,"calls":[…],"report":"…"}               without an id
--   {"do":"metrics"}
--       {"ok":true,"text":"…"}                             the page for Prometheus
--   {"do":"stop"}
--       {"ok":true}
local border      = require "moonpool.operation.border"
local calls       = require "moonpool.calls"
local crew        = require "moonpool.serve.crew"
local errors      = require "moonpool.errors"
local generations = require "moonpool.generations"
local host        = require "moonpool.host"
local json        = require "moonpool.json"
local metrics     = require "moonpool.metrics"
local schedules   = require "moonpool.serve.schedules"

local answers = {}

function answers.call(order)
  local ok, text, number = generations.call_json(order.name, order.input ~= nil
                                                 and json.encode(order.input) or nil, {
    tenant = order.tenant, as = order.as, scopes = order.scopes, key = order.key,
    timeout = order.timeout })
  return ('{"ok":%s,"generation":%d,"%s":%s}'):format(ok, number, ok and "result" or "error", text)
end

function answers.reload() return generations.reload() end

function answers.generations()
  return { ok = true, generations = json.array(generations.list()) }
end

function answers.schedules() return { ok = true, schedules = json.array(schedules.list()) } end

function answers.status()
  crew.numbers()
  return { ok = true, generation = generations.current(), pool = host.pool_stats(),
           transactions = host.transaction_stats() }
end

function answers.why(order)
  if order.id == nil then
    local options = { limit = 30, notable = order.notable }
    return { ok = true, calls = json.array(calls.recent(options)), report = calls.summary(options) }
  end
  local call = calls.find(tostring(order.id))
  if call then return { ok = true, call = call, report = calls.timeline(order.id) } end
  error(errors.new { code = "UNKNOWN_CALL", status = 404,
    message =
      "this host has no such call, or has forgotten it; `moonpool why` lists the last ones" }, 0)
end

function answers.metrics()
  crew.numbers()
  return { ok = true, text = metrics.text() }
end

function answers.stop()
  host.stop()
  return { ok = true }
end

-- line -> line
return function(line)
  local ok, answer = pcall(function()
    local order = border.decode(line)
    local act = type(order) == "table" and answers[order["do"]]
    if not act then
      error(errors.new { code = "USAGE", status = 400,
        message =
          '"do" is one of call, reload, generations, schedules, status, metrics, why, stop' }, 0)
    end
    return act(order)
  end)
  if not ok then answer = { ok = false, error = border.public(answer) } end
  return type(answer) == "string" and answer or json.encode(answer, { sorted = true })
end
