-- moonpool.pool: the pool of the default database.
local host = require "moonpool.host"

return { resize = host.resize }
