-- The outbox: what is published arrives at every subscriber, in order per key, and works in the
-- database once.
local db       = require "moonpool.db"
local errors   = require "moonpool.errors"
local failure  = require "spec.support.data.failure"
local inline   = require "spec.support.data.inline"
local is       = require "moonpool.is"
local letters  = require "spec.support.data.letters"
local metrics  = require "moonpool.metrics"
local moonpool = require "moonpool"
local outbox   = require "moonpool.outbox"
local scratch  = require "spec.support.data.scratch"
local store    = require "moonpool.outbox.store"

describe("the outbox", function()
  local schema, desk

  setup(function() schema = letters.schema "letters" end)
  teardown(function() schema.drop() end)
  before_each(function() desk = letters.new "letters" end)
  after_each(function()
    for name in pairs(desk.subscribers) do outbox.forget(name) end
  end)

  it("delivers what was published to every subscriber of the topic, in its order, once", function()
    local one, two = desk.subscriber "one", desk.subscriber "two"
    desk.publish { { 1, "a" }, { 2, "a" }, { 3, "a" } }
    assert.are.same({ delivered = 6, failed = 0, dead = 0 }, desk.relay())
    assert.are.equal("1 2 3", desk.received(one))
    assert.are.equal("1 2 3", desk.received(two))
    assert.are.same({ delivered = 0, failed = 0, dead = 0 }, desk.relay())
    assert.are.equal("1 2 3", desk.received(one))
  end)

  it("delivers nothing of a transaction that was rolled back, or of a savepoint that was",
     function()
    local one = desk.subscriber "one"
    pcall(db.transaction, {}, function(tx)
      tx:publish(desk.topic, "lost")
      error "no"
    end)
    db.transaction({}, function(tx)
      tx:publish(desk.topic, 1)
      pcall(tx.savepoint, tx, function()
        tx:publish(desk.topic, "lost")
        error "no"
      end)
    end)
    desk.relay()
    assert.are.equal("1", desk.received(one))
  end)

  it("gives the message with its id, topic, key, payload, tenant, time and delivery", function()
    local got
    desk.subscriber("one", function(_, message) got = message end)
    desk.publish { { { text = "a \"quote\" and a \\", list = { 1, 2 }, none = moonpool.null },
                     "k" } }
    desk.relay()
    assert.are.equal("integer", math.type(got.id))
    assert.are.equal(desk.topic, got.topic)
    assert.are.equal("k", got.key)
    assert.are.equal("a \"quote\" and a \\", got.payload.text)
    assert.are.equal(2, #got.payload.list)
    assert.are.equal(1, got.deliveries)
    assert.is_nil(got.tenant)
    assert.truthy(got.published_at:match "^%d+%-%d+%-%d+T")
  end)

  it(
    "delivers a message of a transaction that commits late, behind the mark of those that came \z
      after it", function()
    local one = desk.subscriber "one"
    local gate, committed = { open = false }, false
    local late = moonpool.spawn(function()
      db.transaction({}, function(tx)
        tx:publish(desk.topic, "late", "a")
        tx:flush()
        gate.sent = true
        scratch.await("the gate", function() return gate.open end)
      end)
      committed = true
    end)
    scratch.await("the late one to be sent", function() return gate.sent end)
    for round = 1, 3 do
      desk.publish { { round, "a" } }
      desk.relay()
    end
    assert.are.equal("1 2 3", desk.received(one))
    gate.open = true
    late:wait()
    assert.is_true(committed)
    desk.relay()
    assert.are.equal("1 2 3 \"late\"", desk.received(one))
    desk.relay()
    assert.are.equal("1 2 3 \"late\"", desk.received(one))
  end)

  it("tries no message more often than it may, however many fail at a time", function()
    local tries, list = {}, {}
    desk.subscriber("one", function(_, message)
      tries[message.id] = (tries[message.id] or 0) + 1
      error "never"
    end, { deliveries = 2, concurrency = 16 })
    -- two of a key: the second waits for the first's end
    for i = 1, 100 do list[i] = { i, "key " .. i // 2 } end
    desk.publish(list)
    assert.are.same({ delivered = 0, failed = 200, dead = 100 }, desk.relay())
    local count = 0
    for _, n in pairs(tries) do
      assert.are.equal(2, n)
      count = count + 1
    end
    assert.are.equal(100, count)
  end)

  it("keeps the order of a key behind a failed message while other keys and subscribers go on",
     function()
    local fail = true
    local one = desk.subscriber("one", function(_, message)
      if fail and message.payload == 2 then error "not yet" end
    end)
    local two = desk.subscriber "two"
    desk.publish { { 1, "a" }, { 2, "a" }, { 3, "a" }, { 4, "b" }, { 5, "b" }, { 6 } }
    local counts = desk.relay { backoff = 3600 }
    assert.are.equal(1, counts.failed)
    assert.are.equal("1", desk.received(one, "a"))
    assert.are.equal("4 5", desk.received(one, "b"))
    assert.are.equal("1 2 3", desk.received(two, "a"))
    assert.are.equal(0, desk.relay().delivered)      -- it is not due
    fail = false
    assert.are.equal(1, outbox.retry { subscriber = one })
    desk.relay()
    assert.are.equal("1 2 3", desk.received(one, "a"))
    assert.are.equal("4 5", desk.received(one, "b"))
  end)

  it("lays a message aside after its last delivery, with the error, until somebody decides",
     function()
    local fail, seen = true, {}
    local one = desk.subscriber("one", function(_, message)
      if message.payload ~= 1 then return end
      seen[#seen + 1] = message.deliveries
      if fail then moonpool.fail("BROKEN", "it is broken") end
    end, { deliveries = 3 })
    desk.publish { { 1, "a" }, { 2, "a" } }
    local counts = desk.relay()
    assert.are.equal(3, counts.failed)
    assert.are.equal(1, counts.dead)
    assert.are.same({ 1, 2, 3 }, seen)
    assert.are.equal("2", desk.received(one))      -- the key goes on
    local list = outbox.list { subscriber = one, dead = true }
    assert.are.equal(1, #list)
    assert.are.equal(3, list[1].deliveries)
    assert.are.equal(1, list[1].payload)
    inline.contains(list[1].error, "it is broken")
    fail = false
    assert.are.equal(1, outbox.retry { subscriber = one, message = list[1].message })
    desk.relay()
    assert.are.equal("2 1", desk.received(one))
    assert.are.equal(0, #outbox.list { subscriber = one })
  end)

  it("gives up a message that is dropped", function()
    local one = desk.subscriber("one", function() error "never" end, { deliveries = 1 })
    desk.publish { { 1, "a" } }
    desk.relay()
    assert.are.equal(1, outbox.drop { subscriber = one })
    assert.are.equal(0, desk.relay().failed)
    assert.are.equal(0, #outbox.list { subscriber = one })
  end)

  it("runs the subscriber under the tenant of the publishing operation", function()
    local tenant = moonpool.uuid()
    local got
    desk.subscriber("one", function(tx, message)
      got = { tx.tenant, message.tenant, message.dealership_id }
    end,
                    { tenant = "dealership_id" })
    inline.call(function(tx) tx:publish(desk.topic, 1, "a") end,
                { tenant = "dealership_id" }, { dealership_id = tenant })
    desk.relay()
    assert.are.same({ tenant, tenant, tenant }, got)
  end)

  describe("runs the subscriber under the tenant of", function()
    local fields = { tenant = "dealership_id", input = is.object { dealership_id = is.uuid } }
    local function define(run, more) return inline.define(run, more) end
    local function publish(tx) tx:publish(desk.topic, 1, "a") end

    for what, send in pairs {
      ["an operation that joins another's transaction"] = function(tenant)
        local inner = define(publish)
        moonpool.call(define(function()
          moonpool.call(inner, {})
        end, fields), { dealership_id = tenant })
      end,
      ["the call whose hook publishes"] = function(tenant)
        local done
        moonpool.call(define(function(tx)
          tx:after_commit(function()
            db.transaction(publish)
            done = true
          end)
        end, fields), { dealership_id = tenant })
        scratch.await("the hook", function() return done end)
      end,
      ["db.transaction"] = function(tenant)
        db.transaction({ tenant = { dealership_id = tenant } }, publish)
      end,
      ["the caller of an operation of no tenant"] = function(tenant)
        moonpool.call(define(publish), {}, { tenant = tenant })
      end,
    } do
      it(what, function()
        local tenant, got = moonpool.uuid(), nil
        desk.subscriber("one", function(tx, message)
          got = { tx.tenant, message.tenant }
        end, { tenant = "dealership_id" })
        send(tenant)
        desk.relay()
        assert.are.same({ tenant, tenant }, got)
      end)
    end
  end)

  it("checks the payload by the subscriber's input", function()
    local one = desk.subscriber("one", nil,
                                { input = is.object { count = is.integer }, deliveries = 1 })
    desk.publish { { { count = 1 } }, { { count = "x" } } }
    local counts = desk.relay()
    assert.are.equal(1, counts.delivered)
    assert.are.equal(1, counts.dead)
    inline.contains(outbox.list { subscriber = one }[1].error, "count")
  end)

  describe("counts only what says something of the message:", function()
    setup(function()
      schema.owner.exec [[create function letters.raise(state text) returns int language plpgsql as
        $$ begin raise exception 'not now' using errcode = state; end $$]]
      schema.owner.exec "grant execute on function letters.raise(text) to moonpool_app"
    end)

    local function raising(state)
      return function(tx) tx:value("select letters.raise($1)", state) end
    end

    local function failing(code)
      return function() error(errors.new { code = code, status = 500, message = "not now" }) end
    end

    for what, refuse in pairs {
      ["a full disk"]                   = raising "53100",
      ["too many connections"]          = raising "53300",
      ["memory of the server"]          = raising "53200",
      ["a server that is read-only"]    = raising "25006",
      ["a lock that is held"]           = raising "55P03",
      ["a statement that was canceled"] = raising "57014",
      ["a missing grant"]               = raising "42501",
      ["a deadline"]                    = failing "DEADLINE_EXCEEDED",
      ["memory of all calls"]           = failing "HOST_OUT_OF_MEMORY",
      ["memory of the host"]            = failing "OUT_OF_MEMORY",
    } do
      it(what .. " does not, and the key keeps its order", function()
        local times = 0
        local one = desk.subscriber("one", function(tx, message)
          if message.payload ~= 1 then return end
          times = times + 1
          if times <= 4 then refuse(tx) end
        end, { deliveries = 2, retries = 0 })
        desk.publish { { 1, "a" }, { 2, "a" }, { 3, "b" } }
        scratch.await("the deliveries", function()
          local counts = desk.relay()
          assert.are.same({ 0, 0 }, { counts.failed, counts.dead })
          return desk.received(one, "a") == "1 2"
        end)
        assert.are.equal(5, times)
        assert.are.equal("3", desk.received(one, "b"))
        assert.are.same({}, outbox.list { subscriber = one })
      end)
    end

    for what, refuse in pairs {
      ["a mistake of the script"]  = function() error "oops" end,
      ["what the script refuses"]  = function() moonpool.fail("BUSY", "not for us") end,
      ["a broken constraint"]      = raising "23505",
      ["a value that is no good"]  = raising "22P02",
    } do
      it(what .. " does", function()
        local one = desk.subscriber("one", refuse, { deliveries = 2, retries = 0 })
        desk.publish { { 1, "a" } }
        assert.are.same({ delivered = 0, failed = 2, dead = 1 }, desk.relay())
        assert.are.equal(2, outbox.list { subscriber = one }[1].deliveries)
      end)
    end

    it("tells why, with the call that failed", function()
      local one = desk.subscriber("one", function()
        moonpool.fail("BROKEN", "it is broken")
      end, { deliveries = 1 })
      desk.publish { { 1, "a" } }
      desk.relay()
      assert.truthy(
        outbox.list { subscriber = one }[1].error:find "BROKEN: it is broken.*%(call %x+%-%x+")
    end)

    it("on the metrics' page, with what waits", function()
      local one = desk.subscriber("one", function(_, message)
        if message.payload == 1 then error "no" end
      end, { deliveries = 1 })
      desk.publish { { 1, "a" }, { 2, "b" } }
      desk.relay()
      local list = {}
      for _, entry in ipairs(metrics.messages()) do list[entry.subscriber] = entry end
      assert.are.equal(1, list[one].delivered)
      assert.are.equal(1, list[one].dead)
      desk.publish { { 3 } }
      local counted = store.with(function(conn) return store.measure(conn, one, desk.topic) end)
      assert.are.same({ 1, 1 }, { counted.waiting, counted.dead })
      assert.is_true(counted.oldest >= 0)
      assert.truthy(metrics.text()
        :find('moonpool_deliveries_total{subscriber="' .. one .. '",result="dead"} 1', 1, true))
    end)
  end)

  it("works once for a message although two relays deliver it", function()
    local one = desk.subscriber "one"
    desk.publish { { 1, "a" } }
    local message = desk.value("select id from moonpool.outbox where topic = $1", desk.topic)
    local xid = desk.value("select xid::text from moonpool.outbox where topic = $1", desk.topic)
    local function note(tx) moonpool.host.own_exec(tx, store.note, one, tostring(message), xid) end
    local operation = require "moonpool.operation.call"
    local own = require("moonpool.operation.definition").of(desk.subscribers[one])
    local function once()
      return operation.deliver(own, { id = message, key = "a", payload = 1 }, note)
    end
    local results = {}
    moonpool.all { function()
      results[1] = pcall(once)
    end, function() results[2] = pcall(once) end }
    assert.are_not.equal(results[1], results[2])
    desk.relay()
    assert.are.equal("1", desk.received(one))
  end)

  it("lets only one relay at a time serve a subscriber", function()
    local running, most = 0, 0
    local one = desk.subscriber("one", function()
      running = running + 1
      most = math.max(most, running)
      moonpool.sleep(0.001)
      running = running - 1
    end, { concurrency = 1 })
    local list = {}
    for i = 1, 20 do list[i] = { i } end
    desk.publish(list)
    local total = 0
    local function relay()
      local delivered = desk.relay().delivered -- it waits: `total` is read afterwards
      total = total + delivered
    end
    moonpool.all { relay, relay, relay }
    assert.are.equal(1, most)
    assert.are.equal(20, total)
    assert.truthy(desk.received(one))
  end)

  it("wakes a relay that waits", function()
    local one = desk.subscriber "one"
    local stop = false
    local relay = moonpool.spawn(function()
      return outbox.run { subscribers = desk.subscribers, poll = 0.05, stop = function()
        return stop
      end }
    end)
    desk.publish { { 1 } }
    scratch.await("the delivery", function() return desk.received(one) == "1" end)
    desk.publish { { 2 } }
    scratch.await("the delivery", function() return desk.received(one) == "1 2" end)
    stop = true
    assert.are.equal(2, relay:wait().delivered)
  end)

  it("keeps no rows of what is settled, but for its messages", function()
    local one = desk.subscriber "one"
    local list = {}
    for i = 1, 30 do list[i] = { i, "k" .. i % 3 } end
    desk.publish(list)
    scratch.await("the mark to pass", function()
      desk.publish { { 0 } }
      desk.relay()
      return desk.value("select count(*) from moonpool.delivered where subscriber = $1", one) < 3
    end)
  end)

  it("goes on after its tables were restored where transactions are numbered anew", function()
    local one = desk.subscriber "one"
    desk.publish { { 1 }, { 2 } }
    desk.relay()
    desk.publish { { 3 } }
    local admin = db.open { url = moonpool.host.admin_url, max = 1 }
    admin.exec(
      "update moonpool.outbox set xid = (xid::text::bigint + 1000000000)::text::xid8 where topic \z
        = $1", desk.topic)
    admin.exec([[update moonpool.delivered set xid = (xid::text::bigint + 1000000000)::text::xid8
                  where subscriber = $1]], one)
    admin.exec(
      "update moonpool.subscriber set low = (low::text::bigint + 1000000000)::text::xid8 where \z
        name = $1", one)
    admin.close()
    desk.publish { { 4 } }
    desk.relay()
    desk.publish { { 5 } }
    desk.relay()
    assert.are.equal("1 2 3 4 5", desk.received(one))
  end)

  describe("housekeeping", function()
    local housekeeping = require "moonpool.serve.housekeeping"

    it("removes delivered messages and witnesses when they are old, and nothing else", function()
      local fail = true
      local one = desk.subscriber("one", function(_, message)
        if fail and message.payload == 2 then error "no" end
      end,
                                  { deliveries = 1 })
      local id = moonpool.uuid()
      db.exec("insert into moonpool.witness (id, operation) values ($1, 'spec')", id)
      desk.publish { { 1 }, { 2 } }
      desk.relay()
      local function messages()
        return desk.value("select count(*) from moonpool.outbox where topic = $1", desk.topic)
      end
      scratch.await("the mark to pass", function()
        desk.relay()
        return desk.value([[select low > (select max(xid) from moonpool.outbox where topic = $1)
                              from moonpool.subscriber where name = $2]], desk.topic, one)
      end)
      housekeeping.run()
      assert.are.equal(2, messages())
      assert.truthy(housekeeping.run { keep = 0 }.witnesses >= 1)
      assert.are.equal(1, messages())      -- the dead letter
      fail = false
      outbox.retry { subscriber = one }
      desk.relay()
      assert.truthy(desk.received(one):find "2")
      housekeeping.run { keep = 0 }
      assert.are.equal(0, messages())
    end)

    it("keeps what a subscriber has not seen", function()
      desk.subscriber "one"
      desk.relay()
      desk.publish { { 1 } }
      housekeeping.run { keep = 0 }
      assert.are.equal(1, desk.relay().delivered)
    end)
  end)

  describe("refuses", function()
    it("a topic or key that is none, and what is no JSON", function()
      db.transaction({}, function(tx)
        for _, arguments in ipairs { { "", 1 }, { 1, 1 }, { ("x"):rep(201), 1 }, { "a", 1, "" } } do
          assert.are.equal("INVALID_ARGUMENT",
                           failure(tx.publish, tx, table.unpack(arguments)).code)
        end
        assert.is_false(pcall(tx.publish, tx, "a", function() end))
      end)
    end)

    it("to call a subscriber", function()
      local name = desk.subscriber "one"
      assert.are.equal("NOT_CALLABLE", failure(moonpool.call, desk.subscribers[name], {}).code)
    end)

    it("to show its tables to who is not the relay", function()
      desk.publish { { 1 } }
      assert.are.equal(0, db.value "select count(*) from moonpool.outbox")
      assert.are.equal(0, db.count "delete from moonpool.delivered")
      assert.are.equal("42501", failure(db.exec, "delete from moonpool.outbox").sqlstate)
    end)
  end)
end)
