-- What create_deal sends, and what is made of answers that are not as they should be.
local moonpool   = require "moonpool"
local test       = require "moonpool.test"
local caller     = require "spec.support.process.caller"
local dealership = require "spec.support.data.dealership"
local fault      = require "spec.support.workload.fault"
local proxy      = require "spec.support.process.proxy"

describe("on the wire", function()
  local wire, host, ours

  setup(function()
    wire = proxy.start()
    host = caller.start(wire:url(moonpool.host.app_url), { DB_POOL_MAX = "1" })
    ours = dealership.new()
  end)
  teardown(function()
    host:stop()
    wire:stop()
  end)

  local function create(...)
    wire:watch(...)
    return host:call("create_deal",
                     ours:deal_input { customer_data = { first_name = "Wyn", last_name = "Ire" } })
  end

  -- The segments that the host sent: each a list of the commands that it executes.
  local function segments()
    create()
    create()
    local list, now = {}, {}
    for _, message in ipairs(wire:list()) do
      if message.side == "F" and message.name == "Execute" then now[#now + 1] = message.command end
      if message.side == "F" and message.name == "Sync" then list[#list + 1], now = now, {} end
    end
    return list
  end

  it("BEGIN travels with the first statements, and COMMIT with the last", function()
    local begins, commits = 0, 0
    for _, segment in ipairs(segments()) do
      for i, word in ipairs(segment) do
        if word == "BEGIN" then
          begins = begins + 1
          assert.are.equal(1, i)
          assert.truthy(#segment > 2,
                        "BEGIN is alone: if it fails, the statements behind it commit one by one")
        elseif word == "COMMIT" then
          commits = commits + 1
          assert.are.equal(#segment, i)
          assert.truthy(#segment > 2)
        end
      end
    end
    assert.are.equal(1, begins)
    assert.are.equal(1, commits)
  end)

  it("two round trips make a deal, and its lock is given back", function()
    create()
    create()
    local answer = create()
    assert.are.equal(2, answer.info.round_trips)
    fault.eventually("no lock is held", function()
      return test.admin().value "select count(*) = 0 from pg_locks where locktype = 'advisory'"
    end)
    create()
    -- the same connection
    for _, message in ipairs(wire:list()) do assert.are_not.equal("Startup", message.name) end
  end)

  it("COMMIT that is answered with ROLLBACK is no success", function()
    local answer = create "B commit tag ROLLBACK"
    assert.are_not.equal("none", wire:order "told")
    assert.is_false(answer.ok)
    assert.truthy(answer.error.message:find("ROLLBACK", 1, true), answer.error.message)
  end)
end)
