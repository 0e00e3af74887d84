-- moonpool.test.retry_safety.memory: the state that a function can keep between two runs: its
-- upvalues and those of all functions that it reaches, the contents of their tables, and their
-- globals. The host's own modules, libraries and weak tables are skipped.
local host      = require "moonpool.host"
local is        = require "moonpool.is"
local definition = require "moonpool.operation.definition"

local memory = {}

local function exists(path)
  local file = io.open(path, "r")
  return file and file:close() or false
end

-- Returns the set of modules to skip: all that are not in scripts/.
local function foreign_modules()
  local foreign = { [package.loaded] = true, [package] = true }
  for name, value in next, package.loaded do
    local stem = ("%s/scripts/%s"):format(host.app_dir, tostring(name):gsub("%.", "/"))
    if type(value) == "table" and not (exists(stem .. ".lua") or exists(stem .. "/init.lua")) then
      foreign[value] = true
    end
  end
  foreign[_G] = nil
  return foreign
end

local function foreign_function(info)
  return info.what == "C" or info.source:find "^@moonpool/" or info.source:find "^@/usr/"
    or not info.source:find "^@"
end

local function is_weak(value)
  local mt = debug.getmetatable(value)
  return type(mt) == "table" and rawget(mt, "__mode") ~= nil
end

-- of(fn) -> { holders = { [holder] = { [key] = slot } }, functions = }. A slot is { name =,
-- label =, value =, functions = the functions that see it }.
function memory.of(fn)
  local foreign = foreign_modules()
  local holders, seen, functions = {}, {}, {}
  local walk

  -- The holder and the key identify a slot: the id of an upvalue and 1, or a table and one of its
  -- keys.
  local function note(holder, key, name, label, value, holds)
    holders[holder] = holders[holder] or {}
    local slot = holders[holder][key]
    if not slot then
      slot = { name = name, label = label, value = value, functions = {} }
      holders[holder][key] = slot
    end
    table.insert(slot.functions, holds)
  end

  local function walk_table(value, name, label, holds)
    local known = seen[value] or foreign[value] or is_weak(value)
    if known or definition.of(value) or is.schema(value) then
      return
    end
    seen[value] = true
    holders[value] = holders[value] or {}
    for key, item in next, value do
      local own = type(key) == "string" and key:find "^[%a_][%w_]*$" and "." .. key
        or ("[%s]"):format(tostring(key))
      note(value, key, name, label .. own, item, holds)
      walk(item, name, label .. own, holds)
    end
    -- for keys that are added later
    holders[value][memory] = { name = name, label = label, functions = { holds } }
  end

  local function walk_globals(env, holds)
    if seen[env] then return end
    seen[env] = true
    holders[env] = holders[env] or {}
    for key, item in next, env do
      local name = tostring(key)
      note(env, key, name, ("global `%s`"):format(name), item, holds)
      if type(item) == "table" then walk_table(item, name, ("global `%s`"):format(name), holds) end
    end
    holders[env][memory] = { globals = true, functions = { holds } }
  end

  function walk(value, name, label, holds)
    if type(value) == "table" then return walk_table(value, name, label, holds) end
    if type(value) ~= "function" or seen[value] then return end
    seen[value] = true
    local info = debug.getinfo(value, "S")
    if foreign_function(info) then return end
    functions[#functions + 1] = info
    for i = 1, 255 do
      local upvalue, item = debug.getupvalue(value, i)
      if not upvalue then break end
      if upvalue == "_ENV" then
        walk_globals(item, info)
      elseif upvalue ~= "" then
        local shown = ("upvalue `%s`"):format(upvalue)
        note(debug.upvalueid(value, i), 1, upvalue, shown, item, info)
        walk(item, upvalue, shown, info)
      end
    end
  end

  walk(fn, "run", "run", nil)
  return { holders = holders, functions = functions }
end

-- "scripts/x.lua:12": the line where one of these functions assigns a value to the name, found by a
-- text search, so it may be wrong.
local function place_of(name, functions)
  local word = "%f[%w_]" .. name:gsub("%W", "%%%0") .. "%f[^%w_]"
  local patterns = { word .. "%s*=[^=]", word .. "%s*,.-=[^=]", word .. "[%.%[].-=[^=]",
                     "table%.[%a]+%(%s*" .. word, word }
  local best, place
  for _, info in ipairs(functions) do
    local path = info.source:sub(2)
    local file = io.open(path, "r") or io.open(host.app_dir .. "/" .. path, "r")
    local number = 0
    for line in file and file:lines() or function() end do
      number = number + 1
      local inside = number >= info.linedefined and number <= info.lastlinedefined
      if inside and not line:find "^%s*%-%-" then
        for rank, pattern in ipairs(patterns) do
          local at = line:find(pattern)
          if at and not line:sub(1, at - 1):find "local%s+$" and (not best or rank < best) then
            best, place = rank, ("%s:%d"):format(path, number)
          end
        end
      end
    end
    if file then file:close() end
    place = place or ("%s:%d"):format(path, info.linedefined)
  end
  return place or "?"
end

local function shown(value)
  local text = type(value) == "string" and ("%q"):format(value)
    or tostring(value):gsub("^(%a+): 0x%x+$", "a %1")
  return #text > 60 and text:sub(1, 60) .. "…" or text
end

-- Adds to `list` each slot whose value differs between `before` and `after`: { name =, text = }.
function memory.changes(before, after, list)
  local told = {}
  for _, change in ipairs(list) do told[change.text] = true end
  local function tell(name, label, functions, was, now)
    local text = ("%s at %s was %s and is %s"):format(label, place_of(name, functions), shown(was),
                                                      shown(now))
    if not told[text] then list[#list + 1] = { name = name, text = text } end
    told[text] = true
  end
  for holder, slots in pairs(before.holders) do
    local now = after.holders[holder]
    for key, slot in pairs(now and slots or {}) do
      if key ~= memory then
        local value = now[key] and now[key].value
        local functions = slot.label:find "^global" and before.functions or slot.functions
        if not rawequal(slot.value, value) and slot.value == slot.value then
          tell(slot.name, slot.label, functions, slot.value, value)
        end
      end
    end
    for key, slot in pairs(now or {}) do
      local origin = slots[memory]
      if origin and key ~= memory and not slots[key] then
        tell(slot.name, slot.label, origin.globals and after.functions or origin.functions, nil,
             slot.value)
      end
    end
  end
end

return memory
