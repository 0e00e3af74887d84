-- Runs the moonpool executable as a person does: a process with its own folder and environment.
local moonpool = require "moonpool"

local command = {}

local function quoted(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

--- The executable: MOONPOOL_BIN, or the project's build.
function command.executable()
  local path = os.getenv "MOONPOOL_BIN" or "build/moonpool"
  return path:sub(1, 1) == "/" and path or moonpool.app_dir .. "/" .. path
end

--- The environment of a process that spec/unit/c/preload.c is preloaded into, with its settings.
---@param settings table<string, string>
function command.preloaded(settings)
  local env = {
    LD_PRELOAD = command.executable():gsub("[^/]*$", "spec/preload.so"),
    ASAN_OPTIONS = "verify_asan_link_order=0:" .. (os.getenv "ASAN_OPTIONS" or ""),
  }
  for name, value in pairs(settings) do env[name] = value end
  return env
end

--- Starts `moonpool ARGS` in a folder; stdout and stderr are read together from the handle.
---@param args string
---@param options { dir: string, env?: table<string, string|false> }  false: unset
function command.start(args, options)
  local words = { "cd", quoted(options.dir), "&&", "env" }
  for name, value in pairs(options.env or {}) do
    if value then
      words[#words + 1] = name .. "=" .. quoted(value)
    else
      table.insert(words, 5, "-u " .. name)
    end
  end
  words[#words + 1] = quoted(command.executable())
  words[#words + 1] = args
  words[#words + 1] = "2>&1"
  return assert(io.popen(table.concat(words, " "), "r"))
end

-- On a slow machine the host tells which task has kept its loop. No spec is about that.
local function without_slowness(output)
  return (output:gsub("[^\n]*blocked the loop for[^\n]*\n", ""))
end

--- Waits for its end.
---@return string output
---@return integer exit
function command.finish(handle)
  local output = handle:read "a"
  local _, _, code = handle:close()
  return without_slowness(output), code
end

---@return string output
---@return integer exit
function command.run(args, options)
  return command.finish(command.start(args, options))
end

--- Runs `moonpool ARGS` in a folder, and keeps its two streams apart. `args` may hold redirections.
---@param args string
---@param options { dir: string, env?: table<string, string|false>, stdin?: string }
---@return string stdout
---@return string stderr
---@return integer exit
function command.streams(args, options)
  local err_path = os.tmpname()
  local words = { "cd", quoted(options.dir), "&&",
                  options.stdin and "printf %s " .. quoted(options.stdin) .. " |" or "", "env" }
  for name, value in pairs(options.env or {}) do
    if value then
      words[#words + 1] = name .. "=" .. quoted(value)
    else
      table.insert(words, 6, "-u " .. name)
    end
  end
  words[#words + 1] = quoted(command.executable()) .. " " .. args .. " 2>" .. err_path
  if not options.stdin then words[#words + 1] = "</dev/null" end
  local out, code = command.finish(assert(io.popen(table.concat(words, " "), "r")))
  local file = assert(io.open(err_path))
  local err = file:read "a"
  file:close()
  os.remove(err_path)
  return out, without_slowness(err), code
end

--- Runs `moonpool ARGS` in a folder, on a terminal of its own.
---@param args string
---@param options { dir: string, env?: table<string, string>, stdin?: string }
---@return string screen  both streams, as a person sees them
---@return integer exit
function command.terminal(args, options)
  local words = { "exec env" }
  for name, value in pairs(options.env or {}) do
    words[#words + 1] = name .. "=" .. quoted(value)
  end
  words[#words + 1] = quoted(command.executable()) .. " " .. args
  local line = ("cd %s && %s script -qec %s /dev/null"):format(quoted(options.dir),
    options.stdin and "printf %s " .. quoted(options.stdin) .. " |" or "",
    quoted(table.concat(words, " ")))
  if not options.stdin then line = line .. " </dev/null" end
  local screen, code = command.finish(assert(io.popen(line, "r")))
  return (screen:gsub("\r\n", "\n")), code
end

--- A folder of its own, with these files (path -> text). `folder.remove()` takes it away.
function command.folder(files)
  local path = os.tmpname()
  os.remove(path)
  local folder = { path = path }
  function folder.write(name, text)
    local full = path .. "/" .. name
    assert(os.execute("mkdir -p " .. quoted(full:match "^(.*)/")))
    local file = assert(io.open(full, "wb"))
    file:write(text)
    file:close()
  end
  function folder.delete(name) assert(os.remove(path .. "/" .. name)) end
  function folder.remove() os.execute("rm -rf " .. quoted(path)) end
  assert(os.execute("mkdir -p " .. quoted(path)))
  for name, text in pairs(files or {}) do folder.write(name, text) end
  return folder
end

return command
