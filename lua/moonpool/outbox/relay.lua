-- moonpool.outbox.relay: delivers the messages of the outbox to their subscribers. Each subscriber
-- is served by one relay among all hosts: the relay whose connection holds the subscriber's
-- advisory lock. The relay itself uses only that connection, and from one task. A delivery is a
-- call of the subscriber's operation, with its own transaction.
--
-- A subscriber's messages of one key form a queue; one task delivers the messages of a queue in
-- order. When a message fails, its queue is removed from memory. Until the message is due again,
-- fetches from the database leave out the later messages of its key.
local definition    = require "moonpool.operation.definition"
local blame         = require "moonpool.operation.blame"
local db            = require "moonpool.db"
local errors        = require "moonpool.errors"
local host          = require "moonpool.host"
local housekeeping  = require "moonpool.serve.housekeeping"
local meters        = require "moonpool.watch.meters"
local operation     = require "moonpool.operation.call"
local registry      = require "moonpool.operation.registry"
local store         = require "moonpool.outbox.store"
local subscriptions = require "moonpool.outbox.subscriptions"

local BATCH         = 200     -- messages of a subscriber that one fetch adds to memory
local LOOK_S        = 1       -- between two fetches, if no notification arrives
local MEASURE_S     = 10
local ADVANCE_S     = 1       -- between two moves of the mark
local BACKOFF_CAP_S = 600     -- longest back-off of a failed message
local MOMENT_CAP_S  = 30      -- longest back-off after a failure that is not due to the message
local DELIVERIES    = 10      -- default of `deliveries`
local CONCURRENCY   = 4       -- default of `concurrency`

local relay = {}

local Subscriber = {}
Subscriber.__index = Subscriber

local function new_subscriber(name, op, state)
  return setmetatable({
    name = name, op = op, state = state, topic = op.on,
    owned = false,
    look_at = 0,            -- when to fetch from the database
    advance_at = 0, settled = true,
    measure_at = 0,
    queues = {}, order = {},      -- by key; a list in the order of their first message
    known = {}, count = 0,        -- messages in memory: a set of ids, and their number
    running = 0, outcomes = {},
  }, Subscriber)
end

-- The key of a message's queue. A message without a key has its own queue.
local function queue_key(message)
  return message.key and (message.tenant or "") .. "\0" .. message.key or message.id
end

function Subscriber:look(conn, now)
  if self.count > BATCH / 2 or now < self.look_at then return end
  local limit = BATCH + self.count
  local rows = store.fetch(conn, self.name, self.topic, limit)
  self.look_at = #rows == limit and now or now + self.state.poll_s
  for _, row in ipairs(rows) do
    if not self.known[row.id] then
      local key = queue_key(row)
      local queue = self.queues[key]
      if not queue then
        queue = { key = key, first = 1, last = 0 }
        self.queues[key] = queue
        self.order[#self.order + 1] = queue
      end
      queue.last = queue.last + 1
      queue[queue.last] = row
      self.known[row.id], self.count = true, self.count + 1
    end
  end
  if self.count == 0 then
    local due_s = store.next_due(conn, self.name)
    if due_s then self.look_at = math.min(self.look_at, now + due_s) end
  end
end

-- Delivers one message. -> true, or false and the error.
function Subscriber:hand_over(row)
  local message = { id = row.id, topic = row.topic, key = row.key, tenant = row.tenant,
                    payload = row.payload,
                    published_at = row.published_at, deliveries = row.deliveries + 1 }
  local ok, failure = pcall(self.state.deliver, self.op, self.name, message, row.xid)
  -- Another relay has delivered it before.
  if not ok and errors.is(failure) and failure.constraint == "delivered_pkey" then return true end
  return ok, failure
end

-- The body of the task that delivers the messages of a queue.
function Subscriber:work(queue)
  while queue.first <= queue.last and not self.state.stopping() do
    local row = queue[queue.first]
    local ok, failure = self:hand_over(row)
    self.outcomes[#self.outcomes + 1] = { queue = queue, row = row, ok = ok, failure = failure }
    self.state.signal:set()
    if not ok then
      queue.failed = true -- no delivery of this queue starts before the failure is noted
      break
    end
    queue[queue.first] = nil
    queue.first = queue.first + 1
  end
  queue.busy = false
  self.running = self.running - 1
  self.state.signal:set()
end

function Subscriber:start_work()
  local most, kept = self.op.concurrency or CONCURRENCY, {}
  for _, queue in ipairs(self.order) do
    local free = self.running < most and not queue.busy and not queue.failed
    if free and queue.first <= queue.last then
      queue.busy = true
      self.running = self.running + 1
      host.spawn(function() self:work(queue) end)
    end
    if queue.busy or queue.first <= queue.last then
      kept[#kept + 1] = queue
    -- If this queue was dropped, a newer queue may have its key: that one stays.
    elseif self.queues[queue.key] == queue then
      self.queues[queue.key] = nil
    end
  end
  self.order = kept
end

-- Removes the queue of a failed message from memory. Its messages are fetched again when they are
-- due.
function Subscriber:drop(queue)
  for at = queue.first, queue.last do
    self.known[queue[at].id], self.count = nil, self.count - 1
    queue[at] = nil
  end
  queue.first, queue.last = 1, 0
  self.queues[queue.key] = nil
end

-- "DISK_FULL: could not extend … (call 0190…)", one line.
local function text_of(failure)
  local text = tostring(failure):gsub("\n.*", ""):sub(1, 2000)
  local id = errors.is(failure) and failure.call_id
  return id and ("%s (call %s)"):format(text, id) or text
end

-- For a failure that is not due to the message: the delivery is retried with back-off, without
-- limit.
function Subscriber:postpone(conn, outcome, now)
  local row, text, wait_s = outcome.row, text_of(outcome.failure), self.state.poll_s
  if blame.of(outcome.failure) == "moment" then
    wait_s = store.postpone(conn, self.name, row, self.state.backoff_s, MOMENT_CAP_S, text)
    self.look_at = math.min(self.look_at, now + wait_s)
  else
    self.look_at = math.max(self.look_at, now + wait_s)
  end
  meters.deliveries:add { subscriber = self.name, result = "postponed" }
  host.log(
    "warn", ("%s: message %d of %s was not delivered; next try in %.1f s, not counted: %s")
      :format(self.name,
    row.id, self.topic, wait_s, text))
end

function Subscriber:note_failure(conn, outcome, now)
  local row, state, text = outcome.row, self.state, text_of(outcome.failure)
  if blame.of(outcome.failure) ~= "message" then return self:postpone(conn, outcome, now) end
  local wait_s = math.min(BACKOFF_CAP_S, state.backoff_s * 2 ^ math.min(row.deliveries, 30))
  local noted = store.fail(conn, self.name, row,
                           { wait_s = wait_s, most = self.op.deliveries or DELIVERIES,
                             text = text })
  state.counts.failed = state.counts.failed + 1
  meters.deliveries:add { subscriber = self.name, result = noted.dead and "dead" or "failed" }
  if noted.dead then
    state.counts.dead = state.counts.dead + 1
    self.measure_at = 0 -- so that the metrics show the dead letter at once
    host.log("error", ("%s: message %d of %s is a dead letter, delivery %d was its last " ..
                       "(moonpool outbox list): %s")
      :format(self.name, row.id, self.topic, noted.deliveries, text))
  else
    host.log("warn", ("%s: message %d of %s failed, delivery %d: %s"):format(self.name, row.id,
      self.topic,
      noted.deliveries, text))
  end
  -- After a dead letter the key's next message is delivered at once.
  self.look_at = math.min(self.look_at, noted.dead and now or now + wait_s)
end

function Subscriber:settle(conn, now)
  local outcomes = self.outcomes
  self.outcomes = {}
  for _, outcome in ipairs(outcomes) do
    self.settled = false
    if outcome.ok then
      self.known[outcome.row.id], self.count = nil, self.count - 1
      self.state.counts.delivered = self.state.counts.delivered + 1
      meters.deliveries:add { subscriber = self.name, result = "delivered" }
      if outcome.row.failed then store.forget_failure(conn, self.name, outcome.row) end
    else
      self:note_failure(conn, outcome, now)
      self:drop(outcome.queue)
    end
  end
end

-- Acquires the subscriber for this relay. Returns false if another relay serves it, or serves the
-- subscriber that it replaces (`renamed_from`).
function Subscriber:take(conn)
  if not store.lock(conn, self.name) then return false end
  store.renumber(conn)
  if not subscriptions.settle(conn, self.name, self.op) then
    store.unlock(conn, self.name)
    return false
  end
  store.seen(conn, self.name)
  return true
end

function Subscriber:turn(conn, now)
  if not self.owned then
    if now < self.look_at then return end
    self.owned = self:take(conn)
    if not self.owned then
      self.look_at = now + self.state.poll_s
      return
    end
  end
  self:settle(conn, now)
  self:look(conn, now)
  self:start_work()
  if now >= self.advance_at and (not self.settled or now >= self.advance_at + 60) then
    store.advance(conn, self.name)
    self.settled, self.advance_at = true, now + ADVANCE_S
  end
  if now >= self.measure_at then
    meters.set_messages(self.name, store.measure(conn, self.name, self.topic))
    self.measure_at = now + MEASURE_S
  end
end

-- True if no message is in memory and no fetch is due.
function Subscriber:idle(now)
  return self.count == 0 and self.running == 0 and #self.outcomes == 0 and self.look_at > now
end

local function wait_for_work(subscribers, state)
  for _, subscriber in ipairs(subscribers) do
    while subscriber.running > 0 do state.signal:wait(60) end
  end
end

local function next_look(subscribers, now)
  local at = now + 60
  for _, subscriber in ipairs(subscribers) do
    if subscriber.count <= BATCH / 2 then at = math.min(at, subscriber.look_at) end
    if not subscriber.settled then at = math.min(at, subscriber.advance_at) end
    if subscriber.owned then at = math.min(at, subscriber.measure_at) end
  end
  return math.max(0, at - now)
end

-- Serves the subscribers over one connection, until the relay must stop or an error is raised.
local function serve(conn, subscribers, state)
  store.prepare(conn)
  local failed, failure = pcall(function()
    while not state.stopping() do
      for _, subscriber in ipairs(subscribers) do subscriber:turn(conn, host.clock()) end
      local now, idle = host.clock(), true
      for _, subscriber in ipairs(subscribers) do idle = idle and subscriber:idle(now) end
      if idle and state.until_idle then break end
      if not state.until_idle then housekeeping.turn() end
      state.signal:wait(math.min(state.poll_s, next_look(subscribers, host.clock())))
    end
  end)
  wait_for_work(subscribers, state)
  for _, subscriber in ipairs(subscribers) do
    if subscriber.owned then meters.set_messages(subscriber.name, nil) end
  end
  if not failed then error(failure, 0) end
  for _, subscriber in ipairs(subscribers) do
    if subscriber.owned then
      subscriber:settle(conn, host.clock())
      store.advance(conn, subscriber.name)
      store.unlock(conn, subscriber.name)
    end
  end
end

local function sorted(subscribers)
  local names = {}
  for name, op in pairs(subscribers) do
    if op.on then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- Calls the subscriber's operation; the same transaction notes the delivery.
function relay.call_subscriber(op, name, message, xid)
  local id = tostring(message.id)
  return operation.deliver(op, message, function(tx)
    host.own_exec(tx, store.note, name, id, xid)
  end)
end

function relay.run(options)
  local state = {
    deliver    = options.deliver or relay.call_subscriber,
    signal     = host.signal(),
    poll_s     = options.poll or LOOK_S,
    backoff_s  = options.backoff or 1,
    until_idle = options.until_idle,
    counts     = { delivered = 0, failed = 0, dead = 0 },
  }
  function state.stopping() return host.stopping() or options.stop and options.stop() or false end
  if host.pool_stats().max < 2 then
    error("moonpool.outbox: the relay needs DB_POOL_MAX to be 2 or more", 2)
  end
  local ops = {}
  for name, op in pairs(options.subscribers or registry.all()) do
    ops[name] = definition.of(op) or op
  end
  local pause_s = 0.5
  repeat
    local subscribers = {}
    for _, name in ipairs(sorted(ops)) do
      subscribers[#subscribers + 1] = new_subscriber(name, ops[name], state)
    end
    local _ <close> = relay.listen(subscribers, state)
    local began = host.clock()
    local ok, failure = pcall(db.lease, function(conn)
      serve(conn, subscribers, state)
    end, { timeout = 0 })
    if ok then break end
    local passes = errors.is(failure) and failure.retryable
    if options.until_idle or blame.of(failure) == "message" and not passes then
      error(failure, 0)
    end
    host.log("warn", ("the relay starts again in %.1f s: %s"):format(pause_s, tostring(failure)))
    state.signal:wait(pause_s)
    pause_s = host.clock() - began > 60 and 0.5 or math.min(pause_s * 2, 10)
  until state.stopping()
  return state.counts
end

local nothing = setmetatable({}, { __close = function() end })

-- Listens for notifications. Each one makes every subscriber fetch at once.
function relay.listen(subscribers, state)
  if state.until_idle then return nothing end
  local ok, handle = pcall(db.listen, store.channel, function()
    for _, subscriber in ipairs(subscribers) do subscriber.look_at = 0 end
    state.signal:set()
  end)
  return ok and handle or nothing
end

return relay
