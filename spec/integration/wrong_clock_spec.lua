-- A host whose wall clock is wrong by hours, or jumps while it works: what is compared with a time
-- of a row is the database's clock, and how long something may take is measured by no wall clock.
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"
local service  = require "spec.support.process.http_service"
local test     = require "moonpool.test"

local HOUR = 3600

local files = {
  ["scripts/clock_job.lua"] = [[
    local moonpool = require "moonpool"
    return moonpool.operation {
      summary = "x", every = "1s",
      run = function(tx) tx:exec "insert into wrong_clock.ran default values" end,
    }]],
  ["scripts/clock_slow.lua"] = [[
    local moonpool, is = require "moonpool", require "moonpool.is"
    return moonpool.operation {
      summary = "x", read_only = true, timeout = 4, input = is.object { seconds = is.number },
      run = function(tx, input)
        tx:value("select pg_sleep($seconds)::text", { seconds = input.seconds })
        return { done = true }
      end,
    }]],
  ["scripts/clock_tells.lua"] = [[
    local moonpool = require "moonpool"
    return moonpool.operation {
      summary = "x",
      run = function(tx)
        tx:publish("clock.told", { word = "told" })
        return { n = tx:value "insert into wrong_clock.calls default values returning id" }
      end,
    }]],
  ["scripts/clock_hears.lua"] = [[
    local moonpool = require "moonpool"
    return moonpool.operation {
      summary = "x", on = "clock.told",
      run = function(tx, message)
        assert(message.deliveries > 1, "the first time it fails")
        tx:exec "insert into wrong_clock.heard default values"
      end,
    }]],
}

describe("a host with a wrong clock", function()
  local schema, owner, file, folder, host

  setup(function()
    schema = scratch.schema("wrong_clock", {
      "create table wrong_clock.ran (at timestamptz not null default clock_timestamp())",
      "create table wrong_clock.calls (id bigint generated always as identity)",
      "create table wrong_clock.heard (id bigint generated always as identity)",
    })
    owner = schema.owner
    folder = command.folder {}
    file = folder.path .. "/offset"
  end)
  teardown(function()
    schema.drop()
    folder.remove()
  end)
  before_each(function() owner.exec "delete from moonpool.schedule" end)
  after_each(function()
    if host then host:stop() end
    host = nil
    require "moonpool.outbox".forget "clock_hears"
  end)

  -- The same file is written again: the processes have mapped it.
  local function set(hours)
    local handle = io.open(file, "r+b") or assert(io.open(file, "wb"))
    handle:write(string.pack("=i8", hours * HOUR))
    handle:close()
  end

  local function settings()
    return command.preloaded { WRONG_CLOCK = file }
  end

  local function start(hours)
    set(hours)
    host = service.start(files, { env = settings() })
  end

  local function ran() return owner.value "select count(*) from wrong_clock.ran" end

  local function more_runs(n)
    local before = ran()
    scratch.await(n .. " more runs", function()
      moonpool.sleep(0.02)
      return ran() >= before + n
    end)
  end

  it("has one", function()
    set(6)
    local output = scratch.script("print(os.time()) print((require 'moonpool'.now()))", settings())
    local seconds, text = output:match "^(%d+)\n(%S+)"
    local now = db.value "select extract(epoch from clock_timestamp())::float8"
    assert.is_true(math.abs(tonumber(seconds) - now - 6 * HOUR) < 60, output)
    local from_text = db.value("select extract(epoch from $1::timestamptz)::float8", text)
    assert.is_true(math.abs(from_text - now - 6 * HOUR) < 60, output)
  end)

  for _, hours in ipairs { 6, -6, 400 * 24 } do
    it(("of %+d h runs schedules when they are due, also when it jumps"):format(hours), function()
      start(hours)
      more_runs(2)
      set(-hours)
      more_runs(3)
      scratch.await("a run that is over and was due by the database's clock", function()
        return owner.value [[
          select due <= clock_timestamp() and finished_at <= clock_timestamp()
            from moonpool.schedule where operation = 'clock_job']] -- NULL while it runs
      end)
    end)
  end

  it("takes a token as long as the database does, and not longer", function()
    start(48)
    local args = "token create --json --days 1 --allow-unknown --scopes ops:clock_tells"
    local output, code = command.run(args, { dir = moonpool.app_dir, env = settings() })
    assert.are.equal(0, code, output)
    local made = moonpool.json.decode(output)
    assert.is_true(owner.value([[select expires_at between clock_timestamp() + interval '23 hours'
      and clock_timestamp() + interval '25 hours' from moonpool.token where id = $1]], made.id))
    local function status()
      return service.ask(host, "POST", "/api/ops/clock_tells", { token = made.token }).status
    end
    assert.are.equal(200, status())
    set(-48)
    owner.exec("update moonpool.token set expires_at = clock_timestamp() where id = $1", made.id)
    scratch.await("the end of the token", function()
      moonpool.sleep(0.05)
      return status() == 401
    end)
  end)

  local function sleeps()
    scratch.await("the call", function()
      return test.admin().value "select true from pg_stat_activity where wait_event = 'PgSleep'"
    end)
  end

  it("gives a call its time, whatever the clock does meanwhile", function()
    start(0)
    local slow = host:send { ["do"] = "call", name = "clock_slow", input = { seconds = 1.5 } }
    sleeps()
    set(6)
    assert.is_true(slow.finish().ok)
    local hangs = host:send { ["do"] = "call", name = "clock_slow", input = { seconds = 600 } }
    sleeps()
    set(-6)
    assert.are.equal("DEADLINE_EXCEEDED", hangs.finish().error.code)
  end)

  it("gives a key its first answer, whatever the clock does meanwhile", function()
    start(0)
    local token = service.token "--scopes ops:clock_tells"
    local function call(key)
      local answer = service.ask(host, "POST", "/api/ops/clock_tells",
                                 { token = token, headers = { ["Idempotency-Key"] = key } })
      assert.are.equal(200, answer.status, answer.body)
      return answer.json.result.n
    end
    local first = call "a"
    for _, hours in ipairs { 400 * 24, -400 * 24, 6, 0 } do
      set(hours)
      assert.are.equal(first, call "a")
      assert.are_not.equal(first, call("at " .. hours))
    end
    host:stop() -- with the deliveries of what was told
    host = nil
    owner.exec "delete from moonpool.outbox where topic = 'clock.told'"
    owner.exec "truncate wrong_clock.heard"
  end)

  it("delivers a message again when its pause is over", function()
    start(6)
    assert.is_true(host:call("clock_tells", moonpool.json.object()).ok)
    scratch.await("a failed delivery", function()
      return owner.value "select true from moonpool.failure where subscriber = 'clock_hears'"
    end)
    set(-6)
    scratch.await("the delivery", function()
      return owner.value "select true from wrong_clock.heard"
    end)
    scratch.await("the end of the failure", function()
      return not owner.value "select true from moonpool.failure where subscriber = 'clock_hears'"
    end)
  end)
end)
