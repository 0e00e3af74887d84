-- moonpool.watch.meters: the host's metrics of messages and schedules, for the page of metrics and
-- for the alerts. They show the messages of the subscribers that this host serves, and the
-- schedules as this host last read their rows.
local host = require "moonpool.host"

local SUBSCRIBER, OPERATION = { "subscriber" }, { "operation" }

local meters = {
  deliveries = host.own_counter("moonpool_deliveries_total", { labels = { "subscriber", "result" },
    help = "Deliveries by how they ended: `dead` was the last, `postponed` does not count." }),
  waiting = host.own_gauge("moonpool_messages_waiting", { labels = SUBSCRIBER,
    help = "Messages that a subscriber has still to see, failed ones included; up to 10000." }),
  oldest = host.own_gauge("moonpool_messages_oldest_seconds", { labels = SUBSCRIBER,
    help = "How long ago the oldest of them was published." }),
  dead = host.own_gauge("moonpool_messages_dead", { labels = SUBSCRIBER,
    help = "Dead letters, which wait for moonpool outbox retry or drop." }),
  runs = host.own_counter("moonpool_schedule_runs_total", { labels = { "operation", "result" },
    help = "Runs of operations with `every`, by this host." }),
  running = host.own_gauge("moonpool_schedule_running", { labels = OPERATION,
    help = "Runs under way on this host." }),
  failing = host.own_gauge("moonpool_schedule_failing_runs", { labels = OPERATION,
    help = "How often it has failed in a row; with for_each: tenants that failed the last time." }),
  last_success = host.own_gauge("moonpool_schedule_last_success_timestamp_seconds", {
    labels = OPERATION, help =
      "When it last succeeded, in seconds since 1970, on any host; 0: never." }),
  next_run = host.own_gauge("moonpool_schedule_next_run_timestamp_seconds", { labels = OPERATION,
    help = "When it is due next, in seconds since 1970." }),
  late = host.own_gauge("moonpool_schedule_late_seconds", { labels = OPERATION,
    help = "How long it has been due without being run by any host." }),
  deployment = host.own_gauge("moonpool_deployment_faults",
    { help = "What is wrong with the project as it is served: migrations, operations." }),
  messages = {},  -- subscriber -> { waiting, oldest, dead }
  schedules = {}, -- operation -> { failing, late }
}

--- Sets the metrics of a subscriber's messages. `counted` is nil if another host serves the
--- subscriber now.
function meters.set_messages(subscriber, counted)
  meters.messages[subscriber] = counted
  local labels, now = { subscriber = subscriber }, counted or { waiting = 0, oldest = 0, dead = 0 }
  meters.waiting:set(now.waiting, labels)
  meters.oldest:set(now.oldest, labels)
  meters.dead:set(now.dead, labels)
end

--- Sets the metrics of a schedule. `stands` is nil if the operation has no schedule any more.
function meters.set_schedule(operation, stands)
  meters.schedules[operation] = stands
  for _, name in ipairs { "failing", "late", "last_success", "next_run" } do
    meters[name]:set(stands and stands[name] or 0, { operation = operation })
  end
end

-- All values of `field` above 0 in `list`: combined into one number by `fold`, and by name.
local function gathered(list, field, fold)
  local all, of = 0, {}
  for name, entry in pairs(list) do
    if entry[field] > 0 then all, of[name] = fold(all, entry[field]), math.floor(entry[field]) end
  end
  return math.floor(all), of
end

local function sum(a, b) return a + b end

--- For the alerts: the number of dead letters, the age of the oldest message in s, the most
--- failures in a row, the longest lateness of a schedule in s; each with the values by subscriber
--- or operation.
function meters.worst()
  local worst = {}
  worst.dead_letters, worst.dead_letters_of = gathered(meters.messages, "dead", sum)
  worst.oldest_message, worst.oldest_message_of = gathered(meters.messages, "oldest", math.max)
  worst.failing_schedules, worst.failing_schedules_of =
    gathered(meters.schedules, "failing", math.max)
  worst.late_schedules, worst.late_schedules_of = gathered(meters.schedules, "late", math.max)
  return worst
end

return meters
