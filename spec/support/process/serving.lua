-- A `moonpool serve` of a spec's own: a folder with scripts, a process, and its control socket.
local command  = require "spec.support.process.command"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local serving = {}
serving.__index = serving

local function quoted(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "a"
  if file then file:close() end
  return text
end

--- Starts it on the specs' database, after the commands of options.shell; waits until it answers,
--- unless options.broken.
---@param files table<string, string>  below the project folder
---@param options? { env?: table<string, string>, broken?: boolean, shell?: string }
function serving.start(files, options)
  options = options or {}
  local self = setmetatable({ folder = command.folder(files) }, serving)
  local env = { MOONPOOL_STATE = self.folder.path .. "/state", MOONPOOL_WATCH = "0",
                MOONPOOL_SETTLE = "1", MOONPOOL_CHECK = "off",
                MOONPOOL_LISTEN = "off", DB_POOL_MIN = "0", DB_POOL_MAX = "8" }
  for name, value in pairs(options.env or {}) do env[name] = value end
  self.env = env
  local words = { "cd", quoted(self.folder.path), "&& {" }
  for name, value in pairs(env) do -- false: unset
    words[#words + 1] = value and ("export %s=%s;"):format(name, quoted(value))
      or ("unset %s;"):format(name)
  end
  words[#words + 1] = options.shell and options.shell .. ";" or ""
  words[#words + 1] = quoted(command.executable())
  words[#words + 1] =
    "serve > log 2>&1 & echo $! > pid; wait $!; echo $? > exit.new; mv exit.new exit; } > \z
      /dev/null 2>&1 &"
  assert(os.execute(table.concat(words, " ")))
  scratch.await("the host to start", function()
    moonpool.sleep(0.005)
    if self:exit_code() then return true end
    self.socket = self:socket_path()
    return self.socket
  end)
  if not options.broken then assert(self.socket, self:log()) end
  return self
end

-- The socket is there a moment before the first generation's log line only if it was loaded: serve
-- loads first.
function serving:socket_path()
  local list = io.popen("ls " .. quoted(self.env.MOONPOOL_STATE .. "/control") .. " 2>/dev/null")
  local name = list:read "l"
  list:close()
  return name and self.env.MOONPOOL_STATE .. "/control/" .. name
end

function serving:log() return read(self.folder.path .. "/log") or "" end
function serving:pid() return tonumber(read(self.folder.path .. "/pid")) end
function serving:exit_code() return tonumber((read(self.folder.path .. "/exit"))) end

-- Resident memory in KiB. A build with sanitizers keeps what was freed for a while: nil, then.
function serving:resident()
  if read(("/proc/%d/maps"):format(self:pid())):find "lib[at]san%.so" then return nil end
  return tonumber(read(("/proc/%d/status"):format(self:pid())):match "VmRSS:%s*(%d+)")
end

local function client(self, ...)
  local program = moonpool.app_dir .. "/spec/support/client/control_client.lua"
  local words = { "exec lua5.4", quoted(program),
                  quoted(self.socket) }
  for _, word in ipairs { ... } do words[#words + 1] = quoted(word) end
  return assert(io.popen(table.concat(words, " ") .. " 2>&1", "r"))
end

--- Sends an order; finish() of what it gives waits for the answer, kill() kills who waits for it.
function serving:send(order)
  local handle = client(self, json.encode(order))
  local pid = handle:read "l"
  local function finish()
    local text = handle:read "a"
    handle:close()
    return text ~= "" and json.decode(text) or nil
  end
  return { finish = finish, kill = function()
    assert(os.execute("kill -9 " .. pid))
    finish()
  end }
end

function serving:ask(order) return self:send(order).finish() end
function serving:call(name, input)
  return self:ask { ["do"] = "call", name = name, input = input }
end
function serving:reload() return self:ask { ["do"] = "reload" } end
function serving:generations() return self:ask { ["do"] = "generations" }.generations end

--- `connections` callers of the operation `versions`, without pause; stop() gives what they saw.
function serving:storm(connections, rate)
  local stop_file = self.folder.path .. "/storm-is-over"
  os.remove(stop_file)
  local handle = client(self, "storm", connections, stop_file, rate)
  return { stop = function()
    self.folder.write("storm-is-over", "")
    local text = handle:read "a"
    handle:close()
    return assert(load(text), text)()
  end }
end

function serving:signal(name) assert(os.execute(("kill -%s %d"):format(name, self:pid()))) end

--- Waits for its end, which a signal or an order has begun, and gives its exit status.
function serving:wait()
  return scratch.await("the end of the host", function()
    moonpool.sleep(0.005)
    return self:exit_code()
  end)
end

--- Ends it and takes its folder away.
function serving:stop()
  if not self:exit_code() then
    self:signal "TERM"
    self:wait()
  end
  local log = self:log()
  if log:find("Sanitizer", 1, true) then io.stderr:write(log, "\n") end
  self.folder.remove()
end

--- The project's own scripts, for a host of its own.
---@return table<string, string>
function serving.project()
  local list, files = io.popen("cd " .. quoted(moonpool.app_dir)
                               .. " && find scripts -name '*.lua'"), {}
  for name in list:lines() do files[name] = read(moonpool.app_dir .. "/" .. name) end
  list:close()
  return files
end

--- The files of the operation `versions`, which answers with the versions that it, a module that it
--- requires at once and one that it requires while it runs were written as.
function serving.versions(version)
  return {
    ["scripts/versions.lua"] = ([[
      local moonpool = require "moonpool"
      local lib = require "lib.early"
      return moonpool.operation { summary = "versions", run = function(tx)
        tx:value "select 1"
        local generation = moonpool.generation()
        return { operation = %d, lib = lib.version, late = require("lib.late").version,
          number = generation.number,
                 files = generation.files }
      end }]]):format(version),
    ["scripts/lib/early.lua"] = ("return { version = %d }\n"):format(version),
    ["scripts/lib/late.lua"] = ("return { version = %d }\n"):format(version),
  }
end

function serving:write(files)
  for name, text in pairs(files) do self.folder.write(name, text) end
end

return serving
