-- The deal workload beside pgbench and PL/pgSQL: the same as `moonpool bench deal` without --db.
--   moonpool bench [compare] [the options of deal]
local moonpool = require "moonpool"
return assert(loadfile(moonpool.app_dir .. "/spec/bench/deal.lua"))(...)
