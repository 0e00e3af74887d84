-- `moonpool outbox`: lists the messages whose delivery failed, and retries or drops them.
local json    = require "moonpool.json"
local nearest = require "moonpool.is.nearest"
local outbox  = require "moonpool.outbox"

local commands = {
  list        = { subscriber = true, message = true, dead = true, json = true },
  subscribers = { json = true },
  retry       = { subscriber = true, message = true, all = true },
  drop        = { subscriber = true, message = true, all = true },
  forget      = {},
  prune       = {},
}
local with_value = { subscriber = true, message = true }

local function usage(...)
  io.stderr:write("moonpool outbox: ", string.format(...), "; see: moonpool outbox --help\n")
  return 2
end

-- -> options, words; or nil and a message
local function read(args)
  local given, words, at = {}, {}, 1
  while args[at] do
    local name, value = args[at]:match "^%-%-([%l]+)=?(.*)$"
    if not name then
      words[#words + 1] = args[at]
    elseif with_value[name] then
      if value == "" then
        at = at + 1
        value = args[at]
      end
      if name == "message" then value = math.tointeger(tonumber(value)) end
      if not value then
        return nil, "--" .. name .. (name == "message" and " takes a message's number"
                                     or " takes a name")
      end
      given[name] = value
    else
      given[name] = true
    end
    at = at + 1
  end
  return given, words
end

local function print_json(rows)
  print(json.encode(json.array(rows), { camel = true, decimal_strings = true, sorted = true }))
end

local function list(given)
  local rows = outbox.list { subscriber = given.subscriber, message = given.message,
                             dead = given.dead }
  if given.json then return print_json(rows) end
  for _, row in ipairs(rows) do
    print(("%-8d %-24s %s%s%s, %s %d, %s"):format(row.message, row.subscriber, row.topic,
                                                  row.key and " " .. row.key or "",
      row.tenant and " of " .. row.tenant or "",
      row.dead and "dead after delivery" or "failed at delivery", row.deliveries,
      row.dead and "at " .. row.failed_at or "next at " .. row.next_at))
    print("         " .. (row.error:gsub("\n.*", "")))
  end
  print(("%d message%s"):format(#rows, #rows == 1 and "" or "s"))
end

local function subscribers(given)
  local rows = outbox.subscribers()
  if given.json then return print_json(rows) end
  print(("%-28s %-28s %8s %8s %8s  %s"):format("subscriber", "topic", "waiting", "failing", "dead",
                                               "seen"))
  for _, row in ipairs(rows) do
    print(("%-28s %-28s %8d %8d %8d  %s"):format(row.name, row.topic, row.waiting, row.failing,
                                                 row.dead, row.seen_at))
  end
end

return function(args)
  local given, words = read(args)
  if not given then return usage("%s", words) end
  local command = words[1] or "list"
  local allowed = commands[command]
  if not allowed then
    local near = nearest(command, commands)
    return usage("unknown command %s%s", command,
      near and ("; did you mean `%s`?"):format(near) or "")
  end
  for name in pairs(given) do
    if not allowed[name] then return usage("--%s does not go with %s", name, command) end
  end
  if words[command == "forget" and 3 or 2] then
    return usage("unexpected argument %s", words[#words])
  end
  if command == "list" then
    list(given)
  elseif command == "subscribers" then
    subscribers(given)
  elseif command == "forget" then
    if not words[2] then return usage "forget takes the subscriber's name" end
    if not outbox.forget(words[2]) then
      io.stderr:write("moonpool outbox: there is no subscriber ", words[2], "\n")
      return 1
    end
  elseif command == "prune" then
    local gone = require "moonpool.serve.housekeeping".run()
    print(("removed %d messages, %d witnesses"):format(gone.messages, gone.witnesses))
  else
    if not (given.all or given.subscriber or given.message) then
      return usage("%s takes --subscriber, --message or --all", command)
    end
    local filter = { subscriber = given.subscriber, message = given.message }
    if command == "retry" then filter.dead = true end
    local count = outbox[command](filter)
    print(("%s: %d message%s"):format(command, count, count == 1 and "" or "s"))
  end
  return 0
end
