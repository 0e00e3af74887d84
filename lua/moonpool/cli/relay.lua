-- `moonpool relay [--once]`: runs the outbox's relay as a process of its own.
local host     = require "moonpool.host"
local outbox   = require "moonpool.outbox"
local registry = require "moonpool.operation.registry"

return function(args)
  local once = args[1] == "--once"
  if #args > (once and 1 or 0) then
    io.stderr:write("moonpool relay: unexpected argument ", args[once and 2 or 1],
                    "; see: moonpool relay --help\n")
    return 2
  end
  for name, fault in pairs(registry.broken) do
    host.log("error", ("scripts/%s.lua cannot be loaded: %s"):format(name, tostring(fault)))
  end
  local count = 0
  for name, op in pairs(registry.all()) do
    if op.on then
      count = count + 1
      host.log("info", ("%s subscribes to %s"):format(name, op.on))
    end
  end
  if count == 0 then
    io.stderr:write(
      "moonpool relay: no operation in scripts/ subscribes to anything (on = \"topic\")\n")
    return 1
  end
  local counts = outbox.run { until_idle = once }
  print(("delivered %d, failed %d, dead letters %d"):format(counts.delivered, counts.failed,
                                                            counts.dead))
  return 0
end
