-- Starts the host of caller_process.lua on a database and gives it orders.
local moonpool  = require "moonpool"
local command   = require "spec.support.process.command"
local companion = require "spec.support.process.companion"

local caller = {}
caller.__index = caller

--- On the database that the URL names; `env` are further settings.
---@param url string
---@param env? table<string, string>
function caller.start(url, env)
  local settings = { DATABASE_URL = url, MOONPOOL_LOG_LEVEL = "error", DB_POOL_MIN = "0",
                     DB_POOL_MAX = "2" }
  for name, value in pairs(env or {}) do settings[name] = value end
  local self = setmetatable({}, caller)
  self.process = companion.start(function(fifo)
    local words = { "echo $$ >'" .. fifo .. ".pid'; cd '" .. moonpool.app_dir .. "' && exec env" }
    for name, value in pairs(settings) do words[#words + 1] = ("%s='%s'"):format(name, value) end
    words[#words + 1] = ("'%s' run spec/support/process/caller_process.lua '%s'")
      :format(command.executable(), fifo)
    return table.concat(words, " ")
  end)
  assert(self.process:hear() == "ready")
  return self
end

local function order(self, what)
  return moonpool.json.decode(self.process:ask(moonpool.json.encode(what)))
end

--- Calls an operation there: { ok, result, info } or { ok, error }. `fields`: of its definition,
--- which are to be others.
function caller:call(name, input, options, fields)
  return order(self, { name = name, input = input, options = options, fields = fields })
end

--- Calls it with each of the inputs at the same time: a list of answers. `group`: so many of the
--- calls may share a transaction.
function caller:call_together(name, inputs, group)
  return order(self, { name = name, inputs = inputs, fields = group and { group = group } })
end

--- A call in two steps, for what is to happen in between.
function caller:start_call(name, input, options)
  self.process:say(moonpool.json.encode { name = name, input = input, options = options })
end

function caller:answer() return moonpool.json.decode(self.process:hear()) end

--- A db.transaction with these options that inserts a row: { ok, attempt } or { ok, error }.
function caller:insert(table_name, values, options)
  return order(self, { insert = table_name, values = values, options = options })
end

--- Waits until it has no connection any more: the next call makes one.
function caller:cold() order(self, { cold = true }) end

--- Sends the process a signal: "STOP" pauses it, "CONT" lets it go on.
function caller:signal(name)
  local file = assert(io.open(self.process.folder.path .. "/answers.pid"))
  local pid = file:read "n"
  file:close()
  assert(os.execute(("kill -%s %d"):format(name, pid)))
end

function caller:stop() self.process:stop() end

return caller
