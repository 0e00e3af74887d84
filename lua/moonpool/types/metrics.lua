---@meta moonpool.metrics
-- The host's metrics, metrics that scripts define, calls and alerts.

---@class moonpool.metric_options
---@field help? string       one sentence
---Names, up to 4. Each metric has up to 100 combinations of values; all others become "other".
---@field labels? string[]

---@class moonpool.histogram_options : moonpool.metric_options
---@field buckets? number[]  upper bounds, rising; default: seconds, 0.0001 to 30

---@class moonpool.counter
local counter = {}
---@param n? number  default 1
---@param labels? table<string, any>  one value per label
---@overload fun(self: moonpool.counter, labels: table<string, any>)
function counter:add(n, labels) end
---@param labels? table<string, any>
---@return number
function counter:value(labels) end

---@class moonpool.gauge
local gauge = {}
---With several workers the host shows what one of them has set last.
---@param value number
---@param labels? table<string, any>
function gauge:set(value, labels) end
---@param n? number  default 1; may be negative
---@param labels? table<string, any>
function gauge:add(n, labels) end
---@param labels? table<string, any>
---@return number
function gauge:value(labels) end

---@class moonpool.histogram
local histogram = {}
---@param value number
---@param labels? table<string, any>
function histogram:observe(value, labels) end
---@param q number  0.99
---@param labels? table<string, any>
---@return number  estimated inside a bucket
function histogram:quantile(q, labels) end

---@class moonpool.pool_stats  times in ms
---@field total_connections integer
---@field idle_connections integer
---@field active_connections integer
---@field waiting_clients integer
---@field total_queries integer
---@field slow_queries integer
---@field failed_queries integer
---@field avg_query_time number
---@field uptime integer
---@field max integer
---@field min integer
---@field healthy boolean

---@class moonpool.health
---@field state "healthy"|"saturated"|"read_only"|"unreachable"|"draining"
---@field works boolean    true if this host may take calls (/health)
---@field sound boolean    healthy or saturated (/api/db/health)
---@field seconds number   since the state began
---@field failures integer checks in a row that found the database unreachable
---@field message? string  the meaning of the state; nil if healthy
---@field advice? string   what to do
---@field reason? string   the failure of the last check
---@field sqlstate? string of this failure, if the server reported it
---@field holders? string  the holders of the pool's connections, and for how long they hold them
---@field full_s number    seconds since which all connections have been in use
---@field waited_s number  seconds of the longest current wait for a connection

---@class moonpool.transaction_stats  times in ms
---@field total_transactions integer
---@field committed_transactions integer
---@field rolled_back_transactions integer
---@field retried_transactions integer
---@field failed_transactions integer
---@field unknown_transactions integer
---@field resolved_transactions integer
---@field deadlock_retries integer
---@field refused_retries integer not tried again: a budget for retries was used up
---@field hook_errors integer
---@field avg_duration number

---@class moonpool.operation_stats  times in ms
---@field operation string
---@field isolation moonpool.isolation
---@field total integer
---@field committed integer
---@field rolled_back integer
---@field failed integer
---@field unknown integer
---@field retried integer
---@field avg_duration number
---@field p50 number
---@field p95 number
---@field p99 number

---@class moonpool.query_entry
---@field number integer      rises by one with each statement
---@field query string        without its values
---@field duration number     ms
---@field timestamp string    ISO 8601
---@field success boolean
---@field operation string
---@field line string         "scripts/create_order.lua:41"
---@field rows? integer
---@field error? string
---@field sqlstate? string

---@class moonpool.metrics
---@field failures fun(): table[]   failed calls: by operation, code and fault
local metrics = {}
---@return moonpool.pool_stats
function metrics.pool() end
---@return moonpool.transaction_stats
function metrics.transactions() end
---The host's state, with advice. Checks the database, unless it was checked within a second.
---@return moonpool.health
function metrics.health() end
---@return moonpool.operation_stats[]
function metrics.operations() end
---The last statements, newest first.
---@param options? { limit?: integer }
---@return moonpool.query_entry[]
function metrics.queries(options) end
---Statements that took at least `threshold` ms.
---@param options? { threshold?: number, limit?: integer }
---@return moonpool.query_entry[]
function metrics.slow(options) end
---The plan of a statement of the history; the statement is not run.
---@param number integer
---@return string[]? lines
---@return string? why_not
function metrics.plan(number) end
---@param name string  must end in _total
---@param options? moonpool.metric_options
---@return moonpool.counter
function metrics.counter(name, options) end
---@param name string
---@param options? moonpool.metric_options
---@return moonpool.gauge
function metrics.gauge(name, options) end
---@param name string
---@param options? moonpool.histogram_options
---@return moonpool.histogram
function metrics.histogram(name, options) end
---For each subscriber that this host has served: waiting, oldest (s), dead_letters; numbers of
---deliveries: delivered, failed, dead, postponed.
---@return table[]
function metrics.messages() end
---For each operation with `every`: next_run, last_success (seconds since 1970), failing (in a row),
---late (s), running; numbers of this host's runs: ok, failed.
---@return table[]
function metrics.schedules() end
---The page that Prometheus reads.
---@return string
function metrics.text() end

---@class moonpool.alert
---@field name string
---@field title string
---@field severity "warning"|"critical"
---@field value number
---@field threshold number
---@field message string
---@field action string   what to do
---@field since string    ISO 8601
---@field state? string   the state of the host that the alert is about (moonpool.health)

---@class moonpool.alert_change : moonpool.alert
---@field from? "warning"|"critical"
---@field to? "warning"|"critical"  nil: the alert is over

---@class moonpool.alerts
---@field private rules table[]
---@field private new fun(): table
---@field private sample fun(): table
---@field private value fun(rule: table, before: table, now: table): number?
---@field private step fun(state: table, now: table): table[]
---@field private tick fun()
---@field private deployment fun(faults: string[])
local alerts = {}
---Evaluates every ten seconds from now on.
function alerts.start() end
function alerts.stop() end
---@return moonpool.alert[]
function alerts.list() end
---@param fn fun(change: moonpool.alert_change)
function alerts.on_change(fn) end

---@class moonpool.call_summary  times in ms
---@field id string
---@field operation string
---@field request_id? string    where the call came over HTTP
---@field trace_id? string
---@field caller? string
---@field lane? string
---@field began string
---@field duration number
---"running", "committed", "recalled", "rolled_back", "unknown", "resolved_committed", "failed" …
---@field outcome string
---@field attempts? integer
---@field round_trips? integer
---@field group? integer      calls that shared the transaction
---@field error? string
---@field notes? { at: number, kind: string, n?: integer, text?: string, query?: string }[]

---@class moonpool.calls
---@field say fun(note: table): string   a note as a line of text
---@field summary fun(options?: { limit?: integer, notable?: boolean }): string   one line per call
local calls = {}
---@param options? { limit?: integer, notable?: boolean }
---@return moonpool.call_summary[]
function calls.recent(options) end
---@param id string
---@return moonpool.call_summary?
function calls.find(id) end
---@param id string
---@return string?
function calls.timeline(id) end

return metrics
