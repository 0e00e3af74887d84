-- moonpool relay and moonpool outbox, run as processes in a project folder of the spec's own.
local command   = require "spec.support.process.command"
local json      = require "moonpool.json"
local migration = require "spec.support.data.migration"
local outbox    = require "moonpool.outbox"

local says = migration.says

local function bill(broken)
  return ([[
    local moonpool = require "moonpool"
    return moonpool.operation { on = "spec.order", from = "oldest", deliveries = 1,
      run = function(tx, message)
      if message.payload.number == %d then error "the printer burns" end
      moonpool.log.warn("billed " .. message.payload.number)
    end }]]):format(broken)
end

local files = {
  ["migrations/.keep"] = "",
  ["scripts/place_order.lua"] = [[
    return require "moonpool".operation
      { run = function(tx, input) tx:publish("spec.order", input, input.customer) end }]],
  ["scripts/spec_bill.lua"] = bill(2),
}

describe("on the command line", function()
  local folder

  setup(function() folder = command.folder(files) end)

  teardown(function()
    folder.remove()
    outbox.forget "spec_bill"
  end)

  local function run(args, exit, env)
    local output, code = command.run(args, { dir = folder.path, env = env })
    assert.are.equal(exit, code, output)
    return output
  end

  it("messages are relayed, dead ones listed, tried again and dropped", function()
    for number = 1, 3 do
      run(("call place_order '{\"number\":%d,\"customer\":\"c\"}'"):format(number), 0)
    end
    says(run("relay --once", 0), "billed 1", "billed 3", "delivered 2, failed 1, dead letters 1",
         "the printer burns")
    says(run("outbox", 0), "spec_bill", "spec.order", "dead", "the printer burns", "1 message")
    local list = json.decode(run("outbox list --dead --subscriber spec_bill --json", 0))
    assert.are.equal(1, #list)
    assert.are.equal("spec_bill", list[1].subscriber)
    assert.are.equal(2, list[1].payload.number)
    says(run("outbox subscribers", 0), "spec_bill")
    says(run("outbox retry --message " .. list[1].message, 0), "1 message")
    folder.write("scripts/spec_bill.lua", bill(0))
    says(run("relay --once", 0), "billed 2", "delivered 1, failed 0")
    folder.write("scripts/spec_bill.lua", bill(2))
    run("call place_order '{\"number\":2}'", 0)
    run("relay --once", 0)
    says(run("outbox drop --all", 0), "drop: 1 message")
    says(run("outbox list", 0), "0 messages")
    says(run("outbox prune", 0), "removed")
    run("outbox forget spec_bill", 0)
    says(run("outbox forget spec_bill", 1), "there is no subscriber")
  end)

  it(
    "a database without the host's tables is told how to get them, and gets them without any \z
      migration", function()
    local database = require "moonpool.test".database { empty = true }
    local env = { DATABASE_URL = database.app_url, MOONPOOL_OWNER_URL = database.owner_url }
    says(run("call place_order '{\"number\":1}'", 1, env), "moonpool migrate up")
    says(run("relay --once", 1, env), "moonpool migrate up")
    run("migrate up", 0, env)
    run("call place_order '{\"number\":1}'", 0, env)
    says(run("relay --once", 0, env), "billed 1")
    database.drop()
  end)

  it("a subscriber is not called", function()
    says(run("call spec_bill '{}'", 1), "NOT_CALLABLE", "spec.order")
  end)

  it("wrong usage is told", function()
    says(run("outbox lst", 2), "unknown command lst; did you mean `list`?", "--help")
    says(run("outbox retry", 2), "--all")
    says(run("outbox prune --dead", 2), "does not go with")
    says(run("outbox forget", 2), "name")
    says(run("relay --twice", 2), "unexpected argument --twice")
    says(run("relay --help", 0), "SIGTERM")
    says(run("outbox --help", 0), "dead letters")
  end)
end)
