-- verify_password: who gets in, what is counted and noted, when an account is locked. And
-- moonpool.password under it.
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local host       = require "moonpool.host"
local hostile    = require "spec.support.workload.hostile"
local inline     = require "spec.support.data.inline"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local password   = require "moonpool.password"
local scratch    = require "spec.support.data.scratch"

local PASSWORD = "Correct-Horse-7"
-- Of the same password, made with less work (8 MiB, one pass): quick to verify, and out of date.
local OLD_HASH =
  "$argon2id$v=19$m=8192,t=1,p=1$T5mt6q8xmXonbsEPUe5B2w$GhfMsOaIHrrkUyzSTtjnSKg2A5gkKmSEiXW5zr6agtg"

local function log_in(login, text)
  return moonpool.call("verify_password", { login = login, password = text or PASSWORD })
end

local function refusal(login, text)
  return failure(log_in, login, text)
end

describe("verify_password", function()
  local ours, user

  before_each(function()
    ours = dealership.new()
    user = ours:user { password_hash = OLD_HASH }
  end)

  local function stored() return ours:rows("users", { id = user.id })[1] end

  local function set(assignment)
    ours:transaction(function(tx)
      tx:exec("update users set " .. assignment .. " where dealership_id = $1 and id = $2", ours.id,
              user.id)
    end)
  end

  local function events(match) return ours:rows("security_audit_log", match) end

  local function assert_invalid(e)
    assert.are.equal("INVALID_CREDENTIALS", e.code, tostring(e))
    assert.are.equal(401, e.status)
    assert.are.equal("The login or the password is wrong", e.message)
  end

  local function assert_locked(e)
    assert.are.equal("ACCOUNT_LOCKED", e.code, tostring(e))
    assert.are.equal(423, e.status)
  end

  describe("lets in", function()
    it("by username and by e-mail address, in any case, whatever the dealership", function()
      for _, login in ipairs { user.username, user.username:upper(), user.email,
                               user.email:upper() } do
        local result = log_in(login)
        assert.are.equal(user.id, result.user.id)
        assert.are.equal(ours.id, result.user.dealership_id)
        assert.are.equal(user.username, result.user.username)
        assert.are.equal("salesperson", result.user.role)
      end
    end)

    it("whoever has registered, and tells what the user may do", function()
      local all = ours:registration()
      local registered = moonpool.call("register_user", all)
      local result = log_in(all.username)
      assert.are.equal(registered.user.id, result.user.id)
      assert.are.same({ table.unpack(registered.permissions) },
                      { table.unpack(result.permissions) })
      assert.is_true(#result.permissions > 0)
    end)

    it("and forgets the failures before", function()
      for _ = 1, 4 do assert_invalid(refusal(user.username, "wrong")) end
      assert.are.equal(4, stored().failed_login_attempts)
      assert.is_nil(stored().last_login_at)
      local result = log_in(user.username)
      assert.are.equal(0, stored().failed_login_attempts)
      assert.are.equal(result.user.last_login_at, stored().last_login_at)
      assert.is_not_nil(stored().last_login_at)
    end)

    it("and renews a hash that was made with other settings", function()
      log_in(user.username)
      local renewed = stored().password_hash
      assert.are_not.equal(OLD_HASH, renewed)
      assert.is_false(password.needs_rehash(renewed))
      log_in(user.username)
      assert.are.equal(renewed, stored().password_hash)
    end)

    it("without the hash in the answer", function()
      local text = json.encode(log_in(user.username), { camel = true, decimal_strings = true })
      assert.is_nil(text:find("argon2", 1, true))
      assert.is_nil(text:lower():find("hash", 1, true))
      inline.contains(text, '"permissions":[]', user.id)
    end)

    it("and notes it in the security log of the dealership", function()
      log_in(user.username)
      local entries = events()
      assert.are.equal(1, #entries)
      assert.are.equal("login", entries[1].event_type)
      assert.is_true(entries[1].success)
      assert.are.equal(user.id, entries[1].user_id)
    end)
  end)

  describe("refuses alike", function()
    it("a wrong password, which is counted and noted although the call fails", function()
      for attempt = 1, 2 do
        assert_invalid(refusal(user.username, "Wrong-Horse-7"))
        assert.are.equal(attempt, stored().failed_login_attempts)
        assert.are.equal(attempt,
                         #events { event_type = "login", success = false, user_id = user.id })
      end
      assert.are.equal("password", events()[1].metadata.reason)
    end)

    it("a login that nobody has", function()
      assert_invalid(refusal("nobody-" .. moonpool.uuid()))
      assert_invalid(refusal("nobody-" .. moonpool.uuid() .. "@example.com"))
      assert.are.equal(0, #events())
    end)

    it("a login of another dealership than the caller speaks for, and counts nothing there",
       function()
      local call = { login = user.username, password = PASSWORD }
      assert.are.equal(user.id,
                       moonpool.call("verify_password", call, { tenant = ours.id }).user.id)
      for _, text in ipairs { PASSWORD, "wrong" } do
        call.password = text
        assert_invalid(failure(moonpool.call, "verify_password", call,
                               { tenant = dealership.new().id }))
      end
      assert.are.equal(0, stored().failed_login_attempts)
      assert.are.equal(1, #events())
    end)

    it("a user without a password", function()
      assert_invalid(refusal(ours.salesperson.username))
      assert.are.equal(1, #events { user_id = ours.salesperson.id })
    end)

    it("an inactive user, with the right password too", function()
      set "is_active = false"
      assert_invalid(refusal(user.username))
      assert_invalid(refusal(user.username, "wrong"))
      local entries = events()
      assert.are.equal(2, #entries)
      for _, entry in ipairs(entries) do assert.are.equal("inactive", entry.metadata.reason) end
      assert.are.equal(0, stored().failed_login_attempts)
    end)
  end)

  describe("locks the account", function()
    local function fail(times)
      for _ = 1, times do assert_invalid(refusal(user.username, "wrong")) end
    end

    it("after 5 wrong passwords, for 15 minutes", function()
      fail(5)
      assert_locked(refusal(user.username, "wrong"))
      assert_locked(refusal(user.username))
      assert_locked(refusal(user.email))
      assert.are.equal(5, stored().failed_login_attempts)
      local minutes = ours:transaction(function(tx)
        return tx:value([[
          select extract(epoch from account_locked_until - updated_at)::integer / 60 from users
           where dealership_id = $1 and id = $2]], ours.id, user.id)
      end)
      assert.are.equal(15, minutes)
    end)

    it("and notes the lock, and what is tried behind it", function()
      fail(5)
      assert_locked(refusal(user.username))
      assert.are.equal(1, #events { event_type = "account_locked" })
      assert.are.equal(6, #events { event_type = "login", success = false })
      assert.are.equal(0, #events { event_type = "login", success = true })
    end)

    it("and not anybody else's", function()
      fail(5)
      local other = ours:user { password_hash = OLD_HASH }
      assert.are.equal(other.id, log_in(other.username).user.id)
    end)

    it("until the time is over: then all attempts are there again", function()
      fail(5)
      set "account_locked_until = now() - interval '1 second'"
      fail(4)
      assert.are.equal(4, stored().failed_login_attempts)
      log_in(user.username)
      assert.is_nil(stored().account_locked_until)
      assert.are.equal(0, stored().failed_login_attempts)
    end)

    it("when many guess at once, and none of the later ones gets in", function()
      local calls, codes = {}, {}
      for n = 1, 12 do
        calls[n] = function()
          local e = refusal(user.username, "Guess-" .. n)
          codes[e.code] = (codes[e.code] or 0) + 1
        end
      end
      moonpool.all(calls)
      assert.are.same({ INVALID_CREDENTIALS = 5, ACCOUNT_LOCKED = 7 }, codes)
      assert_locked(refusal(user.username))
    end)

    it("when the guesses do not queue in one lane, as on several hosts", function()
      local accounts = require "scripts.lib.accounts"
      local calls, outcomes = {}, {}
      for n = 1, 12 do
        calls[n] = function()
          local outcome = accounts.log_in(user.username, n < 12 and "Guess-" .. n or "Guess-12")
          outcomes[outcome] = (outcomes[outcome] or 0) + 1
        end
      end
      moonpool.all(calls)
      assert.are.same({ failed = 5, locked = 7 }, outcomes)
      assert.are.equal(5, stored().failed_login_attempts)
    end)
  end)

  describe("takes as long", function()
    -- Compared by the work done, which a busy machine cannot blur: a hash takes far longer than all
    -- else together.
    it("for a login that nobody has", function()
      local known = ours:user { password_hash = password.hash(PASSWORD) }
      local function cpu_of(fn)
        local from = host.cpu()
        fn()
        return host.cpu() - from
      end
      log_in(known.username)
      local wrong   = cpu_of(function() refusal(known.username, "wrong") end)
      local unknown = cpu_of(function() refusal("nobody-" .. moonpool.uuid(), "wrong") end)
      assert.is_true(unknown > wrong / 3 and unknown < wrong * 3,
                     ("%f and %f seconds"):format(wrong, unknown))
    end)
  end)

  describe("given nonsense", function()
    local function input() return { login = user.username, password = PASSWORD } end
    hostile.fields("verify_password", input, {
      login    = { "text", required = true, max = 254, plain = true },
      password = { "text", required = true, max = 128, plain = true },
    }, { nothing_left = function() assert.are.equal(0, #events()) end })
  end)

  it("cannot be part of another operation, which might undo what it notes", function()
    local e = inline.refusal(function()
      return log_in(user.username)
    end, { tenant = "dealership_id" },
                             { dealership_id = ours.id })
    assert.are.equal("INVALID_ARGUMENT", e.code)
    assert.are.equal(0, #events())
  end)

  it("is content with two connections, however many knock", function()
    inline.with_pool_of(2, function()
      local calls = {}
      for n = 1, 10 do calls[n] = function() return log_in(user.username).user.id end end
      assert.are.equal(10, #moonpool.all(calls))
    end)
    assert.are.equal(10, #events { success = true })
  end)

  it("shows the password in no output, error, log or entry", function()
    local folder = command.folder()
    local function call(login, text)
      folder.write("input.json", json.encode { login = login, password = text })
      return command.run("call verify_password @" .. folder.path .. "/input.json",
                         { dir = moonpool.app_dir, env = { MOONPOOL_LOG_LEVEL = "debug" } })
    end
    local secret = "Hidden-Horse-9"
    local outputs = { (call(user.username, secret)), (call("nobody", secret)),
                      (call(user.username, secret:rep(20))),
                      (call(user.username, { secret })), (call(user.username, PASSWORD)) }
    folder.remove()
    for n, output in ipairs(outputs) do
      assert.is_true(#output > 20, n)
      for _, hidden in ipairs { secret, PASSWORD, "argon2" } do
        assert.is_nil(output:find(hidden, 1, true), output)
      end
    end
    for _, entry in ipairs(events()) do
      assert.is_nil(json.encode(entry.metadata):find("Horse", 1, true))
    end
  end)
end)

describe("moonpool.password", function()
  it("makes a hash of its own each time, that only the password fits", function()
    local first, second = password.hash "one", password.hash "one"
    assert.truthy(first:match "^%$argon2id%$v=19%$m=65536,t=3,p=1%$")
    assert.are_not.equal(first, second)
    assert.is_true(password.verify(first, "one"))
    assert.is_true(password.verify(second, "one"))
    assert.is_false(password.verify(first, "two"))
    assert.is_false(password.verify(first, "one\0"))
  end)

  it("takes any bytes up to 1024, and refuses more without repeating them", function()
    for _, text in ipairs { "", "a\0b", "\xff", ("x"):rep(1024) } do
      assert.is_true(password.verify(password.hash(text), text))
    end
    for _, fn in ipairs { password.hash, function(text)
      return password.verify(OLD_HASH, text)
    end } do
      local e = failure(fn, ("secret"):rep(200))
      assert.are.equal("INVALID_ARGUMENT", e.code)
      assert.is_nil(tostring(e):find("secret", 1, true))
    end
  end)

  it("refuses what is no text", function()
    for _, value in ipairs { 42, true, {} } do
      assert.are.equal("INVALID_ARGUMENT", failure(password.hash, value).code)
      assert.are.equal("INVALID_ARGUMENT", failure(password.verify, OLD_HASH, value).code)
      assert.are.equal("INVALID_ARGUMENT", failure(password.verify, value, "text").code)
      assert.are.equal("INVALID_ARGUMENT", failure(password.needs_rehash, value).code)
    end
    assert.are.equal("INVALID_ARGUMENT", failure(password.hash).code)
  end)

  it("says no to what is no hash", function()
    for _, hash in ipairs { "", "text", "$argon2id$", OLD_HASH:sub(1, -2), ("$"):rep(500),
                            "a\0b" } do
      assert.is_false(password.verify(hash, PASSWORD), hash)
      assert.is_true(password.needs_rehash(hash), hash)
    end
    assert.is_false(password.verify(nil, PASSWORD))
  end)

  it("knows hashes of other settings", function()
    assert.is_true(password.verify(OLD_HASH, PASSWORD))
    assert.is_true(password.needs_rehash(OLD_HASH))
    assert.is_false(password.needs_rehash(password.hash "x"))
  end)

  it("serves many at once, and the loop goes on meanwhile", function()
    local calls, turns, running = {}, 0, true
    for n = 1, 6 do
      calls[n] = function() return password.verify(password.hash("p" .. n), "p" .. n) end
    end
    local other = moonpool.spawn(function()
      while running do
        turns = turns + 1
        moonpool.sleep(0)
      end
    end)
    local ok, answers = pcall(moonpool.all, calls)
    running = false
    other:wait()
    assert.are.same({ true, { true, true, true, true, true, true } }, { ok, answers })
    assert.is_true(turns > 20, tostring(turns))
  end)

  it("tells callers to come back when too many wait", function()
    local calls, codes = {}, {}
    for n = 1, 270 do
      calls[n] = function()
        local ok, e = pcall(password.verify, OLD_HASH, PASSWORD)
        codes[ok and "ok" or e.code] = (codes[ok and "ok" or e.code] or 0) + 1
      end
    end
    moonpool.all(calls)
    assert.are.same({ ok = 258, BUSY = 12 }, codes)
  end)

  it("may be given up at any moment: while it works, and while it waits", function()
    for _, before in ipairs { 0, 3 } do
      local others = {}
      for n = 1, before do others[n] = moonpool.spawn(password.hash, "other") end
      local e = failure(moonpool.all, {
        function() password.hash "given up" end,
        function()
          moonpool.sleep(0)
          error "enough"
        end,
      })
      assert.truthy(tostring(e):find("enough", 1, true))
      for _, other in ipairs(others) do assert.truthy(other:wait()) end
      assert.is_true(password.verify(OLD_HASH, PASSWORD))
    end
  end)

  it("is left behind by a host that ends", function()
    local output, code = scratch.script [[
      local moonpool, password = require "moonpool", require "moonpool.password"
      for _ = 1, 5 do moonpool.spawn(password.hash, "left behind") end
      moonpool.sleep(0)
      error "the end"
    ]]
    assert.are.equal(1, code)
    assert.truthy(output:find("the end", 1, true))
    assert.is_nil(output:find("left behind", 1, true))
  end)

  it("looks at what is queued first, in an operation", function()
    local hashed = false
    local e = inline.refusal(function(tx)
      tx:exec "select 1 / 0"
      password.hash "x"
      hashed = true
    end)
    assert.are.equal("22012", e.sqlstate)
    assert.is_false(hashed)
    assert.truthy(inline.call(function(tx)
      tx:exec "select 1"
      return password.hash "x"
    end))
  end)

  it("ends with the operation's deadline", function()
    local e = inline.refusal(function()
      for _ = 1, 100 do password.hash "x" end
    end, { timeout = 0.3 })
    assert.are.equal("DEADLINE_EXCEEDED", e.code)
    assert.is_true(password.verify(OLD_HASH, PASSWORD))
  end)
end)
