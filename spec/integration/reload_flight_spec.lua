-- What is under way while scripts/ is loaded anew stays with what it began with: attempts, hooks,
-- lanes.
local db      = require "moonpool.db"
local scratch = require "spec.support.data.scratch"
local serving = require "spec.support.process.serving"

local LOCK = 771

describe("a call that is under way when scripts/ is loaded anew", function()
  local schema, host

  lazy_setup(function()
    schema = scratch.schema("flight", {
      "create table flight.seen (what text not null, version integer not null)",
      [[create function flight.fail_once(attempt integer) returns void language plpgsql as
        $$ begin if attempt = 1 then raise exception 'again' using errcode = '40001'; end
          if; end $$]],
      "grant execute on function flight.fail_once to moonpool_app",
      scratch.powers "flight",
    })
  end)
  lazy_teardown(function() schema.drop() end)
  before_each(function() schema.owner.exec "truncate flight.seen" end)
  after_each(function()
    if host then host:stop() end
    host = nil
  end)

  local function files(version, body, more)
    return {
      ["scripts/work.lua"] = ([[
        local moonpool = require "moonpool"
        local version = require("lib.early").version
        return moonpool.operation { summary = "work", retries = 3, %s run = function(tx)
          %s
          return { version = version, late = require("lib.late").version, attempt = tx.attempt }
        end }]]):format(more or "", body),
      ["scripts/lib/early.lua"] = ("return { version = %d }"):format(version),
      ["scripts/lib/late.lua"] = ("return { version = %d }"):format(version),
    }
  end

  local wait_for_lock = ("tx:value 'select flight.hold(%d)'"):format(LOCK)

  local function waiters()
    return db.value(
      "select count(*) from pg_locks where locktype = 'advisory' and objid = $1 and not granted",
      LOCK)
  end

  -- Calls `work`, which waits for the lock; reloads to version 2; lets go; gives the answer.
  local function reload_meanwhile(body)
    host = serving.start(files(1, body))
    local report, call
    db.lease(function(conn)
      conn.query("select pg_advisory_lock($1)", LOCK)
      call = host:send { ["do"] = "call", name = "work" }
      scratch.await("the call", function() return waiters() == 1 end)
      host:write(files(2, ""))
      report = host:reload()
      conn.query("select pg_advisory_unlock($1)", LOCK)
    end)
    assert.is_true(report.ok, report.report)
    return call.finish()
  end

  local function only_the_new_one()
    scratch.await("the end of the old generation", function()
      local list = host:generations()
      return #list == 1 and list[1].number == 2
    end)
    assert.are.equal(2, host:call("work").result.version)
  end

  it("is retried on its own generation", function()
    local answer = reload_meanwhile(wait_for_lock
                                    .. " tx:value('select flight.fail_once($1)', tx.attempt)")
    assert.are.same({ ok = true, generation = 1, result = { version = 1, late = 1, attempt = 2 } },
                    answer)
    only_the_new_one()
  end)

  it("runs its hooks on it, and the generation waits for them", function()
    db.lease(function(conn)
      conn.query "select pg_advisory_lock(772)"
      local answer = reload_meanwhile([[
        tx:after_commit(function()
          local db = require "moonpool.db"
          db.transaction({}, function(own) own:value 'select flight.hold(772)' end)
          db.exec("insert into flight.seen values ('hook', $1)", require("lib.late").version)
        end) ]] .. wait_for_lock)
      assert.are.equal(1, answer.result.version)
      assert.are.equal("retiring", host:generations()[2].state)
      conn.query "select pg_advisory_unlock(772)"
    end)
    assert.are.equal(1, scratch.await("the hook", function()
      return db.value "select max(version) from flight.seen"
    end))
    only_the_new_one()
  end)

  for what, more in pairs { [""] = 'lane = "one",',
                            [", which no group of its own takes along"] =
                              'lane = "one", group = 8,' } do
  it("hands its lane on to a call of the new generation" .. what, function()
    host = serving.start(files(1, wait_for_lock, more))
    local first, second
    db.lease(function(conn)
      conn.query("select pg_advisory_lock($1)", LOCK)
      first = host:send { ["do"] = "call", name = "work" }
      scratch.await("the first call", function() return waiters() == 1 end)
      host:write(files(2, "", more))
      assert.is_true(host:reload().ok)
      second = host:send { ["do"] = "call", name = "work" }
      scratch.await("the second call", function()
        local list = host:generations()
        return list[1].number == 2 and list[1].calls == 1
      end)
      assert.are.equal(1, waiters())
      conn.query("select pg_advisory_unlock($1)", LOCK)
    end)
    assert.are.equal(1, first.finish().result.version)
    assert.are.equal(2, second.finish().result.version)
    only_the_new_one()
  end)
  end

  it("is ended when it outlives the drain limit; it is told, and the log says who it was",
     function()
    host = serving.start(files(1, wait_for_lock), { env = { MOONPOOL_GENERATION_DRAIN = "50" } })
    db.lease(function(conn)
      conn.query("select pg_advisory_lock($1)", LOCK)
      local call = host:send { ["do"] = "call", name = "work" }
      scratch.await("the call", function() return waiters() == 1 end)
      host:write(files(2, ""))
      assert.is_true(host:reload().ok)
      local answer = call.finish()
      assert.is_false(answer.ok)
      assert.are.equal("CANCELED", answer.error.code)
      assert.are.equal(1, answer.error.generation)
      scratch.await("the server's end of it", function() return waiters() == 0 end)
      conn.query("select pg_advisory_unlock($1)", LOCK)
    end)
    only_the_new_one()
    local log = host:log()
    assert.truthy(log:find("generation 1 was replaced", 1, true), log)
    assert.truthy(log:find("call of work", 1, true), log)
  end)

  it("is rolled back when its caller goes away", function()
    host = serving.start(
      files(1, "tx:insert('flight.seen', { what = 'lost', version = 1 }) " .. wait_for_lock))
    db.lease(function(conn)
      conn.query("select pg_advisory_lock($1)", LOCK)
      local call = host:send { ["do"] = "call", name = "work" }
      scratch.await("the call", function() return waiters() == 1 end)
      call.kill()
      scratch.await("its end", function() return waiters() == 0 end)
      conn.query("select pg_advisory_unlock($1)", LOCK)
    end)
    assert.are.equal(0, db.value "select count(*) from flight.seen")
    assert.are.equal(0, host:generations()[1].calls)
  end)
end)

describe("reload after reload under calls", function()
  local host
  after_each(function() host:stop() end)

  local broken = {
    { ["scripts/lib/early.lua"] = "return {" },
    { ["scripts/versions.lua"] = "return 1" },
    { ["scripts/lib/late.lua"] = "local x =\n= 1" },
    { ["scripts/versions.lua"] = 'error "no"' },
    { ["scripts/smoke.lua"] = 'error "I refuse"' },
  }

  local function storm_of_reloads(workers)
    host = serving.start(serving.versions(1), { env = { MOONPOOL_WORKERS = workers } })
    local function good(version)
      host:write(serving.versions(version))
      host:write { ["scripts/smoke.lua"] = "return true" }
      local report = host:reload()
      assert.is_true(report.ok, report.ok or report.report .. "\n" .. host:log())
      assert.are.equal(version, report.generation)
    end
    local function bad(round)
      for name, text in pairs(broken[round % #broken + 1]) do host:write { [name] = text } end
      assert.is_false(host:reload().ok)
    end
    local storm = host:storm(4)
    local start
    for version = 2, 51 do
      if version == 12 then start = host:resident() end
      bad(version)
      good(version)
    end
    local seen = storm.stop()
    assert.are.equal(0, seen.failed, seen.first_failure)
    assert.are.equal(0, seen.mixed, seen.first_failure)
    assert.are.equal(0, seen.lost)
    assert.is_true(seen.calls > 50 and seen.generations > 10,
                   ("%d calls of %d generations"):format(seen.calls, seen.generations))
    scratch.await("one generation", function() return #host:generations() == 1 end)
    local now = host:resident()
    if now then
      assert.is_true(now < start * 1.3, ("%d KiB, at the start %d"):format(now, start))
    end
    local log = host:log():gsub("[^\n]*blocked the loop for[^\n]*\n", "") -- on a slow machine
    assert.is_nil(log:match "[^\n]*warn[^\n]*")
  end

  it("fails no call, mixes no two generations, and keeps no memory",
     function() storm_of_reloads "1" end)
  it("does the same with four workers", function() storm_of_reloads "4" end)
end)
