-- moonpool.metrics: what the host counts.
local host = require "moonpool.host"

return {
  pool         = host.pool_stats,
  transactions = host.transaction_stats,
}
