-- The global functions that load code: require, load, loadfile, dofile. `require` is written in
-- Lua, so that the body of a module may wait. Chunks must be text, because damaged bytecode can
-- crash the process.
--
-- `require` searches package.preload, the host's own modules, the app's scripts/ folder and last
-- package.searchers (package.path, package.cpath).

local host = ...

local loaded, preload, searchers = package.loaded, package.preload, package.searchers
local lua_load, lua_loadfile = load, loadfile

rawset(_G, "load", function(chunk, name, _, ...)
  return lua_load(chunk, name, "t", ...)
end)

rawset(_G, "loadfile", function(path, _, ...)
  return lua_loadfile(path, "t", ...)
end)

rawset(_G, "dofile", function(path)
  local chunk, message = lua_loadfile(path, "t")
  if not chunk then error(message, 0) end
  return chunk()
end)

searchers[2] = function(name)
  local path, places = package.searchpath(name, package.path)
  if not path then return places end
  local chunk, message = lua_loadfile(path, "t")
  if not chunk then error(message .. " (in module '" .. name .. "')", 0) end
  return chunk, path
end

-- Loads a file of a folder: returns the chunk and the path that errors show, or nil if the file
-- does not exist. Raises if it does not compile; the search must not go on then.
local function from_folder(folder, file, shown, name, head)
  local path = folder .. "/" .. file
  if not host.is_file(path) then return nil end
  local chunk, message = host.load(path, shown, head)
  if not chunk then error(message .. " (in module '" .. name .. "')", 0) end
  return chunk, shown
end

local function note(tried, place)
  if not tried[place] then tried[#tried + 1], tried[place] = place, true end
end

-- A module of the app's scripts/ folder: chunk, the path that errors show | nil. `head`: code in
-- front of its first line.
local function from_scripts(name, tried, head)
  local stem = name:gsub("%.", "/")
  for _, file in ipairs { stem .. ".lua", stem .. "/init.lua" } do
    local chunk, data = from_folder(host.app_dir .. "/scripts", file, "scripts/" .. file, name,
                                    head)
    if chunk then return chunk, data end
    note(tried, host.app_dir .. "/scripts/" .. file)
  end
  return nil
end

-- loader, data | nil; the places that were searched are appended to `tried`.
local function find(name, tried)
  if preload[name] ~= nil then return preload[name], ":preload:" end
  note(tried, "package.preload['" .. name .. "']")
  local stem = name:gsub("%.", "/")
  for _, file in ipairs { stem .. ".lua", stem .. "/init.lua" } do
    if host.lua_dir then
      local chunk, data = from_folder(host.lua_dir, file, file, name)
      if chunk then return chunk, data end
      note(tried, host.lua_dir .. "/" .. file)
    end
    local chunk = host.built_in(file)
    if chunk then return chunk, file end
  end
  note(tried, "the modules of the host")
  local chunk, shown = from_scripts(name, tried)
  if chunk then return chunk, shown end
  for i = 2, #searchers do
    local loader, data = searchers[i](name)
    if type(loader) == "function" then return loader, data end
    if type(loader) == "string" then
      for place in loader:gmatch("no file '([^']*)'") do note(tried, place) end
    end
  end
  return nil
end

-- new_require(known, search) -> a function `require`. `known` is its table of loaded modules.
-- search(name, tried) returns a loader and its second argument, or nil.
local function new_require(known, search)
  -- Modules whose body runs: name -> { task = the task that runs it, gate = opened at its end,
  -- by = the module that requires it }
  local loading = {}
  -- task -> the name of the module for which it waits, because another task loads that module
  local waiting = {}
  -- The innermost module that a task is loading.
  local current = {}

  -- The chain of requires by which `name`, which this task is loading, requires itself:
  -- "a -> b -> a".
  local function path_to(name, from)
    local names = { name }
    while from and from ~= name do
      table.insert(names, 1, from)
      from = loading[from] and loading[from].by
    end
    table.insert(names, 1, name)
    return table.concat(names, " -> ")
  end

  -- Returns the names of the cycle if a wait of the task `me` for `name` would never end: the task
  -- that loads `name` waits, perhaps through further tasks, for a module that `me` loads. Else nil.
  local function circle(me, name)
    local names = { name }
    local entry = loading[name]
    while entry do
      if entry.task == me then return table.concat(names, " -> ") end
      name = waiting[entry.task]
      names[#names + 1] = name
      entry = name and loading[name]
    end
    return nil
  end

  local ending = {
    __close = function(entry)
      loading[entry.name] = nil
      current[entry.task] = entry.by
      entry.gate:open()
    end,
  }

  local function load_module(name, me)
    local tried = {}
    local entry <close> = setmetatable({ name = name, task = me, gate = host.gate(),
                                         by = current[me] }, ending)
    loading[name], current[me] = entry, name
    local loader, data = search(name, tried)
    if not loader then
      error("module '" .. name .. "' not found; tried:\n\t" .. table.concat(tried, "\n\t"), 3)
    end
    local value = loader(name, data)
    if value ~= nil then
      known[name] = value
    elseif known[name] == nil then
      known[name] = true
    end
    return known[name], data
  end

  -- Waits until another task has finished loading `name`. Raises if that would never happen.
  local function wait_for(name, me, entry)
    local names = circle(me, name)
    if names then
      error("module '" .. name .. "' requires itself through another task: " .. names, 3)
    end
    waiting[me] = name
    local _ <close> = setmetatable({}, { __close = function() waiting[me] = nil end })
    entry.gate:wait()
  end

  return function(name, ...)
    if type(name) == "number" then name = tostring(name) end
    if type(name) ~= "string" then
      error("bad argument #1 to 'require' (string expected, got "
        .. (name == nil and select("#", ...) == 0 and "no value" or type(name)) .. ")", 2)
    end
    if known[name] then return known[name] end
    if name == "" or name:find("..", 1, true) or name:find("[/\\%z]") or name:find("^%.") then
      error("module name '" .. name
            .. "' is refused: write names with single dots, as in 'lib.numbering'", 2)
    end
    local me = host.task()
    while loading[name] do
      local entry = loading[name]
      if entry.task == me then
        error("module '" .. name .. "' requires itself: " .. path_to(name, current[me]), 2)
      end
      wait_for(name, me, entry)
      if known[name] then return known[name] end
    end
    local value, data = load_module(name, me)
    return value, data
  end
end

rawset(_G, "require", new_require(loaded, find))
loaded["moonpool.requires"] = { new = new_require, from_scripts = from_scripts } -- for sandbox.lua
