-- `moonpool token create | list | revoke`: manages the tokens of the HTTP service, as the owner.
local errors   = require "moonpool.errors"
local json     = require "moonpool.json"
local nearest  = require "moonpool.is.nearest"
local registry = require "moonpool.operation.registry"
local tokens   = require "moonpool.serve.tokens"

local usage = "usage: moonpool token create|list|revoke ...; moonpool token --help tells more"

local function fail(...)
  io.stderr:write("moonpool token: ", string.format(...), "\n")
  return 2
end

-- Reads "--name value" pairs and "--flag"s. Returns the options, and the other words; or nil and a
-- message.
local function read(args, values, flags)
  local given, words, i = {}, {}, 2
  while i <= #args do
    local name = args[i]:match "^%-%-(.+)$"
    if not name then
      words[#words + 1] = args[i]
    elseif flags[name] then
      given[name] = true
    elseif values[name] then
      i = i + 1
      if not args[i] then return nil, ("--%s needs a value"):format(name) end
      given[name] = args[i]
    else
      return nil, ("unknown option --%s"):format(name)
    end
    i = i + 1
  end
  return given, words
end

-- Returns a message for a scope whose operation is missing in scripts/ or internal; otherwise nil.
local function scope_fault(scope)
  local name = scope:match "^ops:([%a_][%w_]*)$"
  local known = registry.all()
  if not name or not next(known) or registry.broken[name] then return nil end
  if known[name] then
    return known[name].internal and name .. " is internal: it cannot be called over HTTP" or nil
  end
  local near = nearest(name, known)
  return ("there is no operation %s%s (--allow-unknown accepts it)"):format(name,
    near and ("; did you mean %s?"):format(near) or " in scripts/")
end

-- Returns the message of the operation's schema for this value of its tenant field; nil: accepted.
local function refusal_of(op, tenant)
  local ok, e = pcall(op.input.check, op.input, { [op.tenant] = tenant })
  for _, fault in ipairs(not ok and e.fields or {}) do
    if fault.path == op.tenant then return fault.message end
  end
  return nil
end

-- Returns a message for a tenant that some operation refuses, as a text and as a number; otherwise
-- nil.
local function tenant_fault(tenant)
  for name, op in pairs(registry.all()) do
    local message = op.tenant and op.input and refusal_of(op, tenant)
    local number = tonumber(tenant)
    if message and (not number or refusal_of(op, number)) then
      return ("%q is not a tenant: the %s of %s %s"):format(tenant, op.tenant, name, message)
    end
  end
  return nil
end

local commands = {}

function commands.create(args)
  local given, words = read(args, { tenant = true, user = true, scopes = true, label = true,
                                    days = true },
    { json = true, ["allow-unknown"] = true })
  if not given then return fail("%s\n%s", words, usage) end
  if words[1] then return fail("unknown argument %s\n%s", words[1], usage) end
  local days = given.days and tonumber(given.days)
  if given.days and not (days and days > 0 and days < 40000) then
    return fail("--days needs a number, not %s", given.days)
  end
  local scopes = json.array()
  for scope in (given.scopes or "ops:*"):gmatch "[^%s,]+" do scopes[#scopes + 1] = scope end
  for _, scope in ipairs(scopes) do
    local fault = not given["allow-unknown"] and scope_fault(scope)
    if fault then return fail("%s", fault) end
  end
  local fault = given.tenant and tenant_fault(given.tenant)
  if fault then return fail("%s", fault) end
  local token, id = tokens.create { scopes = scopes, tenant = given.tenant, user = given.user,
                                    label = given.label, days = days }
  if given.json then
    print(json.encode({ id = id, token = token }, { sorted = true }))
  else
    print(token)
    io.stderr:write("the token is shown this once; its id is ", id, "\n")
    if not given.tenant then
      io.stderr:write "it belongs to no tenant: the input of a call names one, any (--tenant ID \z
        binds it to one)\n"
    end
  end
  return 0
end

function commands.list(args)
  local given, words = read(args, {}, { json = true, all = true })
  if not given then return fail("%s\n%s", words, usage) end
  local rows = tokens.list(given.all)
  if given.json then
    print(json.encode(json.array(rows), { sorted = true }))
    return 0
  end
  for _, row in ipairs(rows) do
    local state = row.revoked_at and "revoked " .. row.revoked_at or row.expires_at
      and "until " .. row.expires_at or "no end"
    print(("%s  %-24s tenant %s  user %s  %s  %s"):format(row.id, row.scopes, row.tenant or "-",
                                                          row.user_id or "-", state,
                                                         row.label))
  end
  if #rows == 0 then io.stderr:write "there are no tokens; moonpool token create makes one\n" end
  return 0
end

function commands.revoke(args)
  if not args[2] or args[3] then return fail("revoke needs the id of one token\n%s", usage) end
  local id = args[2]:match "^mp_(%w+)_" or args[2]
  if tokens.revoke(id) then
    print("revoked " .. id .. "; hosts that know it take it for some seconds more")
    return 0
  end
  io.stderr:write("moonpool token: there is no token ", id,
                  " that could be revoked; moonpool token list shows them\n")
  return 1
end

return function(args)
  local run = commands[args[1] or ""]
  if not run then
    return fail("%s\n%s", args[1] and "there is no command " .. args[1] or "a command is missing",
                usage)
  end
  local ok, result = pcall(run, args)
  if ok then return result end
  if errors.is(result) and result.code == "USAGE" then return fail("%s", result.message) end
  if errors.is(result) and (result.sqlstate == "3F000" or result.sqlstate == "42P01") then
    io.stderr:write "moonpool token: the database has no tokens yet: run moonpool migrate up\n"
    return 1
  end
  error(result, 0)
end
