-- Many callers at once: more than there are connections, and from several hosts for one dealership.
-- MP_CALLS: how many calls each further host makes (1,000).
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local test       = require "moonpool.test"
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local fault      = require "spec.support.workload.fault"

local per_host = math.tointeger(os.getenv "MP_CALLS") or 1000

describe("a crowd of callers", function()
  local ours

  before_each(function() ours = dealership.new() end)
  after_each(fault.assert_quiet)

  -- Starts hosts that make `calls` deals each, lets them begin together, calls `meanwhile`, gives
  -- what they tell.
  local function hosts(n, calls, env, meanwhile)
    local handles = {}
    local gate = math.random(1 << 40)
    db.lease(function(conn)
      conn.value("select pg_advisory_lock($1::bigint)::text", gate)
      for i = 1, n do
        handles[i] = command.start(("run spec/support/workload/deal_maker.lua %s %s %d %d"):format(
          ours.id, ours.salesperson.id, calls, gate), { dir = moonpool.app_dir, env = env })
      end
      for _, handle in ipairs(handles) do assert.are.equal("ready", handle:read "l") end
      conn.value("select pg_advisory_unlock($1::bigint)", gate)
    end)
    if meanwhile then meanwhile() end
    local told = {}
    for i, handle in ipairs(handles) do
      local output, code = command.finish(handle)
      assert.are.equal(0, code, output)
      told[i] = moonpool.json.decode(output:match "[^\n]*\n?$")
    end
    return told
  end

  local function assert_all_well(told, calls)
    assert.are.equal(0, told.failed, moonpool.json.encode(told.errors))
    assert.are.equal(calls, told.ok)
    assert.are.equal(0, told.active)
    assert.are.equal(0, told.waiting)
    assert.are.equal(0, told.live)
  end

  it("of 200 on a pool of 5 is served whole", function()
    local told = hosts(1, 200, { DB_POOL_MAX = "5" })[1]
    assert_all_well(told, 200)
    assert.truthy(told.most_connections <= 5, told.most_connections)
    local _, deals = fault.assert_ledger(ours)
    assert.are.equal(200, deals)
  end)

  it("of 200 with lanes of their own on a pool of 5 is served whole", function()
    local told = {}
    local five = db.open { url = moonpool.host.app_url, max = 5 }
    local work = {}
    for i = 1, 200 do
      work[i] = function()
        five.transaction({ tenant = ours.id }, function(tx)
          tx:insert("customers", { id = tx:uuid(), dealership_id = ours.id, first_name = "Crowd",
                                   last_name = tostring(i) })
          told[i] = tx:value "select pg_backend_pid()"
        end)
      end
    end
    moonpool.all(work)
    local pids, count = {}, 0
    for i = 1, 200 do pids[told[i]] = true end
    for _ in pairs(pids) do count = count + 1 end
    assert.truthy(count <= 5, count)
    assert.are.equal(200, ours:count("customers"))
    five.close()
  end)

  -- Tables of a few pages: whoever writes them touches the same pages, and SERIALIZABLE locks pages
  -- of indexes.
  it("for 20 dealerships of a new database hears of no conflict between them", function()
    local base = test.database()
    local output, code = command.run("run spec/support/workload/deal_stream.lua 100 20",
      { dir = moonpool.app_dir, env = { DATABASE_URL = base.app_url } })
    base.drop()
    assert.are.equal(0, code, output)
    local made, failed = select(2, output:gsub("made ", "")), {}
    for line in output:gmatch "failed [^\n]*" do failed[#failed + 1] = line end
    if os.getenv "MP_CALLS" then
      print(("\n%d deals for 20 dealerships, %s"):format(made, output:match "end [^\n]*"))
    end
    assert.are.same({}, failed)
    assert.are.equal(2000, made)
  end)

  it("from three hosts for one dealership gets numbers without gap or duplicate", function()
    local own = math.min(per_host, 200)
    local mine = { ok = 0, retries = 0, errors = {} }
    local from = moonpool.host.clock()
    local told = hosts(2, per_host, nil, function()
      local work = {}
      for i = 1, own do
        work[i] = function()
          local ok, result, info = pcall(moonpool.call_info, "create_deal", ours:deal_input {
            customer_data = { first_name = "Here", last_name = tostring(i) } }, { timeout = 500 })
          if ok then
            mine.ok = mine.ok + 1
            mine.retries = mine.retries + info.attempts - 1
          else
            mine.errors[#mine.errors + 1] = tostring(result)
          end
        end
      end
      moonpool.all(work)
    end)
    if os.getenv "MP_CALLS" then
      print(
        ("\n%d deals from three hosts in %.1f s; retries here %d, there %d and %d; slowest call \z
          %d ms; errors %d"):format(
        own + 2 * per_host, moonpool.host.clock() - from, mine.retries,
        told[1].attempts - told[1].ok,
        told[2].attempts - told[2].ok, math.max(told[1].slowest_ms, told[2].slowest_ms),
        #mine.errors + told[1].failed + told[2].failed))
    end
    assert.are.equal(own, mine.ok, mine.errors[1])
    assert_all_well(told[1], per_host)
    assert_all_well(told[2], per_host)
    local _, deals = fault.assert_ledger(ours)
    assert.are.equal(own + 2 * per_host, deals)
  end)
end)
