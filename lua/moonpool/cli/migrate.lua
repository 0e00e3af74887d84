-- `moonpool migrate`: the command line of lua/moonpool/migrate/, which brings a database to the
-- state of migrations/. The host connects to the database as the owner.
local moonpool = require "moonpool"
local nearest  = require "moonpool.is.nearest"
local problem  = require "moonpool.migrate.problem"

local usage = [[
usage: moonpool migrate [up [--to N] | down [N] [--to N] | status | verify [--accept] | new NAME]
                        [options]
  moonpool migrate --help tells more]]

local function usage_error(...)
  io.stderr:write("moonpool migrate: ", string.format(...), "\n", usage, "\n")
  return 2
end

-- The commands, and the options of each.
local run_options = { to = true, wait = true, ["lock-timeout"] = true, retries = true, quiet = true,
                      ["dry-run"] = true,
                      print = true }
local commands = {
  up     = run_options,
  down   = run_options,
  status = { json = true },
  verify = { json = true, accept = true },
  new    = {},
}

-- The options that take a value, and what the value must be.
local values = {
  to               = "a migration's number",
  wait             = "a number of seconds",
  ["lock-timeout"] = "a number of seconds above 0",
  retries          = "a whole number",
}

local function number_of(option, text)
  local number = tonumber(text)
  if not number or number < 0 or number ~= number or number > 1e9 then return nil end
  if option == "to" or option == "retries" then return math.tointeger(number) end
  if option == "lock-timeout" and number < 0.001 then return nil end
  return number
end

-- Reads the arguments. Returns the options by name, and the other words; or nil and a message.
local function read(args)
  local given, words, at = {}, {}, 1
  while args[at] do
    local arg = args[at]
    local name, value = arg:match "^%-%-([%w-]+)=(.*)$"
    if not name then name = arg:match "^%-%-([%w-]+)$" end
    if arg == "-h" then name = "help" end
    if not name and arg:match "^%-." then return nil, "unknown option " .. arg end
    if not name then
      words[#words + 1] = arg
    elseif values[name] then
      if not value then
        at = at + 1
        value = args[at]
      end
      given[name] = value and number_of(name, value)
      if not given[name] then
        return nil, string.format("--%s takes %s%s", name, values[name],
                                  value and ", not " .. value or "")
      end
    elseif value then
      return nil, "--" .. name .. " takes no value"
    else
      given[name] = true
    end
    at = at + 1
  end
  return given, words
end

local function run(command, given, words)
  local dir = moonpool.app_dir .. "/migrations"
  if command == "new" then
    print(require "moonpool.migrate.files".new(dir, words[2]))
    return 0
  elseif command == "status" then
    return require "moonpool.migrate.status".list(dir, given.json)
  elseif command == "verify" then
    if given.accept then return require "moonpool.migrate.objects".accept_all() end
    return require "moonpool.migrate.status".verify(dir, given.json)
  end
  return require "moonpool.migrate.apply"[command](dir, {
    to = given.to, count = words[2] and math.tointeger(tonumber(words[2])),
    wait_s = given.wait or 60,
    lock_timeout_ms = math.max(1, math.floor((given["lock-timeout"] or 5) * 1000)),
    retries = given.retries or 20,
    quiet = given.quiet, dry_run = given["dry-run"], print = given.print,
  })
end

---@param args string[]     what follows `migrate` on the command line
---@return integer exit     0 ok, 1 failed, 2 usage
return function(args)
  local given, words = read(args)
  if not given then return usage_error("%s", words) end
  local command = words[1] or "up"
  if given.help then
    print(usage)
    return 0
  end
  local allowed = commands[command]
  if not allowed then
    local near = nearest(command, commands)
    return usage_error("unknown command %s%s", command,
      near and ("; did you mean `%s`?"):format(near) or "")
  end
  for name in pairs(given) do
    if not allowed[name] then
      local elsewhere = false
      for _, options in pairs(commands) do elsewhere = elsewhere or options[name] end
      return usage_error(elsewhere and "--%s does not go with %s" or "unknown option --%s", name,
                         command)
    end
  end
  if given["dry-run"] and given.print then
    return usage_error "--dry-run and --print are two different things"
  end
  local most = (command == "down" or command == "new") and 2 or 1
  if words[most + 1] then return usage_error("unexpected argument %s", words[most + 1]) end
  if command == "new" and not words[2] then
    return usage_error "new takes a name, such as add_service_orders"
  end
  if command == "down" and words[2] then
    local count = math.tointeger(tonumber(words[2]))
    if not count or count < 1 then
      return usage_error("down takes how many to undo, not %s", words[2])
    end
    if given.to then return usage_error "down takes a count or --to, not both" end
  end
  local ok, result = pcall(run, command, given, words)
  if ok then return result end
  if not problem.is(result) then error(result, 0) end     -- for the host: NO_DATABASE, say
  io.stderr:write(tostring(result), "\n")
  return 1
end
