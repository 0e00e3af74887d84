-- moonpool.outbox.subscriptions: decides, when scripts/ is loaded, at which message a new
-- subscriber begins: with messages that are published from then on; with `from = "oldest"`, at the
-- oldest message that is kept; with `renamed_from`, where the former subscriber stopped. A known
-- subscriber continues where it stopped.
local errors   = require "moonpool.errors"
local host     = require "moonpool.host"
local store    = require "moonpool.outbox.store"
local tasks    = require "moonpool.script.tasks"

local subscriptions = {}

local PATIENCE_S = 3 -- longest wait for the database: a host must also start without it

local said = {
  now     = "%s begins with what is published to %s from now on: %d that are kept are not for it "
    ..
            '(from = "oldest" takes them)',
  oldest  = "%s begins with the oldest message of %s that is kept: %d wait for it",
  renamed = "%s goes on with %s where %s was",
}

local function tell(name, op, begins, kept)
  if begins == "renamed" then
    host.log("info", said.renamed:format(name, op.on, op.renamed_from))
  elseif said[begins] then
    host.log("info", said[begins]:format(name, op.on, kept))
  end
end

--- Registers a subscriber. Returns false if a relay still serves the subscriber that it replaces
--- (`renamed_from`): the caller must try again later.
---@param op { on: string, from?: string, renamed_from?: string }
function subscriptions.settle(conn, name, op)
  if store.is_known(conn, name, op.on) then return true end
  if op.renamed_from and store.is_known(conn, op.renamed_from, op.on) then
    if not store.lock(conn, op.renamed_from) then return false end
    store.rename(conn, op.renamed_from, name, op.on)
    store.unlock(conn, op.renamed_from)
    tell(name, op, "renamed")
    return true
  end
  if store.begin(conn, name, op.on, op.from == "oldest") then
    tell(name, op, op.from or "now", store.kept(conn, op.on))
  end
  return true
end

-- True if a table, a schema or a right is missing: `migrate up` has not been run yet.
local function is_missing(failure)
  local state = errors.is(failure) and failure.sqlstate
  return state == "42P01" or state == "3F000" or state == "42501"
end

--- Registers the subscribers of a new generation before the generation takes calls, so that they
--- miss no message of these calls. If the database does not answer, the relay does it later.
---@param operations table<string, table>
function subscriptions.settle_all(operations)
  local subscribers = {}
  for name, op in pairs(operations) do
    if op.on then subscribers[name] = op end
  end
  if not next(subscribers) then return end
  local ok, failure = pcall(tasks.timeout, PATIENCE_S, store.with, function(conn)
    for name, op in pairs(subscribers) do subscriptions.settle(conn, name, op) end
  end)
  if not ok and not is_missing(failure) then
    host.log("warn", "new subscribers start as soon as the database answers: "
      .. tostring(failure))
  end
end

return subscriptions
