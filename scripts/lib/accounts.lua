-- Users as those who log in: what a password must be, who acts, and the check of a login with its
-- lock-out.
local db       = require "moonpool.db"
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local json     = require "moonpool.json"
local password = require "moonpool.password"

local accounts = {
  max_failures    = 5,      -- wrong passwords in a row until the account is locked
  lockout_minutes = 15,
}

-- Length only: what a new password must contain is asked of new ones, and not of those that are
-- tried.
accounts.password = is.string:min(1):max(128)

local password_rules = {
  { "%u", "an upper-case letter" },
  { "%l", "a lower-case letter" },
  { "%d", "a digit" },
}

local function invalid(field, message)
  moonpool.fail("VALIDATION_ERROR", field .. ": " .. message,
                { status = 400, fields = { { path = field, message = message } } })
end

--- Refuses a password without an upper-case letter, a lower-case letter and a digit (all of ASCII).
---@param text string
function accounts.check_new_password(text)
  local missing = {}
  for _, rule in ipairs(password_rules) do
    if not text:find(rule[1]) then missing[#missing + 1] = rule[2] end
  end
  if missing[1] then invalid("password", "must contain " .. table.concat(missing, ", ")) end
end

--- Refuses an address outside of ASCII: it is a login, and no two of them may look alike.
---@param email string
function accounts.check_login_email(email)
  if email:find("[^\x21-\x7e]") then invalid("email", "must consist of ASCII characters") end
end

--- Who acts: the caller that the host knows, else the user in `input.user_id`. Queues the check
--- that whoever is named is one of the dealership's own.
---@param tx moonpool.tx
---@param input { dealership_id: string, user_id?: string }
---@return string user_id
function accounts.actor(tx, input)
  local caller = tx.caller and tx.caller.user_id
  if not (caller or input.user_id) then
    invalid("userId", "is required where no caller is known")
  end
  local function check(user_id)
    tx:one("select id from users where dealership_id = $dealership_id and id = $user_id",
           { dealership_id = input.dealership_id, user_id = user_id }, "User not found: $user_id")
  end
  if caller then check(caller) end
  if input.user_id and input.user_id ~= caller then check(input.user_id) end
  return caller or input.user_id
end

--- Adds an entry to the security log. Never give it a password, nor what was typed as a login.
---@param tx moonpool.tx
---@param event { user_id: string, event_type: string, success: boolean, metadata?: table }
function accounts.log(tx, event)
  tx:insert("security_audit_log", {
    id            = tx:uuid(),
    dealership_id = tx.tenant,
    user_id       = event.user_id,
    event_type    = event.event_type,
    success       = event.success,
    metadata      = event.metadata,
  })
end

-- Logins ------------------------------------------------------------------------------------------

local function read_account(found)
  return db.transaction({ tenant = found.dealership_id, read_only = true }, function(tx)
    return tx:first([[
      select password_hash, account_locked_until > now() as is_locked
        from users where dealership_id = $dealership_id and id = $user_id]], found)
  end)
end

-- Decides and records one attempt, under a lock on the user's row: attempts at the same time count
-- one by one, and none of them passes once the account is locked. Gives what became of it: "ok",
-- "failed", "locked" or "inactive".
local function record_attempt(found, attempt)
  return db.transaction({ tenant = found.dealership_id }, function(tx)
    local key  = { dealership_id = found.dealership_id, user_id = found.user_id }
    local user = tx:first([[
      select failed_login_attempts, is_active, password_hash,
             account_locked_until > now()  as is_locked,
             account_locked_until <= now() as was_locked
        from users where dealership_id = $dealership_id and id = $user_id for no key update]], key)
    if not user then return "failed" end

    local function log(event_type, success, metadata)
      accounts.log(tx, { user_id = found.user_id, event_type = event_type, success = success,
                         metadata = metadata })
    end
    if user.is_locked then
      log("login", false, { reason = "locked" })
      return "locked"
    end
    if not user.is_active then
      log("login", false, { reason = "inactive" })
      return "inactive"
    end
    if attempt.matches and user.password_hash == attempt.hash then
      key.password_hash = attempt.new_hash or attempt.hash
      tx:exec([[
        update users
           set failed_login_attempts = 0, account_locked_until = null, last_login_at = now(),
             updated_at = now(),
               password_hash = $password_hash
         where dealership_id = $dealership_id and id = $user_id]], key)
      log("login", true)
      return "ok"
    end

    -- A lock that has run out gives all attempts back.
    local failures = (user.was_locked and 0 or user.failed_login_attempts) + 1
    key.failures, key.minutes = failures, accounts.lockout_minutes
    key.locks = failures >= accounts.max_failures
    tx:exec([[
      update users
         set failed_login_attempts = $failures, updated_at = now(),
             account_locked_until = case
               when $locks then now() + make_interval(mins => $minutes) end
       where dealership_id = $dealership_id and id = $user_id]], key)
    log("login", false, { reason = "password", failed_login_attempts = failures })
    if key.locks then log("account_locked", true, { minutes = accounts.lockout_minutes }) end
    return "failed"
  end)
end

local function read_user(found)
  return db.transaction({ tenant = found.dealership_id, read_only = true }, function(tx)
    local user = tx:one([[
      select dealership_id, id, username, email, full_name, role, email_verified, mfa_enabled,
        last_login_at
        from users where dealership_id = $dealership_id and id = $user_id]], found)
    local granted = tx:one([[
      select coalesce(array_agg(permission order by permission), '{}') as names
        from user_permissions where dealership_id = $dealership_id and user_id = $user_id]], found)
    return { user = user, permissions = granted.names }
  end)
end

--- Checks a login, which is a username or an e-mail address, and records the attempt. Works in
--- transactions of its own, and holds no connection while the password is hashed: not for use
--- inside of one.
---
--- A login that nobody has takes the same steps, with a hash that is nobody's, so that it takes
--- about as long. It leaves no entry: the security log is a dealership's, and this one is nobody's.
--- To a caller who speaks for a dealership, a login of another one is nobody's too.
---@param login string
---@param text string   the password as typed
---@param dealership_id? string   the caller's
---@return "ok"|"failed"|"locked"|"inactive" outcome
---@return { user: moonpool.row, permissions: string[] }? account   where the outcome is "ok"
function accounts.log_in(login, text, dealership_id)
  local found = db.first([[
    select dealership_id, user_id from system.find_login($login)
      where dealership_id = $of or $of is null]],
    { login = login, of = dealership_id or json.null })
  found = found and { dealership_id = found.dealership_id, user_id = found.user_id }
    or { dealership_id = moonpool.uuid(), user_id = moonpool.uuid() }

  local account = read_account(found)
  local attempt = { hash = account and account.password_hash }
  if not (account and account.is_locked) then
    attempt.matches = password.verify(attempt.hash, text)
    if attempt.matches and password.needs_rehash(attempt.hash) then
      attempt.new_hash = password.hash(text)
    end
  end
  local outcome = record_attempt(found, attempt)
  if outcome == "ok" then return outcome, read_user(found) end
  return outcome
end

return accounts
