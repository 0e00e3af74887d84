-- moonpool.serve.worker: the main task of a worker of `moonpool serve` that is not the front: it
-- lasts until the host stops. The front hands it calls and the files of each reload. What a worker
-- keeps of its calls it sends by itself, and whether the database answers it finds out by itself:
-- its connections may lead to a server that the front's do not lead to.
local health = require "moonpool.watch.health"
local host   = require "moonpool.host"
local otlp   = require "moonpool.watch.otlp"

return function(options)
  if options.otlp_endpoint then otlp.start(options.otlp_endpoint) end
  health.look() -- so that a later look knows whether it reaches the same server
  local looks = host.every(1, "health", health.look)
  while not host.wait_stop(60) do end
  looks:stop()
  otlp.stop()
end
