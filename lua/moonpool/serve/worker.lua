-- moonpool.serve.worker: the main task of a worker of `moonpool serve` that is not the front: it
-- lasts until the host stops. The front hands it calls and the files of each reload. What a worker
-- keeps of its calls it watches and sends by itself.
local host  = require "moonpool.host"
local otlp  = require "moonpool.watch.otlp"

return function(options)
  if options.otlp_endpoint then otlp.start(options.otlp_endpoint) end
  while not host.wait_stop(60) do end
  otlp.stop()
end
