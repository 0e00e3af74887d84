-- moonpool.operation.fields: the fields of an operation's definition. Each row has a field's name,
-- type, default and description. The checks of a definition and the LuaCATS class
-- (lua/moonpool/types/operation.lua) are made from this list. `host`: the C side reads the field
-- (src/ops/call_lua.c).
local due   = require "moonpool.operation.due"
local is    = require "moonpool.is"
local lanes = require "moonpool.operation.lanes"
local sql   = require "moonpool.sql"

-- The types of values: `type` is the LuaCATS type, fault(value) returns nil or what is wrong.

local function lua_type(name, shown)
  return { type = shown or name, fault = function(value)
    return type(value) ~= name and ("must be a %s, not a %s"):format(name, type(value)) or nil
  end }
end

local text, flag = lua_type "string", lua_type "boolean"

local function integer(from, to)
  return { type = "integer", fault = function(value)
    return not (math.type(value) == "integer" and value >= from and value <= to)
      and ("must be an integer from %d to %d"):format(from, to) or nil
  end }
end

local seconds = { type = "number", fault = function(value)
  return not (type(value) == "number" and value > 0 and value <= 86400)
    and "must be a number of seconds, greater than 0 and at most 86400" or nil
end }

local function one_of(...)
  local known, shown = {}, {}
  for i, word in ipairs { ... } do known[word], shown[i] = true, ("%q"):format(word) end
  return { type = table.concat(shown, "|"), fault = function(value)
    return not known[value] and "must be " .. table.concat(shown, " or ") or nil
  end }
end

local a_schema = { type = "moonpool.schema", fault = function(value)
  return not is.schema(value) and "must be a schema of moonpool.is" or nil
end }

local field_name = { type = "string", fault = function(value)
  return not (type(value) == "string" and value:find "^[%a_][%w_]*$" and #value < 60)
    and "must be the name of an input field" or nil
end }

local tenant_field = { type = "string|false", fault = function(value)
  if value == false then return nil end
  local fault = field_name.fault(value)
  return fault and fault .. ", or false"
end }

local schedule = { type = "string", fault = function(value)
  return (select(2, due.parse(value)))
end }

local one_select = { type = "string", fault = function(value)
  local ok, kind = pcall(sql.kind, value)
  return not (ok and kind == "SelectStmt") and "must be one SELECT that gives a tenant in each row"
    or nil
end }

local topic = { type = "string", fault = function(value)
  return not (type(value) == "string" and #value > 0 and #value <= 200)
    and "must be a topic, text of 1 to 200 bytes" or nil
end }

local isolation = one_of("read committed", "repeatable read", "serializable")
isolation.type = "moonpool.isolation"

local list = {
  { "run", lua_type("function", "fun(tx: moonpool.tx, input: table): any"), required = true,
    "the transaction; the host may start it again from the top at any moment" },
  { "summary", text, "one line for people" },
  { "input", a_schema, "what the input must be; checked before `run` starts" },
  { "output", a_schema, "what the result is; for /openapi.json" },
  { "tenant", tenant_field, host = true,
    "the input field that names the tenant; false: it has none, and that is meant" },
  { "actor", text, "the input field that names who acts, where the caller has no user id" },
  { "isolation", isolation, default = "read committed", host = true,
    "the isolation level of the transaction" },
  { "read_only", flag, host = true,
    "the transaction cannot write (25006); it is repeated after any lost connection" },
  { "deferrable", flag, host = true,
    "with \"serializable\" and `read_only`: waits for a safe snapshot" },
  { "witness", flag, default = true, host = true,
    "a write leaves a row by which a lost COMMIT is resolved" },
  { "flush", one_of("own", "shared"), host = true,
    "\"shared\": many COMMITs share one flush of the server's disk; default MOONPOOL_FLUSH" },
  { "merge", flag, default = true, host = true,
    "queued inserts into one table with the same columns go to the server as one statement" },
  { "timeout", seconds, default = 30, host = true, "seconds over all attempts, waits included" },
  { "statement_timeout", seconds, host = true, "seconds for one statement of this transaction" },
  { "lock_timeout", seconds, host = true, "seconds for one wait for a lock" },
  { "retries", integer(0, 100), default = 3, host = true,
    "attempts after the first: after a serialization failure, a deadlock, a lost connection" },
  { "cpu", seconds, host = true,
    "seconds of CPU time for one attempt; default MOONPOOL_CPU_BUDGET" },
  { "memory", integer(1, 65536), host = true,
    "MiB of Lua values for one call; default MOONPOOL_TASK_MEMORY" },
  { "round_trips", integer(1, 1000),
    "round trips that a call may take; with more, specs fail" },
  { "lane", { type = "string|moonpool.lane|(string|moonpool.lane)[]", fault = lanes.fault },
    "calls whose lane is equal wait for each other; `$name`s are input fields" },
  { "group", integer(1, 64), host = true,
    "up to so many calls that wait in the lane share a transaction" },
  { "groups", integer(1, 256),
    "with `group`: so many transactions of this operation at a time, for calls of all lanes" },
  { "group_ms", integer(1, 10000), default = 50, host = true,
    "no call joins a group later than so many ms after the group's first call began" },
  { "errors", lua_type("table", "table<string, { [1]: string, [2]?: integer, [3]?: string }>"),
    host = true,
    "constraint -> code, status (400 to 599; default: that of the constraint's kind), message; \z
     `$name` in the message is the input's value" },
  { "every", schedule, "the operation runs by itself: \"5m\" (s, m, h, d) or a cron line, \z
      \"0 3 * * mon-fri\" in MOONPOOL_TZ" },
  { "for_each", one_select, "of a schedule: a query that gives tenants; it runs once for each" },
  { "internal", flag, "HTTP clients cannot call it; default true with `every` and `on`" },
  { "http", flag, "with `every`: HTTP clients may call it too" },
  { "on", topic, "of a subscriber: the topic; run(tx, message) gets a moonpool.message" },
  { "from", one_of("now", "oldest"),
    "of a subscriber that is new: where it begins; default \"now\"" },
  { "renamed_from", text, "of a subscriber: the one whose place it takes" },
  { "deliveries", integer(1, 1000), "of a subscriber: how often a message is tried; default 10" },
  { "concurrency", integer(1, 100),
    "of a subscriber: how many keys at a time, default 4; of a schedule: how many tenants" },
}

local fields = { list = list, named = {} }

for i, row in ipairs(list) do
  local field = { name = row[1], type = row[2].type, fault = row[2].fault, doc = row[3],
    default = row.default, required = row.required, host = row.host }
  list[i], fields.named[field.name] = field, field
end

local function wrapped(words, width)
  local lines, line = {}, "---"
  for word in words:gmatch "%S+" do
    if #line + #word + 1 > width then
      lines[#lines + 1], line = line, "---"
    end
    line = line == "---" and line .. word or line .. " " .. word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

--- The LuaCATS class of a definition.
---@return string
function fields.types()
  local out = { "---@meta moonpool", "-- Made by spec/support/operation_types.lua from \z
    lua/moonpool/operation/fields.lua.", "", "---@class moonpool.operation_definition" }
  for _, field in ipairs(list) do
    local default = field.default ~= nil and
      "; default " .. (type(field.default) == "string" and "%q" or "%s"):format(field.default) or ""
    out[#out + 1] = wrapped(field.doc .. default, 100)
    out[#out + 1] = ("---@field %s%s %s"):format(field.name, field.required and "" or "?",
                                                 field.type)
  end
  return table.concat(out, "\n") .. "\n"
end

return fields
