-- moonpool.script.codes: the meaning of each error code (src/util/codes.c): { code, sqlstates,
-- status, fault, again, told, cause, remedy } by its name, and as an array in the order of the
-- table. Scripts may define further codes.
local host = require "moonpool.host"

local codes = host.codes()
for _, row in ipairs(codes) do codes[row.code] = row end

return codes
