-- Operations that run by themselves: on time, on one host of many, and never piled up.
local command = require "spec.support.command"
local db      = require "moonpool.db"
local scratch = require "spec.support.scratch"
local serving = require "spec.support.serving"

describe("an operation with `every`", function()
  local schema, owner
  local hosts = {}

  lazy_setup(function()
    schema = scratch.schema("sched", { "create table sched.ran (at timestamptz not null default clock_timestamp(), by text)" })
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

  local function start(files)
    hosts[#hosts + 1] = serving.start(files)
    return hosts[#hosts]
  end

  local function job(every, body)
    return { ["scripts/job.lua"] = ([[
      local moonpool = require "moonpool"
      return moonpool.operation { summary = "job", every = %q, run = function(tx) %s end }]]):format(every, body or
      "tx:exec \"insert into sched.ran (by) values ('job')\"") }
  end

  local function ran() return db.value "select count(*) from sched.ran" end
  local function row() return db.first "select * from moonpool.schedule where operation = 'job'" end

  it("runs", function()
    local host = start(job "1s")
    scratch.await("two runs", function() return ran() >= 2 end)
    local list = host:ask { ["do"] = "schedules" }.schedules
    assert.are.equal(1, #list)
    assert.are.equal("job", list[1].operation)
    assert.are.equal("1s", list[1].every)
    assert.is_true(list[1].runs >= 2)
    assert.are.equal(0, list[1].failures)
  end)

  it("runs once for each due time, however many hosts there are", function()
    for _ = 1, 3 do start(job "1s") end
    scratch.await("four runs", function() return ran() >= 4 end)
    for _, host in ipairs(hosts) do host:stop() end
    hosts = {}
    -- Each run belongs to a due time of its own, so there are not more than there were seconds.
    assert.are.equal(row().runs, ran())
    local seconds = db.value "select extract(epoch from max(at) - min(at)) from sched.ran"
    assert.is_true(ran() <= tonumber(tostring(seconds)) + 2)
  end)

  it("that fails is counted with its error, and runs again", function()
    start(job("1s", 'moonpool.fail("NO_LUCK", "not today")'))
    scratch.await("two failures", function()
      local now = row()
      return now and now.failures >= 2
    end)
    assert.truthy(row().last_error:find("not today", 1, true))
  end)

  it("runs once after a pause; the times between are counted as missed", function()
    owner.exec "insert into moonpool.schedule (operation, due) values ('job', date_trunc('hour', now()) - interval '3 hours')"
    start(job "1h")
    scratch.await("the run", function()
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
    scratch.await("the other's run", function() return ran() >= 1 end)
    assert.are.equal(0, db.value "select count(*) from sched.ran where by = 'job'")
    assert.are.equal(1, db.value "select failures from moonpool.schedule where operation = 'free'")
  end)

  it("follows a reload", function()
    local host = start(job "366d")
    host:write(job "1s")
    assert.is_true(host:reload().ok)
    scratch.await("a run", function() return ran() >= 1 end)
  end)

  describe("is refused by a reload", function()
    local cases = {
      { 'every = "often", run = print', 'every must be an interval' },
      { 'every = "61 * * * *", run = print', "minute" },
      { 'every = "1m", tenant = "shop_id", input = is.object { shop_id = is.uuid }, run = print', "has no tenant" },
      { 'every = "1m", input = is.object { color = is.string }, run = print', "needs defaults" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local host = serving.start({ ["scripts/job.lua"] =
          'local moonpool, is = require "moonpool", require "moonpool.is"\nreturn moonpool.operation { ' .. case[1] .. " }" },
          { broken = true })
        hosts[1] = host
        assert.are.equal(1, host:wait())
        assert.truthy(host:log():find("scripts/job.lua:2: moonpool.operation: every", 1, true), host:log())
        assert.truthy(host:log():find(case[2], 1, true), host:log())
      end)
    end
  end)

  it("needs a time zone that there is", function()
    local folder = command.folder { ["scripts/x.lua"] = "" }
    local output, code = command.run("serve", { dir = folder.path, env = { MOONPOOL_TZ = "Europe/Atlantis" } })
    folder.remove()
    assert.are.equal(2, code)
    assert.truthy(output:find("Europe/Atlantis", 1, true), output)
  end)
end)
