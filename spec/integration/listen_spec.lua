-- db.listen and db.notify: notifications on a connection of their own.
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local inline   = require "spec.support.data.inline"
local scratch  = require "spec.support.data.scratch"
local test     = require "moonpool.test"

local number = 0

describe("db.listen", function()
  local channel, got, handles

  before_each(function()
    number = number + 1
    channel, got, handles = ("spec \"listen\" %d"):format(number), {}, {}
  end)

  after_each(function()
    for _, handle in ipairs(handles) do handle:close() end
  end)

  local function listen(name, fn)
    handles[#handles + 1] = db.listen(name, fn or function(payload, event)
      got[#got + 1] = payload or event
    end)
    return handles[#handles]
  end

  local function await(...)
    local list = { ... }
    scratch.await("the notifications", function() return #got >= #list end)
    assert.are.same(list, got)
  end

  local function backend()
    return test.admin().value [[
      select pid from pg_stat_activity where application_name = 'moonpool listen'
        and datname = 'moonpool']]
  end

  it("calls the function for each notification, in order", function()
    listen(channel)
    for i = 1, 5 do db.notify(channel, "message " .. i) end
    db.notify(channel)
    db.notify(channel, "a \\ and a 'quote'")
    await("message 1", "message 2", "message 3", "message 4", "message 5", "", "a \\ and a 'quote'")
  end)

  it("hears nothing of other channels, and of transactions that were rolled back", function()
    listen(channel)
    db.notify(channel .. "x", "no")
    pcall(db.transaction, {}, function(tx)
      tx:query("select pg_notify($1, 'no')", channel)
      error "no"
    end)
    db.transaction({}, function(tx) tx:query("select pg_notify($1, 'yes')", channel) end)
    await "yes"
  end)

  it("serves several listeners, and stops at close", function()
    local other = {}
    local first = listen(channel)
    listen(channel, function(payload) other[#other + 1] = payload end)
    db.notify(channel, "1")
    await "1"
    first:close()
    first:close()
    db.notify(channel, "2")
    scratch.await("the other", function() return #other == 2 end)
    assert.are.same({ "1" }, got)
  end)

  it("calls a function that waits for one notification after the other, and one that fails again",
     function()
    local inside = 0
    listen(channel, function(payload)
      inside = inside + 1
      assert.are.equal(1, inside)
      db.value "select 1"
      inside = inside - 1
      got[#got + 1] = payload
      if payload == "2" then error "this one fails" end
    end)
    for i = 1, 4 do db.notify(channel, tostring(i)) end
    await("1", "2", "3", "4")
  end)

  it("tells of the gap when its connection was lost, and listens again", function()
    listen(channel)
    test.admin().value("select pg_terminate_backend($1, 10000)", backend())
    scratch.await("the news of the gap", function() return got[1] == "reconnected" end)
    db.notify(channel, "after")
    await("reconnected", "after")
  end)

  it("uses no connection of the pool, and none when nobody listens", function()
    local before = backend()      -- somebody else's in this process
    local handle <close> = listen(channel)
    assert.truthy(backend())
    inline.with_pool_of(1, function()
      db.notify(channel, "1")
      await "1"
    end)
    handle:close()
    if not before then
      scratch.await("the connection to end", function() return not backend() end)
    end
    listen(channel)
    db.notify(channel, "2")
    await("1", "2")
  end)

  it("ends with a task that is ended while it waits, and with the host", function()
    local output, exit = scratch.script [[
      local db = require "moonpool.db"
      db.listen("spec", print)
      db.notify("spec", "x")
      print "end"
    ]]
    assert.are.equal(0, exit, output)
    assert.truthy(output:find("end", 1, true))
  end)

  it("refuses what is no channel or function, and operations", function()
    for _, arguments in ipairs { { "", print }, { ("x"):rep(64), print }, { 1, print }, { "x" } } do
      assert.are.equal("INVALID_ARGUMENT", failure(db.listen, table.unpack(arguments)).code)
    end
    local e = inline.refusal(function() db.listen("x", print) end)
    assert.are.equal("INVALID_ARGUMENT", e.code)
  end)

  it("raises when the database cannot be reached", function()
    local output, exit = scratch.script([[
      print(pcall(require "moonpool.db".listen, "spec", print))
    ]], { DATABASE_URL = "postgres://127.0.0.1:1/none" })
    assert.are.equal(0, exit, output)
    assert.truthy(output:find("false", 1, true), output)
  end)
end)
