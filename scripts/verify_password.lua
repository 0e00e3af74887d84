-- Checks a login: a username or an e-mail address, and its password. Of whatever dealership, unless
-- the caller speaks for one: then of that one.
--
-- A wrong password, an unknown login and an inactive user get one answer, INVALID_CREDENTIALS
-- (401). After 5 wrong passwords in a row the account is locked for 15 minutes: ACCOUNT_LOCKED
-- (423), the right password too. Each attempt is in the security log of the user's dealership, and
-- stays there although the call fails.
--
-- The dealership is not known before the login was found, and a failed attempt must be stored: so
-- the work is done in transactions of their own (lib.accounts), in a task beside this operation's
-- own transaction, which stays empty. The lane lets one login at a time do so: two connections at
-- most, however many knock, and never as many holders as waiters.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local accounts = require "lib.accounts"

local errors = {
  failed   = { "INVALID_CREDENTIALS", "The login or the password is wrong", 401 },
  inactive = { "INVALID_CREDENTIALS", "The login or the password is wrong", 401 },
  locked   = { "ACCOUNT_LOCKED",
               "The account is locked after too many wrong passwords; try again later", 423 },
}

return moonpool.operation {
  summary =
    "Check a username or e-mail address and its password, with lock-out after failed attempts",

  input = is.object {
    login    = is.string:min(1):max(254),
    password = accounts.password,
  },
  output = is.object { user = is.row, permissions = is.array(is.string) },

  tenant  = false,
  timeout = 30,
  lane    = "verify_password",

  run = function(tx, input)
    if tx.tenant then
      moonpool.fail("INVALID_ARGUMENT",
                    "verify_password cannot be part of another operation: \z
                     what it records must stay",
                    { status = 500 })
    end
    local outcome, account
    local of = tx.caller and tx.caller.tenant
    moonpool.spawn(function()
      outcome, account = accounts.log_in(input.login, input.password, of)
    end):wait()
    local fault = errors[outcome]
    if fault then moonpool.fail(fault[1], fault[2], { status = fault[3] }) end
    return account
  end,
}
