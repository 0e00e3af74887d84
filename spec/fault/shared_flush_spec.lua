-- Calls that share a flush, and a server that crashes between their COMMITs and that flush: what
-- was answered is there, once; what was not is done again.
local backend_kills = require "spec.support.workload.backend_kills"
local caller        = require "spec.support.process.caller"
local cluster       = require "spec.support.process.cluster"
local db            = require "moonpool.db"
local dealership    = require "spec.support.data.dealership"
local fault         = require "spec.support.workload.fault"
local moonpool      = require "moonpool"
local random        = require "spec.support.data.random"

local SHARED = { MOONPOOL_FLUSH = "shared" }

describe("a server that crashes before a shared flush", function()
  local own, direct

  setup(function()
    own = cluster.start()
    own:ask "alter system set wal_writer_delay = '10s'" -- else that process flushes, too
    own:ask "select pg_reload_conf()"
    direct = db.open { url = own.url, max = 2 }
  end)
  teardown(function()
    direct.close()
    own:stop()
  end)

  local function last_name(name)
    return { customer_data = { first_name = "Shared", last_name = name } }
  end

  it("forgets work that nobody was told of, and that is done again", function()
    local ours = dealership.new { db = direct }
    local host = caller.start(own.url, SHARED)
    local gate = db.open { url = own.admin_url, max = 2 }
    repeat -- the first COMMITs find no connection for the flush, and flush by themselves
      assert(host:call("create_deal", ours:deal_input(last_name "Warm")).ok)
    until gate.value "select true from moonpool.witness where operation = 'flush'"
    pcall(gate.lease, function(conn)
      conn.exec "begin"
      conn.exec "select from moonpool.witness where operation = 'flush' for update"
      host:start_call("create_deal", ours:deal_input(last_name "Told"), { timeout = 60 })
      fault.eventually("the call's work is visible", function()
        return gate.value "select true from customers where last_name = 'Told'"
      end)
      own:crash "QUIT"
    end)
    gate.close()
    local answer = host:answer()
    host:stop()
    assert.is_true(answer.ok, moonpool.json.encode(answer))
    assert.are.equal(1, ours:count("customers", { last_name = "Told" }))
    assert.truthy(fault.assert_ledger(ours)[answer.result.deal.id])
  end)

  it("loses nothing that was answered, and doubles nothing", function()
    local report, details = backend_kills.run {
      callers = 20, each = 20, stop = 5, own = own, env = SHARED, seed = random.seed() }
    local text = table.concat(details, "\n")
    for _, kind in ipairs { "lost", "duplicated", "orphaned", "denied", "unresolved", "left" } do
      assert.are.equal(0, report[kind], kind .. "\n" .. text)
    end
    assert.are.equal(5, report.harmed)
  end)
end)
