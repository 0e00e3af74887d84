-- What specs of the outbox need: a table that subscribers write to, a topic of the spec's own, and
-- relays that work until nothing is left.
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local moonpool = require "moonpool"
local outbox   = require "moonpool.outbox"
local scratch  = require "spec.support.data.scratch"
local store    = require "moonpool.outbox.store"

local letters = {}

-- Messages outlive the spec that published them: files that run on one database must not share
-- topics.
local file, number = moonpool.uuid():sub(-8), 0

--- A fresh desk: `topic`, `name(suffix)`, publish, relay, received.
function letters.new(schema)
  number = number + 1
  local desk = { topic = ("spec.letters_%s_%d"):format(file, number), subscribers = {} }

  --- Adds a subscriber that writes what it gets into `schema`.received; `also(tx, message)` may
  --- fail.
  function desk.subscriber(suffix, also, fields)
    local name = ("spec_%s_%d_%s"):format(file, number, suffix)
    local definition = { on = desk.topic, from = "oldest" }
    for field, value in pairs(fields or {}) do definition[field] = value end
    function definition.run(tx, message)
      tx:exec("insert into " .. schema
              .. ".received (subscriber, message, key, body) values ($1, $2, $3, $4)", name,
              message.id, message.key, moonpool.json.encode(message.payload))
      if also then also(tx, message) end
    end
    desk.subscribers[name] = moonpool.operation(definition)
    return name
  end

  --- Publishes, in a transaction, each of the list { payload, key }.
  function desk.publish(list, options)
    db.transaction(options or {}, function(tx)
      for _, letter in ipairs(list) do tx:publish(desk.topic, letter[1], letter[2]) end
    end)
  end

  --- Relays until nothing can be delivered.
  function desk.relay(options)
    local all = { until_idle = true, subscribers = desk.subscribers, backoff = 0 }
    for field, value in pairs(options or {}) do all[field] = value end
    return outbox.run(all)
  end

  --- What a subscriber has got, in that order: "key:payload …", or the payloads of one key.
  function desk.received(name, key)
    local list = {}
    local rows = db.query("select key, body from " .. schema
                          .. ".received where subscriber = $1 order by number", name)
    for _, row in ipairs(rows) do
      if not key or row.key == key then list[#list + 1] = row.body end
    end
    return table.concat(list, " ")
  end

  --- Looks at the relay's own tables.
  function desk.value(sql, ...)
    local arguments = table.pack(...)
    return store.with(function(conn)
      return conn.value(sql, table.unpack(arguments, 1, arguments.n))
    end)
  end

  return desk
end

--- The table, in a schema of its own.
function letters.schema(name)
  return scratch.schema(name, {
    "create table " .. name .. [[.received (
       number bigint generated always as identity, subscriber text not null,
       message bigint not null, key text,
       body text not null, primary key (number))]],
  })
end

letters.await = scratch.await
letters.clock = host.clock

return letters
