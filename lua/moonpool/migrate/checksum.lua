-- moonpool.migrate.checksum: tells whether a text is the one that was applied. Comments, white
-- space and the kind of line ends do not count, not even line ends within quotes: a checkout may
-- replace LF by CRLF there, too.
local sql = require "moonpool.sql"

local checksum = {}

function checksum.of(text)
  return sql.checksum((text:gsub("\r\n", "\n")))
end

--- Is `recorded` the checksum of the text? Older records were made from the text with its own line
--- ends, so LF and CRLF are tried too.
function checksum.matches(text, recorded)
  return recorded == checksum.of(text) or recorded == sql.checksum(text)
         or recorded == sql.checksum((text:gsub("\r?\n", "\r\n")))
end

return checksum
