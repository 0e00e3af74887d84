-- moonpool.is.containers: objects, arrays, maps and unions.
local json = require "moonpool.json"
local schema = require "moonpool.is.schema"
local nearest = require "moonpool.is.nearest"

local containers = {}

-- Returns the definition of the schema `value`; raises if `value` is not a schema.
local function check_schema(value, what, level)
  local definition = schema.of(value)
  if not definition then
    error(("%s must be a schema such as is.string, got %s"):format(what, type(value)), level + 1)
  end
  return definition
end

local function is_object(value) return type(value) == "table" and not json.is_array(value) end

-- -- objects --------------------------------------------------------------------------------------

local function report_unknown(self, run, key)
  local shown = tostring(key)
  if type(key) ~= "string" or not utf8.len(key) then shown = "?" end
  if #shown > 60 then shown = shown:sub(1, (utf8.offset(shown, 0, 61) or 61) - 1) .. "..." end
  local known = run.border and self.by_border_name or self.fields
  local respelled = type(key) == "string" and (run.border and json.camel(key) or json.snake(key))
  local guess = known[respelled] and respelled or nearest(shown, known)
  local message = ("unknown field `%s`"):format(shown)
  if guess then message = ("%s; did you mean `%s`?"):format(message, guess) end
  local parent = run:path()
  run:report(run:path(shown), message, parent == "" and message or parent .. ": " .. message)
end

local function check_rule(self, rule, value, run)
  local given, names = 0, {}
  for i, name in ipairs(rule.names) do
    local key = run.border and self.border_names[name] or name
    names[i] = key
    local v = value[key]
    if v ~= nil and v ~= schema.null then given = given + 1 end
  end
  if given == 1 then return end
  local list = table.concat(names, ", ", 1, #names - 1) .. " and " .. names[#names]
  run:fail(rule.message or ("exactly one of %s must be given"):format(list))
end

local MOST_UNKNOWN = 20   -- unknown fields reported for an object
local MOST_SORTED  = 1000 -- keys of a map; table.sort cannot be interrupted

local function convert_object(self, value, run)
  if not is_object(value) then return run:fail("must be an object") end
  local copy, border = {}, run.border
  local names, border_names, fields = self.names, self.border_names, self.fields
  local known = border and self.by_border_name or fields
  for i = 1, #names do
    local name = names[i]
    local key = border and border_names[name] or name
    copy[name] = run:child(key, fields[name], rawget(value, key))
  end
  local unknown = nil
  for key in next, value do
    if not known[key] then
      unknown = unknown or {}
      unknown[#unknown + 1] = key
      if #unknown == MOST_UNKNOWN then break end
    end
  end
  if unknown then
    table.sort(unknown, function(a, b) return tostring(a) < tostring(b) end)
    for _, key in ipairs(unknown) do report_unknown(self, run, key) end
  end
  local rules = self.rules
  for i = 1, #rules do check_rule(self, rules[i], value, run) end
  return setmetatable(copy, self.metatable)
end

-- The metatable of checked copies. Reading a field that no schema names raises. __fields is for
-- code that takes $name parameters from the copy: an absent field of the schema is NULL, and not a
-- misspelled name. `also`: other fields that read as nil.
local function strict(fields, also)
  return {
    __fields = fields,
    __index = function(_, name)
      if type(name) ~= "string" or fields[name] or also and also[name] then return nil end
      local near = nearest(name, fields)
      error(("there is no field `%s`%s"):format(name,
        near and ("; did you mean `%s`?"):format(near) or "; the schema does not have it"), 2)
    end,
  }
end

-- is.object { name = schema, … }: an unknown field is an error.
function containers.object(fields)
  if type(fields) ~= "table" then error("is.object: expected a table of fields", 2) end
  local own, names, border_names, by_border_name = {}, {}, {}, {}
  for name, field in next, fields do
    if type(name) ~= "string" then error("is.object: field names must be strings", 2) end
    own[name] = check_schema(field, ("is.object: field %q"):format(name), 2)
    names[#names + 1] = name
    local border = json.camel(name)
    if by_border_name[border] then
      error(("is.object: fields %q and %q are both %q at the border"):format(name,
        by_border_name[border], border), 2)
    end
    border_names[name], by_border_name[border] = border, name
  end
  table.sort(names)
  return schema.new("object", {
    allows = { exactly_one = true },
    fields = own,
    names = names,
    border_names = border_names,
    by_border_name = by_border_name,
    rules = {},
    metatable = strict(own),
    convert = convert_object,
  })
end

-- -- arrays and maps ------------------------------------------------------------------------------

local function items(n) return ("%d item%s"):format(n, n == 1 and "" or "s") end

local function is_sequence(value, border)
  if type(value) ~= "table" then return false end
  if not json.is_array(value) then return not border and next(value) == nil end
  local n, count = #value, 0
  for key in next, value do
    if math.type(key) ~= "integer" or key < 1 or key > n then return false end
    count = count + 1
  end
  return count == n
end

local function convert_array(self, value, run)
  if not is_sequence(value, run.border) then return run:fail("must be an array") end
  local n, min, max = #value, self.min_value, self.max_value
  if min and n < min then return run:fail("must have at least " .. items(min)) end
  if max and n > max then return run:fail("must have at most " .. items(max)) end
  local copy, item = {}, self.item
  for i = 1, n do
    if run:full() then break end
    copy[i] = run:child(i, item, rawget(value, i))
  end
  return json.array(copy)
end

-- is.array(schema)
function containers.array(item)
  item = check_schema(item, "is.array: the item", 2)
  if item.is_optional then error("is.array: an item cannot be optional; use :nullable()", 2) end
  return schema.new("array",
                    { allows = { min = true, max = true }, item = item, convert = convert_array })
end

local function convert_map(self, value, run)
  if not is_object(value) then return run:fail("must be an object") end
  local keys, copy, value_schema = {}, {}, self.item
  for key in next, value do
    if type(key) ~= "string" or not utf8.len(key) or #key > 200 or key:find("\0", 1, true) then
      return run:fail("has a name that is not text of at most 200 bytes")
    end
    keys[#keys + 1] = key
  end
  local min, max = self.min_value, self.max_value
  if min and #keys < min then return run:fail("must have at least " .. items(min)) end
  if max and #keys > max then return run:fail("must have at most " .. items(max)) end
  if #keys <= MOST_SORTED then table.sort(keys) end -- failures in a fixed order
  for _, key in ipairs(keys) do
    if run:full() then break end
    copy[key] = run:child(key, value_schema, rawget(value, key))
  end
  return json.map(copy)
end

-- is.map(schema): any names, and values of one schema. The names are data and keep their spelling.
function containers.map(value)
  local item = check_schema(value, "is.map: the value", 2)
  return schema.new("map", { allows = { min = true, max = true }, item = item,
                             convert = convert_map })
end

-- -- unions ---------------------------------------------------------------------------------------

local function convert_union(self, value, run)
  local outer, best = run.failures, nil
  local depth = run.depth
  for _, choice in ipairs(self.choices) do
    run.failures = nil
    local copy = run:visit(choice, value)
    local failed = run.failures
    run.failures, run.depth = outer, depth
    if not failed then return copy end
    best = best and #best <= #failed and best or failed -- report the form with the fewest failures
  end
  local own = run:path()
  local hint = best[1].path == own and best[1].message or best[1].line
  return run:fail(("fits none of the %d forms it may have; the nearest: %s"):format(#self.choices,
    hint))
end

-- Which form a value has is asked by reading fields of the others.
local function know_each_other(choices)
  local all = {}
  for _, choice in ipairs(choices) do
    for name in next, choice.fields or {} do all[name] = true end
  end
  for i, choice in ipairs(choices) do
    if choice.kind == "object" then
      local own = {}
      for name, value in next, choice do own[name] = value end
      own.metatable = strict(choice.fields, all)
      choices[i] = own
    end
  end
end

-- is.one_of(a, b, …): the first schema that accepts the value.
function containers.one_of(...)
  local choices = { ... }
  if #choices < 2 then error("is.one_of: two or more schemas are needed", 2) end
  for i, choice in ipairs(choices) do
    choices[i] = check_schema(choice, "is.one_of: argument " .. i, 2)
  end
  know_each_other(choices)
  return schema.new("one_of", { choices = choices, takes_null = true, convert = convert_union })
end

return containers
