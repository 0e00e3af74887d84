-- A database of its own with an audit log to seal, to verify and to tamper with.
local assert     = require "luassert"
local dealership = require "spec.support.data.dealership"
local db         = require "moonpool.db"
local moonpool   = require "moonpool"
local seal       = require "lib.seal"
local test       = require "moonpool.test"

local audit_log = {}

--- Opens it: `app` and `admin` speak to it as the application role and as superuser, `ours` and
--- `theirs` are dealerships.
function audit_log.open()
  local database = test.database()
  local app = db.open { url = database.app_url, max = 6 }
  local admin = db.open { url = database.admin_url, max = 6 }
  local log = {
    database = database, app = app, admin = admin,
    ours = dealership.new { db = app }, theirs = dealership.new { db = app },
  }

  --- Adds an entry as operations do, or as superuser at a time of choice.
  function log.add(to, values)
    local entry = { user_id = to.salesperson.id, action = "update", entity_type = "deal",
                    entity_id = moonpool.uuid() }
    for name, value in pairs(values or {}) do entry[name] = value end
    if not entry.timestamp then return to:insert("audit_log", entry) end
    entry.id, entry.dealership_id = moonpool.uuid(), to.id
    return admin.insert("audit_log", entry)
  end

  --- Makes one seal, if there is something to seal.
  function log.seal_now(which, most)
    return admin.query("select seal, sealed from system.seal_audit_log($1, $2)", which.id,
                       most or 1000)[1]
  end

  --- Verifies as the application role, as verify_audit does.
  function log.check(which, expected)
    return app.transaction({ tenant = which.id, isolation = "repeatable read", read_only = true },
                           function(tx)
      return seal.check(function(...) return tx:query(...) end, which.id, expected)
    end)
  end

  --- The report after fn(conn), which is rolled back: nobody else ever sees it.
  function log.after(fn, which, expected)
    return admin.lease(function(conn)
      conn.exec "begin"
      local ok, result = pcall(function()
        conn.exec "set local session_replication_role = replica"
        fn(conn)
        return seal.check(conn.query, (which or log.ours).id, expected)
      end)
      conn.exec "rollback"
      if not ok then error(result, 0) end
      return result
    end)
  end

  function log.head_of(which)
    return seal.head(admin.query, which.id)
  end

  function log.close()
    app.close()
    admin.close()
  end

  return log
end

function audit_log.assert_clean(report)
  assert.is_nil(report.chain and report.chain.text)
  assert.is_nil(report.entry and report.entry.text)
  assert.are.equal(0, report.faults)
end

return audit_log
