---@meta moonpool.sql
-- LuaCATS definitions of `moonpool.sql`: what PostgreSQL's own parser knows about a text. For
-- editors; nothing here runs.

---@class moonpool.sql.statement
---@field sql string           without comments and blanks before and after it
---@field line integer         the line on which it begins
---@field kind? string         the parser's name: "IndexStmt"
---@field tree? table          its node, with the parser's names; nil if it is too big or too deep
---@field concurrent boolean   CONCURRENTLY
---@field unread? string       why the parser cannot read it; only with `lenient`

---A text of more than 8 KiB is read while the task waits. One of more than 8 MiB (in an operation:
---1 MiB), or nested deeper than 10,000 operators and key words, raises.
---@class moonpool.sql
local sql = {}

---Splits a text into statements. Raises if the parser cannot read one, with sql_line, sql_position
---(characters, from 1) and sql_message. With `lenient` it does not raise, but splits the text at
---the semicolons that the scanner finds.
---@param text string
---@param lenient? boolean
---@return moonpool.sql.statement[]
function sql.split(text, lenient) end

---SHA-256 in hex over the tokens: comments and blanks do not count.
---@param text string
---@return string
function sql.checksum(text) end

---The kind of a statement, and the reason if an operation must not run it.
---@param text string
---@return string kind
---@return string? refused
function sql.kind(text) end

return sql
