-- The server dies at once and comes back while 20 callers create deals: every deal that was
-- acknowledged is there once, the numbers have no gap, and the pool is as good as new.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local fault      = require "spec.support.workload.fault"

local CALLERS, EACH, KILL_AFTER = 20, 20, { 40, 120, 200 }

describe("a server that dies and comes back", function()
  local state, env, url

  local function run(args) -- on the cluster of this spec: no DATABASE_URL
    local output, code = command.run(args, { dir = moonpool.app_dir, env = env })
    assert.are.equal(0, code, output)
    return output
  end

  setup(function()
    state = command.folder {}
    os.execute("chmod 755 '" .. state.path .. "'")
    env = { MOONPOOL_STATE = state.path .. "/state", DATABASE_URL = false,
            MOONPOOL_OWNER_URL = false }
    run "migrate up"
    url = run("db url"):match "postgresql://%S+"
  end)
  teardown(function()
    if env then run "db stop" end
    state.remove()
  end)

  local function postmaster()
    local path = state.path .. "/state/data/postmaster.pid"
    local file = io.open(path)
      or io.popen("cat $(find '" .. state.path .. "' -name postmaster.pid)")
    local pid = file:read "n"
    file:close()
    return math.tointeger(pid)
  end

  -- Kills the server with all its backends as a crash of the machine does (immediate: nothing is
  -- written), starts it anew.
  local function crash(signal)
    local pid = assert(postmaster(), "the server does not run")
    assert(os.execute(("kill -%s %d"):format(signal, pid)))
    run "db start"
    assert.are_not.equal(pid, postmaster())
  end

  for _, signal in ipairs { "QUIT", "INT", "KILL" } do
    it("by SIG" .. signal .. " loses nothing that was acknowledged", function()
      local stream = "spec/support/workload/deal_stream.lua"
      local handle = command.start(("run %s %d %d"):format(stream, CALLERS, EACH),
        { dir = moonpool.app_dir, env = env })
      local places, made, unknown, conflicts, other, acknowledged = {}, {}, 0, 0, {}, 0
      local kills = { table.unpack(KILL_AFTER) }
      local told
      for line in handle:lines() do
        local id, number = line:match "^made (%S+) (%S+) %S+$"
        if id then
          assert.is_nil(made[id])
          made[id] = number
          acknowledged = acknowledged + 1
          if acknowledged == kills[1] then
            table.remove(kills, 1)
            crash(signal)
          end
        elseif line:find "^dealership " then
          places[#places + 1] = line:match "%S+$"
        elseif line:find "^failed " then
          local code, open = line:match "^failed (%S+) (%S+)"
          if code == "OUTCOME_UNKNOWN" and open == "true" then unknown = unknown + 1
          -- no fault of the server's
          elseif line:find("SQLSTATE 40001", 1, true) then conflicts = conflicts + 1
          else other[#other + 1] = line end
        elseif line:find "^end " then
          told = moonpool.json.decode(line:sub(5))
        end
      end
      local _, _, code = handle:close()
      assert.are.equal(0, code)
      assert.are.equal(0, #kills)
      assert.are.same({}, other)
      assert.are.equal(CALLERS * EACH, acknowledged + unknown + conflicts)

      moonpool.sleep(0) -- reading from the host has kept this one's loop from turning
      local own = db.open { url = url, max = 2 }
      local stored = 0
      for _, id in ipairs(places) do
        local place = setmetatable({ id = id, db = own }, { __index = dealership })
        local numbers, count = fault.assert_ledger(place)
        stored = stored + count
        for deal, number in pairs(numbers) do
          if made[deal] then
            assert.are.equal(made[deal], number)
            made[deal] = nil
          end
        end
      end
      own.close()
      assert.is_nil(next(made), "a deal was acknowledged and is not there")
      assert.truthy(stored >= acknowledged and stored <= acknowledged + unknown)
      assert.is_true(told.healthy)
      assert.truthy(told.lost > 0)
      assert.are.equal(0, told.active)
      assert.are.equal(0, told.waiting)
      assert.are.equal(0, told.live)
      if os.getenv "MP_CALLS" then
        print(
          ("\nSIG%s: %d acknowledged, %d unknown (%d of them stored), %d retries, %d connections \z
            lost"):format(
          signal, acknowledged, unknown, stored - acknowledged, told.retried, told.lost))
      end
    end)
  end
end)
