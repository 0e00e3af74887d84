-- moonpool.migrate.checksum: whether a text is what was applied. Comments, white space and the kind
-- of line ends do not count: a checkout may have made CRLF of LF within quotes, too.
local sql = require "moonpool.sql"

local checksum = {}

function checksum.of(text)
  return sql.checksum((text:gsub("\r\n", "\n")))
end

--- Is `recorded` the checksum of the text? Older records are of its bytes, whatever the line ends
--- were.
function checksum.matches(text, recorded)
  return recorded == checksum.of(text) or recorded == sql.checksum(text)
         or recorded == sql.checksum((text:gsub("\r?\n", "\r\n")))
end

return checksum
