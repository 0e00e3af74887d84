-- moonpool.test.spec: runs an unchanged busted inside the host: a spec may wait wherever a script
-- may. Returns function(args, app_dir) -> exit code; `args` are the arguments of busted.

local arguments = require "moonpool.test.arguments"

-- os.exit raises this value and does not end the process.
local exit = setmetatable({}, { __tostring = function()
  return "os.exit was called inside a spec"
end })

-- Returns the running tasks of the host: name -> number of tasks.
local function tasks()
  local ok, host = pcall(require, "moonpool.host")
  if not ok or type(host) ~= "table" or not host.tasks then return {} end
  local names = {}
  for _, task in ipairs(host.tasks()) do
    local name = type(task) == "table" and task.name or tostring(task)
    names[name] = (names[name] or 0) + 1
  end
  return names
end

local function left_over(before)
  local names = {}
  for name, count in pairs(tasks()) do
    local more = count - (before[name] or 0)
    if more > 0 then
      names[#names + 1] = more > 1 and ("%s (%d times)"):format(name, more) or name
    end
  end
  table.sort(names)
  return names
end

-- Saves the state that a run of busted changes. Returns the function that restores it.
local function keep()
  local globals, path, cpath, os_exit = {}, package.path, package.cpath, os.exit
  for name, value in next, _G do globals[name] = value end
  return function()
    rawset(os, "exit", os_exit)
    package.path, package.cpath = path, cpath
    for name in next, _G do
      if globals[name] == nil then rawset(_G, name, nil) end
    end
    for name, value in next, globals do rawset(_G, name, value) end
    for name in pairs(package.loaded) do
      -- busted refuses to run twice in one Lua state
      if type(name) == "string" and name:find("^busted") then package.loaded[name] = nil end
    end
  end
end

-- Calls fn(busted) for each instance of busted that is made later.
local function on_busted(fn)
  local core = require "busted.core"
  package.loaded["busted.core"] = function()
    local busted = core()
    fn(busted)
    return busted
  end
end

local function on_fault(busted, fn)
  for _, event in ipairs { "failure", "error" } do
    busted.subscribe({ event }, function(element, parent)
      fn(element, parent)
      return nil, true
    end)
  end
end

-- Files of scripts/ that do not load: no call of them can be tested. -> how many
local function tell_broken(host)
  if not host then return 0 end
  local registry = require "moonpool.operation.registry"
  local fault_text = require "moonpool.operation.fault_text"
  registry.all()
  local names = registry.broken_names()
  for _, name in ipairs(names) do
    io.stderr:write("moonpool spec: ", fault_text(registry.broken[name], name .. ".lua"), "\n")
  end
  return #names
end

-- Ends the run when a test takes longer than that: a task that waits cannot be told from one that
-- waits for ever. Signals as a person would send them: the second one ends what waits.
local function limit_tests(host, seconds)
  if not (host and seconds) then return end
  local name, from, told
  on_busted(function(busted)
    busted.subscribe({ "test", "start" }, function(element, parent)
      name, from = (parent.name or "") .. " " .. element.name, host.clock()
      return nil, true
    end)
    busted.subscribe({ "test", "end" }, function()
      from = nil
      return nil, true
    end)
  end)
  host.every(math.min(seconds, 1), "the limit of tests", function()
    if not from or host.clock() - from < seconds then return end
    if not told then
      io.stderr:write(("moonpool spec: %s takes longer than %g s (--timeout); the run ends here\n")
        :format(name, seconds))
    end
    told = true
    os.execute "kill -TERM $PPID"
  end)
end

-- Holds the host's log lines while a test runs, and writes them only if the test fails. If
-- MOONPOOL_LOG_LEVEL is set, all lines are written at once. Returns the function that ends this.
local function hold_log(host)
  if os.getenv "MOONPOOL_LOG_LEVEL" or type(host) ~= "table" then return function() end end
  on_busted(function(busted)
    on_fault(busted, function() host.log_held(true) end)
    busted.subscribe({ "test", "end" }, function()
      host.log_held(false)
      return nil, true
    end)
  end)
  host.log_hold(true)
  return function(failed)
    host.log_held(failed)
    host.log_hold(false)
  end
end

-- Returns the name as a Lua pattern for --filter, safe inside the shell's single quotes.
local function filter_of(name)
  return (name:gsub("[^%w%s_]", function(char)
    return char == "'" and "." or "%" .. char
  end):gsub("%s+", " "))
end

-- Collects the command that runs each failed test again. Returns the function that prints them.
local function note_faults()
  local lines, seen, more = {}, {}, 0
  on_busted(function(busted)
    on_fault(busted, function(element, parent)
      local file
      local at = element.descriptor and element or parent
      local name = at and at.descriptor == "it" and at.name or nil
      while at do
        if at.descriptor == "file" then file = at.name
        elseif at.descriptor == "describe" and name then name = at.name .. " " .. name end
        at = busted.context.parent(at)
      end
      if not file then return end
      local program = os.getenv "MOONPOOL_BIN" or "moonpool"
      program = program:gsub("^" .. (os.getenv "PWD" or "/"):gsub("%p", "%%%0") .. "/", "")
      local line = ("  %s spec %s%s")
        :format(program, file, name and (" --filter '%s'"):format(filter_of(name)) or "")
      if seen[line] then return end
      seen[line] = true
      if #lines < 20 then lines[#lines + 1] = line else more = more + 1 end
    end)
  end)
  return function()
    if not lines[1] then return end
    print("\nrun again:\n" .. table.concat(lines, "\n")
          .. (more > 0 and ("\n  and %d more"):format(more) or ""))
  end
end

local function run(args, app_dir)
  local code
  rawset(os, "exit", function(status)
    local number = (status == nil or status == true) and 0 or tonumber(status) or 1
    code = math.max(code or 0, number)
    error(exit, 0)
  end)
  _G.arg = { [0] = "busted", table.unpack(args) }
  if not arguments.split(args)[1] and app_dir ~= "." then
    table.insert(_G.arg, app_dir .. "/spec")
  end
  package.path = ("%s/?.lua;%s/spec/?.lua;%s"):format(app_dir, app_dir, package.path)

  local ok, message = xpcall(function()
    -- The chunk is not a file: only then busted uses the name "busted" and ends with os.exit.
    local start = load("require 'busted.runner' { standalone = false }", "=moonpool spec")
    start()
  end, function(message)
    return message == exit and exit or debug.traceback(tostring(message), 2)
  end)
  if not ok and message ~= exit then
    io.stderr:write("moonpool spec: busted failed: ", message, "\n")
    return 1
  end
  return code or 0
end

return function(args, app_dir)
  local ok, host = pcall(require, "moonpool.host")
  app_dir = app_dir or ok and type(host) == "table" and host.app_dir or "."
  local _ <close> = setmetatable({}, { __close = keep() })
  local given = arguments.take(args, "--timeout")
  local seconds = tonumber(given or nil)
  if given ~= nil and not (seconds and seconds > 0) then
    io.stderr:write "moonpool spec: --timeout takes a number of seconds\n"
    return 2
  end
  local inside = ok and type(host) == "table" and host or nil
  limit_tests(inside, seconds)
  local before = tasks()
  local let_go = hold_log(host)
  local print_again = note_faults()
  on_busted(require "moonpool.test.trace")
  local code = run(args, app_dir)
  if tell_broken(inside) > 0 then code = math.max(code, 1) end
  let_go(code ~= 0)
  print_again()
  collectgarbage()
  local names = left_over(before)
  if names[1] then
    io.stderr:write("moonpool spec: still running after the last spec: ", table.concat(names, ", "),
      "; wait for what a spec spawns\n")
    code = math.max(code, 1)
  end
  io.stdout:flush()
  return code
end
