-- Operations that run by themselves: on time, on one host of many, and never piled up.
local command  = require "spec.support.process.command"
local db       = require "moonpool.db"
local failure  = require "spec.support.data.failure"
local http     = require "spec.support.process.http_service"
local moonpool = require "moonpool"
local outbox   = require "moonpool.outbox"
local scratch  = require "spec.support.data.scratch"
local serving  = require "spec.support.process.serving"
local store    = require "moonpool.outbox.store"

-- Seconds pass until something is due: the database is not asked all the time.
local function await(what, fn)
  return scratch.await(what, function()
    moonpool.sleep(0.02)
    return fn()
  end)
end

describe("an operation with `every`", function()
  local schema, owner
  local hosts = {}

  lazy_setup(function()
    schema = scratch.schema("sched",
                            { "create table sched.ran (at timestamptz not null default \z
                              clock_timestamp(), by text)" })
    owner = schema.owner
  end)
  lazy_teardown(function() schema.drop() end)
  before_each(function()
    owner.exec "truncate sched.ran"
    owner.exec "delete from moonpool.schedule"
  end)
  after_each(function()
    for _, host in ipairs(hosts) do host:stop() end
    hosts = {}
  end)

  local function start(files, env)
    hosts[#hosts + 1] = serving.start(files, { env = env })
    return hosts[#hosts]
  end

  local function job(every, body)
    return { ["scripts/job.lua"] = ([[
      local moonpool = require "moonpool"
      return moonpool.operation { summary = "job", every = %q,
        run = function(tx) %s end }]]):format(every, body or
      "tx:exec \"insert into sched.ran (by) values ('job')\"") }
  end

  local function ran() return db.value "select count(*) from sched.ran" end
  local function row() return db.first "select * from moonpool.schedule where operation = 'job'" end

  it("runs", function()
    local host = start(job "1s")
    await("two runs", function() return ran() >= 2 end)
    local list = host:ask { ["do"] = "schedules" }.schedules
    assert.are.equal(1, #list)
    assert.are.equal("job", list[1].operation)
    assert.are.equal("1s", list[1].every)
    assert.is_true(list[1].runs >= 2)
    assert.are.equal(0, list[1].failures)
  end)

  it("runs once for each due time, however many hosts there are", function()
    for _ = 1, 3 do start(job "1s") end
    await("four runs", function() return ran() >= 4 end)
    for _, host in ipairs(hosts) do host:stop() end
    hosts = {}
    -- Each run belongs to a due time of its own, so there are not more than there were seconds.
    assert.are.equal(row().runs, ran())
    local seconds = db.value "select extract(epoch from max(at) - min(at)) from sched.ran"
    assert.is_true(ran() <= tonumber(tostring(seconds)) + 2)
  end)

  it("that fails is counted with its error, and runs again", function()
    start(job("1s", 'moonpool.fail("NO_LUCK", "not today")'))
    await("two failures", function()
      local now = row()
      return now and now.failures >= 2
    end)
    assert.truthy(row().last_error:find("not today", 1, true))
  end)

  it("runs once after a pause; the times between are counted as missed", function()
    owner.exec "insert into moonpool.schedule (operation, due) values ('job', date_trunc('hour', \z
      now()) - interval '3 hours')"
    start(job "1h")
    await("the run", function()
      local now = row()
      return now and now.finished_at
    end)
    assert.are.equal(1, ran())
    assert.is_true(row().missed == 2 or row().missed == 3) -- 3 if an hour has just begun
  end)

  it("does not run while another host holds it, and does when that host has died", function()
    owner.exec [[insert into moonpool.schedule (operation, due, host, held_until)
                 values ('job', now() - interval '1 hour', 'dead/1', now() + interval '1 hour'),
                        ('free', now() - interval '1 hour', 'dead/1', now() - interval '1 second')]]
    local files = job "1s"
    files["scripts/free.lua"] = files["scripts/job.lua"]:gsub("'job'", "'free'")
    start(files)
    await("the other's run", function() return ran() >= 1 end)
    assert.are.equal(0, db.value "select count(*) from sched.ran where by = 'job'")
    assert.are.equal(1, db.value "select failures from moonpool.schedule where operation = 'free'")
  end)

  it("that a host died in goes on soon after, by another", function()
    start(
      job(
        "2s",
        "tx:exec \"insert into sched.ran (by) values ('job')\" tx:value \"select pg_sleep(600)\""))
    await("the run", function()
      local now = row()
      return now and now.held_until
    end)
    -- Renewed while the run lives, and never for long.
    local first = row().held_until
    await("a renewal", function() return row().held_until ~= first end)
    assert.is_true(
      db.value "select held_until - clock_timestamp() < interval '20 seconds' from \z
        moonpool.schedule")
    os.execute(("kill -9 %d"):format(hosts[1]:pid()))
    -- Which is over as soon as that time has passed.
    owner.exec "update moonpool.schedule set held_until = held_until - interval '20 seconds'"
    -- As the host's role: another one does not see the texts of its statements.
    assert.are.equal(1, #db.query [[select pg_terminate_backend(pid) from pg_stat_activity
                                     where query like '%pg_sleep(600)%'
                                       and pid <> pg_backend_pid()]])
    start(job "2s", { MOONPOOL_DRAIN_TIMEOUT = "100" })
    local runs = row().runs
    await("the next run", function() return row().runs > runs and ran() >= 1 end)
    assert.is_true(row().failures >= 1)
  end)

  it("goes on where a clock that was wrong has put its due time, and says so", function()
    owner.exec "insert into moonpool.schedule (operation, due) values ('job', now() + interval \z
      '400 days')"
    local host = start(job "1s")
    await("two runs", function() return ran() >= 2 end)
    assert.truthy(host:log():find("job: its last due time, .-, lies in the future"))
  end)

  it("stands on the dashboard's pages, and rings when it fails", function()
    local files = job("1s", 'moonpool.fail("NO_LUCK", "not today")')
    files["scripts/hears.lua"] =
      [[return require "moonpool".operation { on = "sched.topic", deliveries = 1,
      run = function() error "no" end }]]
    files["scripts/says.lua"] = [[return require "moonpool".operation {
      run = function(tx) tx:publish("sched.topic", 1) end }]]
    local host = http.start(files)
    hosts[1] = host
    local token = http.token "--scopes monitor"
    assert.is_true(host:call("says", {}).ok)
    local function ask(path) return http.ask(host, "GET", path, { token = token }).json end
    local failing = await("the failures", function()
      local found = ask "/api/db/schedules".schedules[1]
      return found and found.failed >= 2 and found.failing >= 1 and found
    end)
    assert.are.equal("job", failing.operation)
    assert.is_nil(failing.lastSuccess)
    assert.truthy(failing.nextRun)
    local dead = await("the dead letter", function()
      local found = ask "/api/db/messages".subscribers[1]
      return found and found.deadLetters == 1 and found
    end)
    assert.are.same({ "hears", 1, 0 }, { dead.subscriber, dead.failed, dead.waiting })
    local overview = ask "/api/db/overview"
    assert.are.same({ 1, 1 }, { #overview.messages, #overview.schedules })
    await("the alerts", function()
      local names = {}
      for _, alert in ipairs(ask "/api/db/alerts".alerts) do names[alert.name] = alert.message end
      return names.failing_schedules and names.dead_letters
        and names.dead_letters:find("hears (1)", 1, true)
    end)
    outbox.forget "hears"
  end)

  it("tells why a run failed, and in which call", function()
    local host = start(job("1s", "local x = nil; return x.y"))
    await("a failure", function()
      local now = row()
      return now and now.failures >= 1
    end)
    assert.truthy(row().last_error:find "attempt to index a nil value.*%(call %x+%-")
    assert.truthy(host:log():find "job, due at %S+, failed: .-attempt to index a nil value")
    local page = host:ask { ["do"] = "metrics" }.text
    assert.truthy(page:find('moonpool_schedule_runs_total{operation="job",result="failed"} ', 1,
                            true))
  end)

  describe("and `for_each`", function()
    local tenants

    lazy_setup(function()
      owner.exec "create table sched.shops (id uuid not null, name text)"
      owner.exec "alter table sched.shops enable row level security, force row level security"
      owner.exec "create table sched.secret (id uuid)"
      owner.exec "grant usage on schema sched to moonpool_system"
      owner.exec "grant select on sched.shops to moonpool_system"
      owner.exec [[create table sched.visits (shop uuid not null, setting text,
                                              at timestamptz not null default clock_timestamp())]]
      owner.exec "grant select, insert on sched.visits to moonpool_app"
    end)
    before_each(function()
      owner.exec "truncate sched.shops, sched.visits"
      tenants = {}
      for i = 1, 5 do
        tenants[i] = moonpool.uuid()
        owner.exec("insert into sched.shops (id) values ($1)", tenants[i])
      end
    end)

    local function visiting(every, more, body)
      return { ["scripts/visit.lua"] = ([[
        local moonpool, is = require "moonpool", require "moonpool.is"
        return moonpool.operation { every = %q, tenant = "shop_id",
          for_each = "select id from sched.shops", %s
          input = is.object { shop_id = is.uuid },
          run = function(tx, input)
            %s
            tx:exec("insert into sched.visits (shop, setting) \z
                     values ($1, current_setting('app.shop_id'))", input.shop_id)
          end }]]):format(every, more or "", body or "") }
    end

    local function visits(tenant)
      return db.value("select count(*) from sched.visits where shop = $1::uuid and setting = $2",
                      tenant, tenant)
    end

    local function each_has(n)
      return function()
        for _, tenant in ipairs(tenants) do
          if visits(tenant) < n then return false end
        end
        return true
      end
    end

    it("runs for each tenant, as that tenant, on one of several hosts, with a last and a next time",
       function()
      for _ = 1, 2 do start(visiting "1s") end
      await("two visits each", each_has(2))
      local list = hosts[1]:ask { ["do"] = "schedules" }.schedules
      assert.are.equal("select id from sched.shops", list[1].for_each)
      assert.are.equal(5, #list[1].tenants)
      for _, item in ipairs(list[1].tenants) do
        assert.is_true(item.runs >= 1)
        assert.truthy(item.last_success)
        assert.truthy(item.next_due:find "^%d+%-")
      end
      for _, host in ipairs(hosts) do host:stop() end
      hosts = {}
      assert.are.equal(
        db.value "select sum(runs)::bigint from moonpool.schedule where operation = 'visit'",
        db.value "select count(*) from sched.visits")
    end)

    it("goes on for the others when it fails for one", function()
      local bad = tenants[3]
      start(
        visiting("1s", nil, ('if input.shop_id == "%s" then moonpool.fail("SHUT", "shut") end')
          :format(bad)))
      table.remove(tenants, 3)
      await("two visits each", each_has(2))
      await("its failures", function()
        return db.value(
          "select failing >= 2 and last_error like 'SHUT%' from moonpool.schedule \z
            where tenant = $1", bad)
      end)
      assert.are.equal(0, visits(bad))
    end)

    it("has `concurrency` at a time", function()
      start(visiting("1s", "concurrency = 2,", 'tx:value "select pg_sleep(0.2)"'))
      local most = 0
      await("a visit each", function()
        most = math.max(
          most, db.value "select count(*) from moonpool.schedule where held_until is not null")
        return each_has(1)()
      end)
      assert.is_true(most <= 2, most)
    end)

    it("follows who the tenants are", function()
      start(visiting "1s")
      await("a visit each", each_has(1))
      local gone = table.remove(tenants)
      owner.exec("delete from sched.shops where id = $1", gone)
      tenants[#tenants + 1] = moonpool.uuid()
      owner.exec("insert into sched.shops (id) values ($1)", tenants[#tenants])
      await("a visit of the new one", each_has(1))
      await("the end of the other", function()
        return not db.first("select from moonpool.schedule where tenant = $1", gone)
      end)
    end)

    it("spreads them over the interval", function()
      start(visiting "1000s")
      local list = await("its rows", function()
        local found = hosts[1]:ask { ["do"] = "schedules" }.schedules[1].tenants
        return #found == 5 and found
      end)
      local times, different = {}, 0
      for _, item in ipairs(list) do
        if not times[item.next_due] then different = different + 1 end
        times[item.next_due] = true
      end
      assert.is_true(different >= 3)
    end)

    it("is told when the tenants cannot be read", function()
      local files = visiting "1s"
      files["scripts/visit.lua"] = files["scripts/visit.lua"]:gsub("sched.shops", "sched.secret")
      local host = start(files)
      await("the line", function() return host:log():find("granted select", 1, true) end)
    end)

    it("is read for the host only", function()
      assert.are.equal("42501", failure(db.query, "select moonpool.tenants('select 1')").sqlstate)
      local function read(text)
        return store.with(function(conn) return conn.query("select moonpool.tenants($1)", text) end)
      end
      assert.are.equal(1, #read "select 1")
      for _, text in ipairs { "delete from sched.shops returning id",
                              "select 1) q(t); delete from sched.shops; select (1",
        "insert into sched.shops values ('0190aaaa-0000-7000-8000-000000000001') returning id" } do
        assert.is_false((pcall(read, text)))
      end
      assert.are.equal(5, owner.value "select count(*) from sched.shops")
    end)
  end)

  it("follows a reload", function()
    local host = start(job "366d")
    host:write(job "1s")
    assert.is_true(host:reload().ok)
    await("a run", function() return ran() >= 1 end)
  end)

  describe("is refused by a reload", function()
    local cases = {
      { 'every = "often", run = print', 'every must be an interval' },
      { 'every = "61 * * * *", run = print', "minute" },
      { 'every = "1m", tenant = "shop_id", input = is.object { shop_id = is.uuid }, run = print',
        "no caller whose tenant" },
      { 'every = "1m", tenant = "shop_id", for_each = "delete from x", input = is.object { \z
        shop_id = is.uuid }, run = print',
        "for_each must be one SELECT" },
      { 'every = "1m", for_each = "select 1", run = print', "needs `tenant`" },
      { 'every = "1m", input = is.object { color = is.string }, run = print', "need defaults" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local host = serving.start({ ["scripts/job.lua"] =
          'local moonpool, is = require "moonpool", require "moonpool.is"\nreturn \z
            moonpool.operation { ' .. case[1] .. " }" },
          { broken = true })
        hosts[1] = host
        assert.are.equal(1, host:wait())
        assert.truthy(host:log():find("scripts/job.lua:2: moonpool.operation: ", 1, true),
                      host:log())
        assert.truthy(host:log():find(case[2], 1, true), host:log())
      end)
    end
  end)

  it("needs a time zone that there is", function()
    local folder = command.folder { ["scripts/x.lua"] = "" }
    local output, code = command.run("serve", { dir = folder.path,
                                                env = { MOONPOOL_TZ = "Europe/Atlantis" } })
    folder.remove()
    assert.are.equal(2, code)
    assert.truthy(output:find("Europe/Atlantis", 1, true), output)
  end)
end)
