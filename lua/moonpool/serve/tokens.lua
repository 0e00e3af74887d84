-- moonpool.serve.tokens: the tokens with which clients may use the HTTP service. A token is shown
-- once, when it is made; the database stores only a hash of it.
local db     = require "moonpool.db"
local errors = require "moonpool.errors"
local host   = require "moonpool.host"

local tokens = {}

local own = host.database -- the host's own connection: no load of the pool delays the check

local function refuse(message, ...)
  error(errors.new { code = "USAGE", status = 400, message = message:format(...) }, 0)
end

-- True for an error that means that `migrate up` has not been run: no tokens exist then.
local function missing(e)
  return errors.is(e) and (e.sqlstate == "3F000" or e.sqlstate == "42883" or e.sqlstate == "42P01")
end

--- For the service: a token's hash, tenant, user, scopes and seconds until it expires; nil if the
--- token does not exist.
function tokens.find(id)
  local ok, row = pcall(own.first, "select * from moonpool.token_by_id($1) where hash is not null",
                        id)
  if ok then
    if row then return row.hash, row.tenant, row.user_id, row.scopes, row.seconds end
    return nil
  end
  if missing(row) then
    host.log(
      "warn", "there are no tokens: the database has no schema moonpool; run moonpool migrate up")
    return nil
  end
  error(row, 0)
end

--- True if any token exists that may be used.
function tokens.exist()
  local ok, answer = pcall(own.value, "select moonpool.token_exists()")
  if ok then return answer end
  return not missing(answer) and error(answer, 0) or false
end

-- ---- as the owner ----

local plain = { monitor = true, admin = true }

local function check_scopes(scopes)
  if #scopes == 0 then
    refuse "a token needs at least one scope: ops:*, ops:NAME, monitor, admin"
  end
  for _, scope in ipairs(scopes) do
    if not plain[scope] and not scope:find "^ops:[%a_][%w_]*$" and scope ~= "ops:*" then
      refuse("unknown scope %q; use ops:*, ops:NAME, monitor or admin", scope)
    end
  end
end

--- Makes a token; options: scopes (list), tenant, user, label, days (until it expires).
---@return string token
---@return string id
function tokens.create(options)
  check_scopes(options.scopes)
  local token, id, hash = host.token_new()
  db.value([[insert into moonpool.token (id, hash, tenant, user_id, scopes, label, expires_at)
           values ($1, $2, $3, $4, $5::text[], $6, now() + $7::float8 * interval '1 day')
             returning id]],
         id, hash, options.tenant, options.user, options.scopes, options.label or "", options.days)
  return token, id
end

--- All tokens that are not revoked; with `everything`, all tokens.
function tokens.list(everything)
  return db.query([[
    select id, tenant, user_id, array_to_string(scopes, ' ') as scopes, label, created_at,
      expires_at, revoked_at
      from moonpool.token where $1 or revoked_at is null order by created_at, id]], everything
        or false)
end

--- Revokes a token. Returns false if no token has this id, or if it is revoked already. Hosts that
--- have checked the token before accept it for some seconds more.
function tokens.revoke(id)
  return db.count(
    "update moonpool.token set revoked_at = now() where id = $1 and revoked_at is null", id) == 1
end

return tokens
