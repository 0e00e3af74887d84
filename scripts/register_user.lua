-- Registers a user of a dealership, with the permissions of the role.
--
-- Without a caller this is a public registration: it makes a salesperson, and cannot ask for a role
-- (403, whichever role it names). An active admin of the dealership may choose one.
-- The password is hashed before the first statement is queued: nothing was sent by then, so no
-- transaction is open on the server, and no row is locked. The connection is held, though. The lane
-- lets one registration at a time come so far; a crowd of them waits in memory and leaves the pool
-- to others.
local moonpool = require "moonpool"
local is       = require "moonpool.is"
local password = require "moonpool.password"
local accounts = require "lib.accounts"
local audit    = require "lib.audit"

local function forbid(message)
  moonpool.fail("FORBIDDEN", message, { status = 403 })
end

local function refuse_role()
  forbid(
    "Only an administrator of the dealership may choose the role; leave out `role` to register \z
      as a salesperson")
end

return moonpool.operation {
  summary = "Register a user with a hashed password and the permissions of the role",

  input = is.object {
    dealership_id = is.uuid,
    username      = is.string:min(3):max(50)
      :pattern("^[%w._-]+$", "letters, digits, dots, dashes and underscores"),
    full_name     = is.string:min(1):max(200):pattern("%S", "text that is not blank"),
    email         = is.email,
    password      = accounts.password:min(8),
    role          = is.enum { "salesperson", "sales_manager", "finance_manager",
                              "admin" }:optional(),
  },
  output = is.object { user = is.row, permissions = is.array(is.string) },

  tenant  = "dealership_id",
  timeout = 30,
  lane    = "register_user",

  run = function(tx, input)
    accounts.check_new_password(input.password)
    accounts.check_login_email(input.email)
    local caller = tx.caller and tx.caller.user_id
    if input.role and not caller then refuse_role() end
    local hash = password.hash(input.password)

    -- Round trip 1: queued here, sent by the first look below.
    local user_id = tx:uuid()
    local role    = input.role or "salesperson"
    tx:one("select id from dealership_settings where id = $dealership_id", input,
           "Dealership not found: $dealership_id")
    local who = caller and tx:one([[
      select count(*) > 0 as is_known, coalesce(bool_or(role = 'admin'), false) as is_admin
        from users where dealership_id = $dealership_id and id = $caller and is_active]],
      { dealership_id = input.dealership_id, caller = caller })
    local user = tx:one([[
      insert into users (dealership_id, id, username, email, full_name, role, password_hash,
        password_changed_at)
      values ($dealership_id, $id, $username, $email, $full_name, $role, $hash, now())
      returning dealership_id, id, username, email, full_name, role, email_verified, is_active,
        created_at]],
      { dealership_id = input.dealership_id, id = user_id, username = input.username,
        email = input.email,
        full_name = input.full_name, role = role, hash = hash })
    -- A name that is taken gives no row rather than an error: one constraint guards both kinds, and
    -- its name would not tell which. A registration of the same name that has not committed yet is
    -- waited for.
    local names = tx:one([[
      with taken as (
        insert into user_logins (kind, value, dealership_id, user_id)
        values ('username', lower($username), $dealership_id, $id),
          ('email', lower($email), $dealership_id, $id)
        on conflict (kind, value) do nothing
        returning kind)
      select count(*) filter (where kind = 'username') = 1 as username,
        count(*) filter (where kind = 'email') = 1 as email
        from taken]],
      { dealership_id = input.dealership_id, id = user_id, username = input.username,
        email = input.email })
    local granted = tx:one([[
      with granted as (
        insert into user_permissions (dealership_id, user_id, permission)
        select $dealership_id, $id, permission from role_permissions where role = $role
        returning permission)
      select coalesce(array_agg(permission order by permission), '{}') as names from granted]],
      { dealership_id = input.dealership_id, id = user_id, role = role })

    if who and not who.is_known then forbid("The caller is no active user of the dealership") end
    if input.role and not who.is_admin then refuse_role() end
    if not names.username then
      moonpool.fail("USERNAME_TAKEN", "Username is already taken: " .. input.username,
                    { status = 409 })
    end
    if not names.email then
      moonpool.fail("EMAIL_TAKEN", "E-mail address is already registered: " .. input.email,
                    { status = 409 })
    end

    -- Round trip 2: travels with COMMIT. Whoever registers alone is the actor.
    local metadata = { username = input.username, role = role }
    audit.created(tx, "user", user_id, { actor = user_id, metadata = metadata })
    accounts.log(tx, { user_id = user_id, event_type = "user_registered", success = true,
                       metadata = { registered_by = caller or user_id, role = role } })
    return { user = user, permissions = granted.names }
  end,
}
