---@meta moonpool.sql
-- LuaCATS definitions of `moonpool.sql`: what PostgreSQL's own parser knows about a text. For
-- editors; nothing here runs.

---@class moonpool.sql.statement
---@field sql string           without what stands before and after it
---@field line integer         that it begins on
---@field kind? string         the parser's name: "IndexStmt"
---@field tree? table          its node, with the parser's field names; nil where it is too big or
---   too deep
---@field concurrent boolean   CONCURRENTLY
---@field unread? string       why the parser does not read it; only when split leniently

---A text of more than 8 KiB is read while the task waits. One of more than 8 MiB (in an operation:
---1 MiB), or nested deeper than 10,000 operators and key words, raises.
---@class moonpool.sql
local sql = {}

---Splits a text into statements. One that the parser does not read raises, with sql_line,
---sql_position (characters, from 1) and sql_message; leniently, it is split where the scanner sees
---a semicolon.
---@param text string
---@param lenient? boolean
---@return moonpool.sql.statement[]
function sql.split(text, lenient) end

---SHA-256 in hex over the tokens: comments and blanks do not count.
---@param text string
---@return string
function sql.checksum(text) end

---What kind of statement it is, and why an operation may not run it.
---@param text string
---@return string kind
---@return string? refused
function sql.kind(text) end

return sql
