-- register_user: who may become what, that names are taken once, and that the password is seen
-- nowhere.
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local host       = require "moonpool.host"
local hostile    = require "spec.support.workload.hostile"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local password   = require "moonpool.password"
local scratch    = require "spec.support.data.scratch"
local test       = require "moonpool.test"

local PASSWORD = "Correct-Horse-7"

local function register(input, options)
  return moonpool.call("register_user", input, options)
end

-- An encoded result with all that a caller would get.
local function as_json(result)
  return json.encode(result, { camel = true, decimal_strings = true })
end

describe("register_user", function()
  local ours

  before_each(function() ours = dealership.new() end)

  local function input(values) return ours:registration(values) end

  local function nothing_left()
    assert.are.equal(1, ours:count "users") -- the salesperson
    assert.are.equal(2, ours:count "user_logins")
    for _, name in ipairs { "user_permissions", "audit_log", "security_audit_log" } do
      assert.are.equal(0, ours:count(name), name)
    end
  end

  local function assert_refused(code, status, all, options)
    local e = failure(register, all, options)
    assert.are.equal(code, e.code, tostring(e))
    assert.are.equal(status, e.status)
    return e
  end

  describe("makes", function()
    it("a salesperson who can log in", function()
      local all = input { full_name = "Nell O'Newman" }
      local user = register(all).user
      local stored = ours:rows("users", { id = user.id })[1]
      assert.are.equal(all.username, stored.username)
      assert.are.equal(all.email, stored.email)
      assert.are.equal("Nell O'Newman", stored.full_name)
      assert.are.equal("salesperson", stored.role)
      assert.is_true(stored.is_active)
      assert.is_false(stored.email_verified)
      assert.is_not_nil(stored.password_changed_at)
      assert.truthy(stored.password_hash:match "^%$argon2id%$v=19%$m=65536,t=3,p=1%$")
      assert.is_true(password.verify(stored.password_hash, PASSWORD))
      assert.is_false(password.verify(stored.password_hash, PASSWORD .. "x"))
    end)

    it("names unique whatever their case", function()
      local all = input()
      all.username, all.email = all.username:upper(), all.email:upper()
      local user = register(all).user
      assert.are.equal(all.username, user.username)
      assert.are.equal(
        1, ours:count("user_logins",
                      { user_id = user.id, kind = "username", value = all.username:lower() }))
      assert.are.equal(
        1, ours:count("user_logins",
                      { user_id = user.id, kind = "email", value = all.email:lower() }))
    end)

    for _, role in ipairs { "salesperson", "sales_manager", "finance_manager", "admin" } do
      it("a " .. role .. " with the role's permissions, for an admin", function()
        local admin = ours:user { role = "admin" }
        local result = register(input { role = role }, { tenant = ours.id, as = admin.id })
        assert.are.equal(role, result.user.role)
        local expected = ours:transaction(function(tx)
          return tx:value(
            "select array_agg(permission order by permission) from role_permissions \z
              where role = $1", role)
        end)
        assert.is_true(#expected > 3)
        assert.are.same({ table.unpack(expected) }, { table.unpack(result.permissions) })
        assert.are.equal(#expected, ours:count("user_permissions", { user_id = result.user.id }))
      end)
    end

    it("an audit entry by the new user, and one in the security log", function()
      local all = input()
      local user = register(all).user
      local entries = ours:rows("audit_log")
      assert.are.equal(1, #entries)
      assert.are.equal("create", entries[1].action)
      assert.are.equal("user", entries[1].entity_type)
      assert.are.equal(user.id, entries[1].entity_id)
      assert.are.equal(user.id, entries[1].user_id)
      assert.are.equal(all.username, entries[1].metadata.username)
      local events = ours:rows("security_audit_log")
      assert.are.equal(1, #events)
      assert.are.equal("user_registered", events[1].event_type)
      assert.is_true(events[1].success)
      assert.are.equal(user.id, events[1].user_id)
      assert.are.equal("salesperson", events[1].metadata.role)
    end)

    it("an audit entry by the caller", function()
      local admin = ours:user { role = "admin" }
      register(input(), { tenant = ours.id, as = admin.id })
      assert.are.equal(admin.id, ours:rows("audit_log")[1].user_id)
      assert.are.equal(admin.id, ours:rows("security_audit_log")[1].metadata.registered_by)
    end)
  end)

  describe("keeps the role to admins: it refuses", function()
    for _, role in ipairs { "salesperson", "sales_manager", "finance_manager", "admin" } do
      it("the role " .. role .. " to the public", function()
        assert_refused("FORBIDDEN", 403, input { role = role })
        nothing_left()
      end)

      it("an admin's choice to a " .. role .. (role == "admin" and " of another dealership" or ""),
         function()
        local caller = role == "admin" and dealership.new():user { role = role }
          or ours:user { role = role }
        assert_refused("FORBIDDEN", 403, input { role = "admin" },
                       { tenant = ours.id, as = caller.id })
        assert.are.equal(0, ours:count("users", { role = "admin" }))
      end)
    end

    it("it to an admin who is not active", function()
      local admin = ours:user { role = "admin", is_active = false }
      assert_refused("FORBIDDEN", 403, input { role = "admin" },
                     { tenant = ours.id, as = admin.id })
      assert_refused("FORBIDDEN", 403, input(), { tenant = ours.id, as = admin.id })
    end)
  end)

  describe("refuses", function()
    it("a username that is taken, in any case and any dealership", function()
      local taken = input()
      register(taken)
      local theirs = dealership.new()
      for _, there in ipairs { ours, theirs } do
        for _, name in ipairs { taken.username, taken.username:upper() } do
          local e = assert_refused("USERNAME_TAKEN", 409, there:registration { username = name })
          assert.are.equal("Username is already taken: " .. name, e.message)
        end
      end
      assert.are.equal(2, ours:count "users")
      assert.are.equal(1, theirs:count "users")
      assert.are.equal(0, theirs:count "audit_log")
    end)

    it("an e-mail address that is taken, in any case and any dealership", function()
      local taken = input()
      register(taken)
      local theirs = dealership.new()
      for _, there in ipairs { ours, theirs } do
        for _, email in ipairs { taken.email, taken.email:upper() } do
          assert_refused("EMAIL_TAKEN", 409, there:registration { email = email })
        end
      end
      assert.are.equal(2, ours:count "users")
      assert.are.equal(1, theirs:count "users")
    end)

    it("the second of two who want a name at once", function()
      local name = input().username
      local outcomes = {}
      local function try()
        local ok, e = pcall(register, input { username = name })
        outcomes[#outcomes + 1] = ok and "registered" or e.code
      end
      moonpool.all { try, try }
      table.sort(outcomes)
      assert.are.same({ "USERNAME_TAKEN", "registered" }, outcomes)
      assert.are.equal(1, ours:count("user_logins", { value = name }))
    end)

    -- Another host's transaction, which has written the name and not committed yet.
    for _, ending in ipairs { "commits", "rolls back" } do
      it("a name that another host registers at that moment, if it " .. ending, function()
        local all = input()
        local registration
        ours:transaction(function(tx)
          tx:exec(
            "update user_logins set value = lower($1) where dealership_id = $2 and user_id = $3 \z
              and kind = 'email'",
                  all.email, ours.id, ours.salesperson.id)
          tx:flush()
          registration = moonpool.spawn(pcall, register, all)
          scratch.await("the registration to wait for it", function()
            return scratch.elsewhere(function()
              return test.admin().value [[
                select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock'
                  and query like '%into user_logins%']]
            end)
          end)
          if ending == "rolls back" then
            tx:exec(
              "update user_logins set value = $1 where dealership_id = $2 and user_id = $3 and \z
                kind = 'email'",
                    "free-" .. moonpool.uuid() .. "@example.com", ours.id, ours.salesperson.id)
          end
        end)
        local ok, result = registration:wait()
        assert.are.equal(ending == "rolls back", ok, tostring(result))
        if not ok then assert.are.equal("EMAIL_TAKEN", result.code) end
      end)
    end

    for what, text in pairs { ["without an upper-case letter"] = "correct-horse-7",
                              ["without a lower-case letter"] = "CORRECT-7",
                              ["without a digit"] = "Correct-Horse",
                              ["of 7 characters"] = "Abcde-7",
                              ["of 129 characters"] = "Aa1" .. ("x"):rep(126) } do
      it("a password " .. what, function()
        local e = assert_refused("VALIDATION_ERROR", 400, input { password = text })
        assert.are.equal("password", e.fields[1].path)
        assert.is_nil(tostring(e):find(text, 1, true))
        nothing_left()
      end)
    end

    for what, values in pairs {
      ["a username of 2 characters"] = { username = "ab" },
      ["a username with an @"]       = { username = "ann@example.com" },
      ["a username with a space"]    = { username = "ann smith" },
      ["a blank name"]               = { full_name = " \t " },
      ["a bad e-mail address"]       = { email = "ann.example.com" },
      ["an address beyond ASCII"]    = { email = "ann@exämple.com" },
      ["an address with a strange space"] = { email = "ann\u{A0}b@example.com" },
      ["an unknown role"]            = { role = "owner" },
    } do
      it(what, function()
        assert_refused("VALIDATION_ERROR", 400, input(values))
        nothing_left()
      end)
    end

    it("an unknown dealership, and another than the caller's", function()
      local id = moonpool.uuid()
      local e = assert_refused("RESOURCE_NOT_FOUND", 404, input { dealership_id = id })
      assert.are.equal("Dealership not found: " .. id, e.message)
      local theirs = dealership.new()
      assert_refused("MULTI_TENANT_VIOLATION", 403, input { dealership_id = theirs.id },
                     { tenant = ours.id, as = ours.salesperson.id })
      assert.are.equal(1, theirs:count "users")
      nothing_left()
    end)
  end)

  describe("given nonsense", function()
    hostile.fields("register_user", input, {
      dealership_id = { "uuid", required = true },
      username      = { "text", required = true, max = 50 },
      full_name     = { "text", required = true, max = 200, stored = function(result)
        return result.user.full_name
      end },
      email         = { "text", required = true },
      password      = { "text", required = true, max = 128, plain = true },
      role          = { "enum" },
    }, { nothing_left = nothing_left })
  end)

  describe("keeps secret", function()
    it("the hash: no answer has it", function()
      local result = register(input())
      local text = as_json(result)
      assert.is_nil(text:find("argon2", 1, true))
      assert.is_nil(text:lower():find("hash", 1, true))
      assert.is_not_nil(text:find(result.user.id, 1, true))
      local e = failure(function() return result.user.password_hash end)
      assert.is_nil(tostring(e):find("$argon2", 1, true))
    end)

    it("the password and the hash in what is stored, but for the hash in its column", function()
      register(input())
      for _, name in ipairs { "users", "user_logins", "user_permissions", "audit_log",
                              "security_audit_log" } do
        for _, text in ipairs(ours:transaction(function(tx)
          return tx:query(
            ("select to_jsonb(t) - 'password_hash' as row from %s t where dealership_id = $1")
              :format(name),
                          ours.id)
        end)) do
          local row = json.encode(text.row)
          assert.is_nil(row:find(PASSWORD, 1, true), name)
          assert.is_nil(row:find("argon2", 1, true), name)
        end
      end
    end)

    -- As a process of its own, with everything logged.
    it("the password in output, errors and logs", function()
      local taken = input()
      local folder = command.folder()
      local function call(all)
        folder.write("input.json", json.encode(all, { camel = true }))
        return command.run("call register_user @" .. folder.path .. "/input.json",
                           { dir = moonpool.app_dir, env = { MOONPOOL_LOG_LEVEL = "debug" } })
      end
      local ok_output, ok_code = call(taken)
      local outputs = {
        ok_output,
        (call(taken)),                                  -- taken
        (call(input { email = "nonsense" })),           -- invalid
        (call(input { password = PASSWORD:lower() })),  -- too weak
        (call(input { password = ("Aa1" .. PASSWORD):rep(10) })), -- too long
        (call(input { password = { PASSWORD } })),      -- of the wrong type
        (call(input { role = "admin" })),               -- forbidden
        (call(input { dealership_id = moonpool.uuid() })),
      }
      folder.remove()
      assert.are.equal(0, ok_code, ok_output)
      for n, output in ipairs(outputs) do
        assert.is_true(#output > 20, n)
        assert.is_nil(output:lower():find(PASSWORD:lower(), 1, true), n)
        assert.is_nil(output:find("argon2", 1, true), n)
      end
    end)
  end)

  describe("costs", function()
    it("two round trips", function()
      register(input())
      local _, info = moonpool.call_info("register_user", input())
      assert.are.equal(2, info.round_trips)
      assert.are.equal(1, info.attempts)
    end)

    it("one connection, however many register", function()
      local calls = {}
      for n = 1, 4 do calls[n] = function() register(input()) end end
      local most, running = 0, true
      local watch = moonpool.spawn(function()
        while running do
          most = math.max(most, host.pool_stats().active_connections)
          moonpool.sleep(0)
        end
      end)
      local ok, e = pcall(moonpool.all, calls)
      running = false
      watch:wait()
      assert.is_true(ok, tostring(e))
      assert.are.equal(1, most)
      assert.are.equal(5, ours:count "users")
    end)
  end)
end)
