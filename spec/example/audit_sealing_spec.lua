-- Sealing of the audit log: the application role can only add entries, nobody waits for seals, and
-- whatever is committed is sealed once. And the tools that seal and verify. What verification
-- finds: audit_spec.lua.
local audit_log  = require "spec.support.data.audit_log"
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local moonpool   = require "moonpool"
local scratch    = require "spec.support.data.scratch"
local seal       = require "lib.seal"

describe("the audit log", function()
  local log, app, admin, ours, theirs

  local assert_clean = audit_log.assert_clean
  local function add(...) return log.add(...) end
  local function seal_now(...) return log.seal_now(...) end
  local function check(...) return log.check(...) end
  local function head_of(...) return log.head_of(...) end

  setup(function()
    log = audit_log.open()
    app, admin, ours, theirs = log.app, log.admin, log.ours, log.theirs
    add(ours)
    seal_now(ours)
  end)

  teardown(function() log.close() end)

  describe("cannot be changed by the application role", function()
    local function refused(statement, ...)
      local params = { ... }
      local e = failure(app.transaction, { tenant = ours.id }, function(tx)
        tx:exec(statement, table.unpack(params))
        tx:flush()
      end)
      assert.are.equal("42501", e.sqlstate, tostring(e))
    end

    for what, statement in pairs {
      ["an entry's update"]    = "update audit_log set new_value = 'x'",
      ["an entry's deletion"]  = "delete from audit_log",
      ["TRUNCATE"]             = "truncate audit_log",
      ["an entry's lock"]      = "select from audit_log for update",
      ["a seal's update"]      = "update audit_seals set hash = hash",
      ["a seal's deletion"]    = "delete from audit_seals",
      ["a seal of its own"]    = "insert into audit_seals select * from audit_seals",
      ["TRUNCATE of seals"]    = "truncate audit_seals",
      ["the head's update"]    = "update system.audit_heads set seq = 1",
      ["the head's deletion"]  = "delete from system.audit_heads",
      ["a head of its own"]    = "insert into system.audit_heads select * from system.audit_heads",
      ["a time of its choice"] =
        [[insert into audit_log (dealership_id, id, user_id, action, entity_type, entity_id,
        timestamp)
                                   select dealership_id, id, user_id, action, entity_type,
                                     entity_id, now() from audit_log]],
    } do
      it("(" .. what .. ")", function() refused(statement) end)
    end

    it("(sealing and listing others, from inside a dealership)", function()
      refused("select system.seal_audit_log($1, 10)", theirs.id)
      app.transaction({ tenant = ours.id }, function(tx)
        local rows = tx:query "select id::text as id from system.dealerships() as id"
        assert.are.same({ ours.id }, { rows[1].id, rows[2] and rows[2].id })
      end)
    end)
  end)

  describe("while others work", function()
    local function listed_once(which)
      return admin.value([[select count(*) = count(distinct id) and count(*) =
                                  (select count(*) from audit_log where dealership_id = $1)
                             from (select unnest(entries) as id from audit_seals
                               where dealership_id = $1) as s]], which.id)
    end

    it("is sealed by one host of several", function()
      local which = dealership.new { db = app }
      for _ = 1, 30 do add(which) end
      local made = 0
      local function host()
        return seal.seal_all(app, function(id) made = made + (id == which.id and 1 or 0) end, 7)
      end
      local first, second = moonpool.all { host, host }
      assert.is_true(first ~= nil or second ~= nil)
      host()
      assert.are.equal(5, made)
      assert.is_true(listed_once(which))
      assert_clean(check(which))
    end)

    it("leaves it to the host that is at it", function()
      admin.lease(function(conn)
        assert.are.same({}, seal.seal_all(app).failures)
        conn.exec "select pg_advisory_lock(1836019571, 1934975340)"
        local pass = seal.seal_all(app)
        conn.exec "select pg_advisory_unlock(1836019571, 1934975340)"
        assert.is_nil(pass)
      end)
    end)

    it("has each entry in one seal, whoever seals and writes at once", function()
      local which = dealership.new { db = app }
      local function write()
        for _ = 1, 25 do add(which) end
      end
      local function seal_often()
        for i = 1, 25 do seal_now(which, i % 3 + 1) end
      end
      moonpool.all { write, seal_often, write, seal_often, seal_often }
      while seal_now(which).sealed > 0 do end
      assert.is_true(listed_once(which))
      local report = check(which)
      assert_clean(report)
      assert.are.equal(50, report.entries)
    end)

    it("seals what commits late, however late", function()
      local which = dealership.new { db = app }
      local late
      admin.lease(function(conn)
        conn.exec "begin"
        late = conn.query([[insert
          into audit_log (dealership_id, id, user_id, action, entity_type, entity_id, timestamp)
                            values ($1, gen_random_uuid(), $2, 'create', 'deal', $2,
                              now() - interval '1 day')
                            returning id::text as id]], which.id, which.salesperson.id)[1].id
        for _ = 1, 5 do
          add(which)
          seal_now(which)
        end
        assert.are.equal("-Infinity", head_of(which).horizon_us)
        local report = check(which)
        assert_clean(report)
        assert.are.same({ 5, 0 }, { report.entries, report.pending })
        conn.exec "commit"
      end)
      assert.are.equal(1, check(which).pending)
      assert.are.equal(1, seal_now(which).sealed)
      assert.are.equal(
        late, admin.value(
          "select entries[1]::text from audit_seals where dealership_id = $1 and seq = 6",
                          which.id))
      add(which)
      seal_now(which)
      assert.are_not.equal("-Infinity", head_of(which).horizon_us)
      assert.is_true(listed_once(which))
      assert_clean(check(which))
    end)

    it("seals what has waited for long, however much it is", function()
      local which = dealership.new { db = app }
      for day = 1, 9 do add(which, { timestamp = ("2026-03-0%dT00:00:00Z"):format(day) }) end
      for seq = 1, 4 do assert.are.same({ seq, 2 }, { seal_now(which, 2).seal, 2 }) end
      assert.are.equal(1, seal_now(which, 2).sealed)
      assert_clean(check(which))
      assert.is_true(listed_once(which))
    end)

    it("never seals what is rolled back", function()
      local which = dealership.new { db = app }
      failure(app.transaction, { tenant = which.id }, function(tx)
        tx:insert("audit_log", { dealership_id = which.id, id = tx:uuid(),
                                 user_id = which.salesperson.id, action = "x",
                                 entity_type = "deal", entity_id = which.id })
        tx:flush()
        scratch.elsewhere(function() assert.are.equal(0, seal_now(which).sealed) end)
        error "enough"
      end)
      assert.are.equal(0, seal_now(which).sealed)
      assert_clean(check(which))
    end)

    it("is left alone where nothing happened", function()
      local which = dealership.new { db = app }
      local function version()
        return admin.value(
          "select xmin::text || ctid::text from system.audit_heads where dealership_id = $1",
          which.id)
      end
      add(which)
      seal_now(which)
      local before = version()
      assert.are.equal(0, seal_now(which).sealed)
      assert.are.equal(before, version())
      admin.exec(
        "update system.audit_heads set marked_at = now() - interval '1 hour' where dealership_id \z
          = $1", which.id)
      assert.are.equal(0, seal_now(which).sealed)
      assert.are_not.equal("-Infinity", head_of(which).horizon_us)
    end)

    it("goes on after the database was restored on another server", function()
      local which = dealership.new { db = app }
      add(which)
      seal_now(which)
      admin.exec(
        "update system.audit_heads set marked_xid = '9000000000000' where dealership_id = $1",
        which.id)
      for _ = 1, 2 do
        add(which)
        seal_now(which)
      end
      assert.are_not.equal("-Infinity", head_of(which).horizon_us)
    end)

    it("lets nobody who writes an entry wait for sealing, nor sealing for them", function()
      local which = dealership.new { db = app }
      for _ = 1, 5 do add(which) end
      admin.lease(function(sealing)
        sealing.exec "begin"
        assert.are.equal(5, sealing.value("select sealed from system.seal_audit_log($1, 1000)",
                                          which.id))
        admin.lease(function(writing)
          writing.exec "begin"
          writing.exec "set local lock_timeout = '1ms'"
          writing.exec([[insert into audit_log (dealership_id, id, user_id, action, entity_type,
            entity_id)
                         values ($1, gen_random_uuid(), $2, 'create', 'deal', $2)]], which.id,
                           which.salesperson.id)
          sealing.exec "commit"
          sealing.exec "begin"
          sealing.exec "set local lock_timeout = '1ms'"
          assert.are.equal(0, sealing.value("select sealed from system.seal_audit_log($1, 1000)",
                                            which.id))
          writing.exec "commit"
        end)
        sealing.exec "rollback"
      end)
      assert.are.equal(1, seal_now(which).sealed)
    end)
  end)

  describe("has tools", function()
    local env

    local function run(tool, arguments)
      return command.run(("run scripts/tools/%s.lua %s"):format(tool, arguments or ""),
                         { dir = moonpool.app_dir, env = env })
    end

    local function says(output, ...)
      for _, words in ipairs { ... } do
        assert.truthy(output:find(words, 1, true), ("%q is not in: %s"):format(words, output))
      end
    end

    setup(function()
      env = { DATABASE_URL = log.database.app_url, MOONPOOL_LOG_LEVEL = "error" }
    end)

    it("that seal, verify and name what is wrong", function()
      local which = dealership.new { db = app }
      local first = add(which)
      add(which)
      local output, exit = run("seal_audit", "--once")
      assert.are.equal(0, exit, output)
      says(output, which.id .. ": seal 1 covers 2 entries", "sealed ")
      output, exit = run "seal_audit"
      assert.are.same({ "nothing to seal\n", 0 }, { output, exit })
      output, exit = run "verify_audit"
      assert.are.equal(0, exit, output)
      says(output, which.id .. ": 1 seal, 2 entries, 0 not sealed yet: as it was written",
           "nothing is wrong")

      local heads
      heads, exit = run("verify_audit", "--head")
      assert.are.equal(0, exit)
      says(heads, ("%s 1 %s\n"):format(which.id, head_of(which).hash))
      local folder = command.folder { heads = heads }
      finally(folder.remove)
      output, exit = run("verify_audit", "--against " .. folder.path .. "/heads")
      assert.are.equal(0, exit, output)

      admin.exec("update audit_log set new_value = 'forged' where id = $1", first.id)
      output, exit = run "verify_audit"
      assert.are.equal(1, exit)
      says(output, ("%s: entry %s of 20"):format(which.id, first.id), "was altered: new_value",
           "1 dealership is not as written")
      assert.are.equal(0, select(2, run("verify_audit", "--dealership " .. ours.id)))
      assert.are.equal(1, select(2, run("verify_audit", "--dealership " .. which.id)))

      -- All made anew: only the heads that were kept show it.
      admin.exec("delete from audit_seals where dealership_id = $1", which.id)
      admin.exec("delete from system.audit_heads where dealership_id = $1", which.id)
      seal_now(which)
      assert.are.equal(0, select(2, run "verify_audit"))
      output, exit = run("verify_audit", "--against " .. folder.path .. "/heads")
      assert.are.equal(1, exit)
      says(output, which.id .. ": seal 1 or one before it was rewritten")
    end)

    it("that seal again and again", function()
      local which = dealership.new { db = app }
      add(which)
      local handle = assert(
        io.popen(("cd '%s' && echo $$ && exec env DATABASE_URL='%s' '%s' run %s 2>/dev/null")
          :format(
        moonpool.app_dir, env.DATABASE_URL, command.executable(),
        "scripts/tools/seal_audit.lua --every 0.01"), "r"))
      local pid = math.tointeger(tonumber(handle:read "l"))
      assert.are.equal(which.id .. ": seal 1 covers 1 entry", handle:read "l")
      add(which)
      assert.are.equal(which.id .. ": seal 2 covers 1 entry", handle:read "l")
      os.execute("kill -KILL " .. pid) -- a seal is one statement: it is made or it is not
      handle:close()
      assert_clean(check(which))
    end)

    it("that know their arguments", function()
      for tool, arguments in pairs { seal_audit = "--every never",
                                     verify_audit = "--dealership x" } do
        local output, exit = run(tool, arguments)
        assert.are.equal(2, exit, output)
        says(output, "usage: moonpool run scripts/tools/" .. tool)
        assert.are.equal(2, select(2, run(tool, "--what")))
      end
      assert.are.equal(2, select(2, run("verify_audit", "--dealership " .. moonpool.uuid())))
      assert.are.equal(2, select(2, run("verify_audit", "--against /nowhere")))
    end)
  end)
end)
