-- moonpool.check.loading: checks each new state of scripts/ that a host loads (MOONPOOL_CHECK). It
-- requires the parts of the check where they are used: a state that is not checked needs none.
local db      = require "moonpool.db"
local errors  = require "moonpool.errors"
local host    = require "moonpool.host"

local loading = {}

-- Checks over a connection of its own. -> the faults, a line each; none, and a warning in the log,
-- if it cannot be done.
local function faults()
  local syntax = require "moonpool.check.syntax"
  if syntax.missing() then return {} end
  local own = db.open { max = 1 }
  local ok, result = pcall(own.lease, require "moonpool.check.project".check)
  pcall(own.close)
  if ok then return require "moonpool.check.report".lines(result) end
  host.log("warn", "scripts/ are not checked: "
           .. (errors.is(result) and result.message or tostring(result)))
  return {}
end

-- With limits of its own, beside the host's work.
local function beside(fn)
  local limits = host.load_limits
  return host.spawn_limited({ cpu_ms = limits.cpu_ms, memory = limits.memory }, fn)
end

--- Checks what was loaded. With `refuse` it waits, and add(text) gets each fault; with `warn` the
--- log gets them, later.
function loading.judge(add)
  if host.check == "off" then return end
  if host.check == "refuse" then
    for _, line in ipairs(beside(faults):wait()) do add(line) end
    return
  end
  beside(function()
    for _, line in ipairs(faults()) do host.log("warn", "check: " .. line) end
  end)
end

return loading
