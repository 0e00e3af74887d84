-- Relays that are killed in the middle of deliveries, and several at once: nothing is lost, nothing
-- works twice, and each key keeps its order.
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local fault    = require "spec.support.workload.fault"
local host     = require "moonpool.host"
local letters  = require "spec.support.data.letters"
local moonpool = require "moonpool"
local outbox   = require "moonpool.outbox"

local KEYS, EACH = 8, 40

local subscriber = [[
local moonpool = require "moonpool"
return moonpool.operation {
  on = "spec.killed", from = "oldest",
  run = function(tx, message)
    tx:exec("insert into killed.received (subscriber, message, key, body) values ($1, $2, $3, $4)",
      "%s", message.id,
            message.key, tostring(message.payload))
    tx:value "select pg_sleep(0.002)" -- long enough to be killed in
  end,
}
]]

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

describe("a killed relay", function()
  local schema, folder

  setup(function()
    schema = letters.schema "killed"
    folder = command.folder { ["scripts/killed_one.lua"] = subscriber:format "one",
                              ["scripts/killed_two.lua"] = subscriber:format "two" }
  end)

  teardown(function()
    outbox.forget "killed_one"
    outbox.forget "killed_two"
    folder.remove()
    schema.drop()
  end)

  -- A relay as a process of its own.
  local function start()
    local line = "cd %s && echo $$ && exec %s relay 2>&1"
    local handle = assert(io.popen(line:format(quoted(folder.path), quoted(command.executable()))))
    return { pid = assert(tonumber(handle:read "l")), handle = handle }
  end

  local function stop(relay, signal)
    os.execute(("kill -%s %d"):format(signal, relay.pid))
    relay.handle:read "a"
    relay.handle:close()
  end

  local function publish(from, to)
    for number = from, to do
      db.transaction({}, function(tx)
        for key = 1, KEYS do tx:publish("spec.killed", number, "key " .. key) end
      end)
    end
  end

  local function received() return schema.owner.value "select count(*) from killed.received" end

  local function await(count)
    local limit = host.clock() + 60
    repeat
      if host.clock() > limit then error("the relay stands still at " .. received()) end
    until received() >= count
  end

  local function assert_sound(count)
    for _, name in ipairs { "one", "two" } do
      assert.are.equal(count, db.value("select count(*) from killed.received where subscriber = $1",
                                       name))
      assert.are.equal(
        count, db.value("select count(distinct message) from killed.received where subscriber = $1",
                        name))
      assert.are.equal(0, db.value([[
        select count(*) from (
          select body::integer as body, lag(body::integer) over (partition by key
            order by number) as before
            from killed.received where subscriber = $1) as rows where body <= before]], name))
    end
  end

  it("is replaced by the next one without loss, doubles or disorder", function()
    publish(1, EACH // 2)
    local writer = moonpool.spawn(publish, EACH // 2 + 1, EACH)
    for round = 1, 4 do
      local relay = start()
      await(received() + 25 * round)
      stop(relay, "KILL")
    end
    writer:wait()
    local first, second = start(), start()      -- two hosts
    await(2 * KEYS * EACH)
    stop(first, "TERM")
    stop(second, "TERM")
    assert_sound(KEYS * EACH)
    assert.are.equal(0, #outbox.list { dead = true })
  end)

  before_each(function() schema.owner.exec "delete from killed.received" end)

  it("or one whose connections are killed goes on", function()
    publish(1, 30)
    local relay = start()
    for round = 1, 3 do
      await(100 * round)
      fault.kill_all(fault.role())
    end
    await(2 * KEYS * 30)
    stop(relay, "TERM")
    assert_sound(KEYS * 30)
    assert.are.equal(0, #outbox.list())
  end)

  it("hands its subscribers over to another host", function()
    local first, second = start(), start()
    publish(1, 20)
    await(KEYS * 10)
    stop(first, "KILL")
    await(2 * KEYS * 20)
    stop(second, "TERM")
    assert_sound(KEYS * 20)
  end)
end)
