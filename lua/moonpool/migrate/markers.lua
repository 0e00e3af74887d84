-- moonpool.migrate.markers: splits the text of a migration into the part that is applied and the
-- part that undoes it.
--
-- The marker between them is a line of its own, `-- migrate:down`. `-- migrate:up` may stand before
-- the first part. A line that looks like one of these, or like a marker of another tool, but is not
-- exactly our marker, is refused. If it were taken for a comment, `up` would also apply the part
-- that undoes the migration.
local nearest = require "moonpool.is.nearest"
local problem = require "moonpool.migrate.problem"
local scan    = require "moonpool.migrate.scan"

local markers = {}

local function set(words)
  local all = {}
  for word in words:gmatch "%S+" do all[word] = true end
  return all
end

local tools      = set "migrate migration migrations goose dbmate rambler flyway sqlx evolution"
local directions = set "up ups down downs undo revert rollback"
-- These words must match exactly; words that are only similar to them are plain English.
local more_tools = set [[alembic atlas duck geni gomigrate graphile knex liquibase micrate mybatis
                         nomad pgroll shmig sqitch tern umzug yoyo]]
local more_directions = set [[upgrade upgrades downgrade downgrades reverse backward backwards
                              forward forwards unapply teardown reverts rollbacks]]
for word in pairs(directions) do more_directions[word] = true end
local verbs = set [[alter changesetid create delete drop empty grant insert not revoke select
                    truncate update]]
local parts      = set "migrate migration section part script"
local around     = set [[migrate migration migrations goose dbmate rambler flyway sqlx sql db
                         go golang node pg tern yoyo section part script statement statements
                         begin begins start starts end ends of the and here below follows this is]]
local joined     = set "migrateup migratedown gooseup goosedown upmigration downmigration"

-- Letters that look like ASCII letters.
local drawn_as = {}
for ascii, others in pairs {
  a = "аαɑ", c = "сϲ", d = "ԁɗ", e = "еєε", g = "ɡԍց", i = "іιıї", k = "кκ", l = "ӏ", m = "мϻ",
  n = "пոη", o = "оοօ", p = "рρ", r = "гꭇ", s = "ѕ", t = "тτ", u = "υսц", v = "νѵ", w = "ѡωԝ",
} do
  for _, code in utf8.codes(others) do drawn_as[code] = ascii end
end

-- is_invisible: characters without a visible form. is_sign: signs, which count as blanks.
local function is_invisible(code)
  return code == 0xAD or code >= 0x200B and code <= 0x200F or code == 0x2060 or code == 0xFEFF
end

local function is_sign(code)
  return code < 0xC0 or code >= 0x2000 and code < 0x2C00 or code >= 0x3000 and code < 0x3040
end

-- Returns the line in lower case, with look-alikes as ASCII letters, other signs as blanks and
-- other letters as "?".
local function folded(line)
  line = line:lower()
  if not line:find "[\128-\255]" then return line end
  if not utf8.len(line) then return (line:gsub("[\128-\255]", "?")) end
  return (line:gsub(utf8.charpattern, function(char)
    local code = utf8.codepoint(char)
    if code < 128 then return char end
    if code >= 0xFF01 and code <= 0xFF5E then return string.char(code - 0xFEE0):lower() end
    if code == 0x85 or code == 0x2028 or code == 0x2029 then return "\n" end
    if code == 0x2236 or code == 0xA789 or code == 0x2D0 then return ":" end
    if is_invisible(code) then return "" end
    if is_sign(code) then return " " end
    return drawn_as[code] or "?"
  end))
end

local judged = {}      -- set of known words -> word -> is the word near one of them? Per file

local function is_near(word, known)
  if known[word] then return true end
  if #word <= 3 or #word >= 20 then return false end
  local answers = judged[known] or {}
  judged[known] = answers
  if answers[word] == nil then answers[word] = nearest(word, known) ~= nil end
  return answers[word]
end

-- "start of down migration": do all words only say that a part begins or ends, and one of them a
-- direction?
local function says_only(rest)
  local directed, count = false, 0
  for word in rest:gmatch "[%w?]+" do
    count = count + 1
    directed = directed or more_directions[word]
    if count > 8 or not more_directions[word] and not around[word] then return false end
  end
  return directed
end

-- Is this a marker of a tool that does not use the usual words?
local function is_foreign(signs, rest)
  local first, after = rest:match "^(%a+)%s+([%w_]+)"
  if rest:find "^preconditions%s+%w+:" or rest:find "^u%d[%d_.]*__%w" then return true end
  if first == "rollback" then return verbs[after] or signs == "" end
  return (first == "deploy" or first == "revert" or first == "verify")
    and rest:find "^%a+%s+%S+%s+%a+%s+pg%s*$" ~= nil
end

-- "step: down", "name = migrate_down", "+duck Down": does a name or a sign stand before a
-- direction?
local function names_direction(signs, rest)
  local value = rest:match "^[%w_]+%s*[:=](.*)$"
  if value and says_only(value) then return true end
  local first, second = rest:match "^([%w_]+)%s+(%a+)[^%w?]*$"
  return more_directions[second] ~= nil
    and (more_tools[first] or signs:find "[+:@#!$%%<%[{=/]" ~= nil)
end

-- Does a part of a line look like a marker? `signs` are the signs before `rest`. `comment`: as
-- below.
local function part_looks_like(signs, rest, comment)
  if signs:find "%+$" and is_near(rest:match "^%a*", tools) then return true end
  if rest:find "^migrat[ei]o?n?:[%w?]" or rest:find "^liquibase%s+formatted" then return true end
  if comment and rest:find "^changeset%s+%S+:%S" then return true end
  if comment and rest:find "^create%s+above%W+drop%s+below" then return true end
  if comment and (is_foreign(signs, rest) or names_direction(signs, rest)) then return true end
  local first, between, second, after = rest:match "^([%w?]+)([^%w?]*)([%w?]*)(.*)$"
  if not first or #first > 16 or #second > 16 then return false end
  local alone = not after:gsub("[%w_]+[:=][%w_]+", ""):find "[%w?]"
  if (is_near(first, tools) or more_tools[first]) and is_near(second, directions) then
    if between:find "^%s*:[^:]*$" then return true end
    if comment then return alone or between:find "^[:+=_|/.-]$" ~= nil end
    return alone and signs:find "%S" ~= nil
  end
  if not comment then return false end
  if alone and second == "" then return more_directions[first] or joined[first] end
  return alone and is_near(first, directions) and is_near(second, parts) or says_only(rest)
end

-- Does a line look like a marker, as a whole or after dashes? `comment`: the line is part of a
-- comment, otherwise of code.
local function looks_like(line, comment)
  for part in folded(line):gsub("%-%-+", "\n"):gmatch "[^\n\v\f]+" do
    local signs, rest = part:match "^([^%w?]*)(.*)$"
    if comment then
      rest = rest:gsub("^%d+[.)]%s*", ""):gsub("%f[%a]roll(s?)[%s-]back", "rollback")
    end
    if rest ~= "" and part_looks_like(signs, rest, comment) then return true end
  end
  return false
end

local function refuse(path, line, ...)
  problem.raise("%s:%d: %s", path, line, string.format(...))
end

local function refuse_lookalike(path, line, text)
  refuse(path, line, "%q looks like a marker; ours is a line of its own, exactly\n" ..
         "-- migrate:down\n" ..
         "Write that, or word it differently if it is a mere comment; nothing was applied", text)
end

local function line_of(text, at)
  local _, lines = text:sub(1, at - 1):gsub("\n", "")
  return lines + 1
end

-- Returns "up" or "down" if the comment is exactly our marker, otherwise nil.
local function ours(text, from, to)
  if from > 1 and not text:find("^[\r\n]", from - 1) then return nil end
  local word = text:sub(from, to):match "^%-%-[ \t]*migrate:(%l+)[ \t]*$"
  return (word == "up" or word == "down") and word or nil
end

-- Raises for a command that only psql reads.
local function refuse_psql(path, line, word)
  if word == "\\." then
    refuse(path, line, "\\. ends data of COPY, which only psql reads: use INSERT " ..
           "(pg_dump --inserts)")
  elseif word:find "restrict" then
    refuse(path, line, "%s is a command of psql, which pg_dump writes for it, and not SQL: take " ..
           "the line out, and its fellow at the other end of the file", word)
  end
  refuse(path, line, "%s is a command of psql, not SQL: take the line out", word)
end

local function refuse_copy(path, line)
  refuse(path, line, "COPY FROM STDIN has no input here: use INSERT (pg_dump --inserts writes " ..
         "that) or COPY FROM a file of the server, or load the data with psql or db.copy_in")
end

local Reader = {}
Reader.__index = Reader

-- Does a line of code look like a marker? Nearly all lines begin with a word that begins no marker;
-- `harmless` keeps the answer for each such word.
function Reader:is_lookalike(line)
  local first = line:match "^%s*(%a+)" or line
  local known = self.harmless[first]
  if known == nil then
    known = first ~= line and not is_near(first:lower(), tools) and not first:lower():find "^migrat"
    self.harmless[first] = known
  end
  return not known and looks_like(line, false)
end

-- Reads the code between quotes and comments, up to `to`.
function Reader:code(to)
  local code = self.text:sub(self.at, to)
  local first = code:find "[^%s]"
  if not first then return end
  self.has_code, self.code_from = true, self.code_from or self.at + first - 1
  local from = self.at
  for line, ending in code:gmatch "([^\r\n]*)([\r\n]*)" do
    local begins = from == 1 or self.text:find("^[\r\n]", from - 1)
    if line ~= "" and begins and self:is_lookalike(line) then
      refuse_lookalike(self.path, line_of(self.text, from), line)
    end
    from = from + #line + #ending
  end
  if self.text:find("^[cC][oO][pP][yY]%f[^%w_]", self.code_from) then
    self.copy = (self.copy or "") .. " " .. code:lower()
  end
end

-- A statement ends here.
function Reader:ends()
  if self.copy and self.copy:find "%Wfrom%s+stdin%f[^%w_]" then
    refuse_copy(self.path, line_of(self.text, self.code_from))
  end
  self.copy, self.code_from = nil, nil
end

function Reader:up_marker(line)
  if self.down_from then
    refuse(self.path, line, "`-- migrate:up` stands behind `-- migrate:down` (line %d): what is " ..
           "applied comes first", self.down_line)
  elseif self.up_line then
    refuse(self.path, line, "a second `-- migrate:up`; the first is line %d", self.up_line)
  elseif self.has_code then
    refuse(self.path, line, "statements stand in front of `-- migrate:up`: move it above them")
  end
  self.up_line = line
end

function Reader:down_marker(line, from, to)
  if self.down_from then
    refuse(self.path, line, "a second `-- migrate:down`; the first is line %d", self.down_line)
  end
  self:ends()
  self.down_line, self.up_to = line, from - 1
  self.down_from = self.text:match("^\r?\n?()", to + 1)
  self.up_has_code, self.has_code = self.has_code, false
end

function Reader:comment(from, to)
  local word = ours(self.text, from, to)
  if word == "up" then return self:up_marker(line_of(self.text, from)) end
  if word == "down" then return self:down_marker(line_of(self.text, from), from, to) end
  local at = from
  for line, ending in self.text:sub(from, to):gmatch "([^\r\n]*)([\r\n]*)" do
    if looks_like(line, true) then
      refuse_lookalike(self.path, line_of(self.text, at), line)
    end
    at = at + #line + #ending
  end
end

--- Returns the part that is applied, the part that undoes it, and the line at which the second part
--- begins. Without a marker the last two are nil. Raises a problem that names file and line.
---@return string up
---@return string? down
---@return integer? down_line
function markers.parts(text, path)
  judged = {}
  local self = setmetatable({ text = text, path = path, at = 1, harmless = {} }, Reader)
  for kind, from, to in scan.pieces(text) do
    self:code(from - 1)
    if kind == "comment" then
      self:comment(from, to)
    elseif kind == "quote" then
      self.has_code, self.code_from = true, self.code_from or from
    elseif kind == "\\" then
      refuse_psql(path, line_of(text, from), text:match("^\\%S*", from))
    else
      self:ends()
    end
    self.at = to + 1
  end
  self:code(#text)
  self:ends()
  if not self.down_from then return text end
  if self.has_code and not self.up_has_code then
    refuse(path, self.down_line,
           "nothing stands in front of `-- migrate:down`: this would apply " ..
           "nothing and undo something. What is applied comes first")
  end
  return text:sub(1, self.up_to), text:sub(self.down_from), self.down_line + 1
end

return markers
