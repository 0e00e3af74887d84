-- The outbox: the message with which a subscriber begins.
local db       = require "moonpool.db"
local letters  = require "spec.support.data.letters"
local moonpool = require "moonpool"
local outbox   = require "moonpool.outbox"
local scratch  = require "spec.support.data.scratch"

describe("the outbox", function()
  local schema, desk

  setup(function() schema = letters.schema "letters" end)
  teardown(function() schema.drop() end)
  before_each(function() desk = letters.new "letters" end)
  after_each(function()
    for name in pairs(desk.subscribers) do outbox.forget(name) end
  end)

  describe("begins, for a subscriber that is not known,", function()
    local before, after = { { 1, "a" }, { 2, "b" }, { 3 } }, { { 4, "a" }, { 5 } }

    -- What it has got, in no order.
    local function received(name)
      local words = {}
      for word in desk.received(name):gmatch "%S+" do words[#words + 1] = word end
      table.sort(words)
      return table.concat(words, " ")
    end

    it("with what is published from then on", function()
      desk.publish(before)
      local one = desk.subscriber("one", nil, { from = "now" })
      assert.are.same({ delivered = 0, failed = 0, dead = 0 }, desk.relay())
      desk.publish(after)
      desk.relay()
      assert.are.equal("4 5", received(one))
      desk.relay()
      assert.are.equal("4 5", received(one))
    end)

    it("with the oldest message kept, if it says so", function()
      desk.publish(before)
      local one = desk.subscriber("one", nil, { from = "oldest" })
      desk.relay()
      desk.publish(after)
      desk.relay()
      assert.are.equal("1 2 3 4 5", received(one))
    end)

    it("with what commits from then on, however long a transaction has been running", function()
      local gate, opened = { open = false }, false
      local late = moonpool.spawn(db.transaction, function(tx)
        tx:publish(desk.topic, "late", "a")
        tx:flush()
        opened = true
        scratch.await("the gate", function() return gate.open end)
      end)
      scratch.await("the transaction", function() return opened end)
      desk.publish(before)
      local one = desk.subscriber("one", nil, { from = "now" })
      desk.relay()
      desk.publish(after)
      desk.relay()
      gate.open = true
      late:wait()
      desk.relay()
      assert.are.equal('"late" 4 5', received(one))
    end)

    it("anew where its topic is another now", function()
      local one = desk.subscriber("one", nil, { from = "now" })
      desk.relay()
      local elsewhere = desk.topic .. ".elsewhere"
      db.transaction(function(tx) tx:publish(elsewhere, "old") end)
      desk.subscriber("one", nil, { from = "now", on = elsewhere })
      desk.relay()
      db.transaction(function(tx) tx:publish(elsewhere, "new") end)
      desk.relay()
      assert.are.equal('"new"', received(one))
    end)

    it("where one that it was renamed from has ended", function()
      local fail = true
      local old = desk.subscriber("old", function(_, message)
        if fail and message.payload == 2 then error "not yet" end
      end)
      desk.publish(before)
      desk.relay { backoff = 3600 }
      assert.are.equal("1 3", received(old))
      desk.subscribers[old] = nil
      fail = false
      local new = desk.subscriber("new", nil, { renamed_from = old })
      desk.publish(after)
      desk.relay()
      assert.are.equal("4 5", received(new))
      outbox.retry { subscriber = new }
      desk.relay()
      assert.are.equal("2 4 5", received(new))
      assert.is_false(outbox.forget(old))
    end)

    it("not before a relay that serves the one it was renamed from has ended", function()
      local busy, go_on, stop = false, false, false
      local old = desk.subscriber("old", function()
        busy = true
        scratch.await("leave", function() return go_on end)
      end)
      desk.publish { { 1 } }
      local mine = { [old] = desk.subscribers[old] }
      local relay = moonpool.spawn(outbox.run, { subscribers = mine, poll = 0.01, stop = function()
        return stop
      end })
      scratch.await("the delivery", function() return busy end)
      desk.subscribers[old] = nil
      local new = desk.subscriber("new", nil, { renamed_from = old })
      desk.relay()
      assert.are.equal("", received(new))
      go_on, stop = true, true
      relay:wait()
      desk.publish { { 2 } }
      scratch.await("its turn", function()
        desk.relay()
        return received(new) == "2"
      end)
      assert.are.equal("1", received(old))
    end)
  end)
end)
