-- moonpool.script.codes: what each code of an error means (src/util/codes.c): { code, sqlstates,
-- status, fault, again, told, cause, remedy } by its name, and as an array in the order of the
-- table. Scripts make up further ones.
local host = require "moonpool.host"

local codes = host.codes()
for _, row in ipairs(codes) do codes[row.code] = row end

return codes
