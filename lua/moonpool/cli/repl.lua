-- `moonpool repl`: reads a line, runs it in a task of its own, shows its value. An open
-- transaction is a task too: it gets one chunk after the other, each in a savepoint, so that a line
-- that fails is undone alone.
local calls    = require "moonpool.calls"
local db       = require "moonpool.db"
local errors   = require "moonpool.errors"
local host     = require "moonpool.host"
local moonpool = require "moonpool"
local prompts  = require "moonpool.prompt"
local registry = require "moonpool.operation.registry"
local show     = require "moonpool.cli.show"
local sql      = require "moonpool.sql"
local told     = require "moonpool.cli.told"

local HOUR = 3600
-- Limits that nobody reaches, for limits are what lets a loop be interrupted.
local limits = { cpu_ms = 24 * HOUR * 1000, memory = 1 << 40 }

local tx_names = [[count exec first insert now on_rollback one publish query random savepoint uuid
  value after_commit]]

local Session = {}
Session.__index = Session

local function say(text) print(text) end

local function complain(e)
  io.stdout:flush()
  local text = errors.is(e) and told(e, { name = e.operation, why = true })
    or tostring(e) .. "\n"
  io.stderr:write(text)
end

-- ---- running a chunk ---------------------------------------------------------------------------

-- Runs fn(tx) in a task, so that Ctrl-C can end it. -> ok, results or the error
function Session:apart(fn)
  local task = host.spawn_limited(limits, fn)
  self.running = task
  local results = table.pack(pcall(task.wait, task))
  self.running = nil
  if results[1] then return true, table.pack(table.unpack(results, 2, results.n)) end
  local interrupted = errors.is(results[2]) and results[2].code == "CANCELED"
  return false, interrupted and "interrupted" or results[2]
end

-- Runs fn() and shows its values; in the open transaction if there is one. -> ok
function Session:run(fn)
  local function body()
    local values, texts = table.pack(fn()), {}
    for i = 1, values.n do
      if values[i] ~= nil or values.n > 1 then texts[#texts + 1] = show(values[i]) end
    end
    return table.concat(texts, "\n"), values[1]
  end
  local ok, results
  if self.tx then ok, results = self.tx:run(body) else ok, results = self:apart(body) end
  if ok then
    if results[1] ~= "" then say(results[1]) end
    if results[2] ~= nil then self.env._ = results[2] end
  else
    complain(results)
  end
  if self.tx and self.tx.over then
    say "the transaction has ended, and nothing of it is stored"
    self.tx, self.env.tx = nil, nil
  end
  return ok
end

-- ---- an open transaction -----------------------------------------------------------------------

local Transaction = {}
Transaction.__index = Transaction

local ROLLBACK = {} -- raised to throw the transaction away

local function serve(self, tx)
  self.session.env.tx = tx
  self.answered:set()
  while true do
    self.asked:wait(24 * HOUR)
    if self.ending == "commit" then return end
    if self.ending then error(ROLLBACK, 0) end
    local results
    self.ok, results = pcall(function()
      return table.pack(tx:savepoint(self.chunk))
    end)
    self.results = results
    self.answered:set()
  end
end

local function begin(session, options)
  local self = setmetatable({ asked = host.signal(), answered = host.signal(), session = session },
                            Transaction)
  options.retries, options.timeout, options.tenant = 0, 24 * HOUR, session.tenant
  self.task = host.spawn_limited(limits, function()
    local ok, e = pcall(db.transaction, options, function(tx) serve(self, tx) end)
    self.over, self.ok, self.results = true, ok, e
    self.answered:set()
  end)
  self.answered:wait(24 * HOUR)
  return self
end

-- -> ok, results or the error
function Transaction:run(chunk)
  self.chunk = chunk
  self.session.running = self
  self.asked:set()
  self.answered:wait(24 * HOUR)
  self.session.running = nil
  return self.ok, self.results
end

function Transaction:cancel()
  self.task:cancel()
  self.over, self.ok, self.results = true, false, "interrupted"
  self.answered:set()
end

-- -> ok, the error
function Transaction:finish(how)
  self.ending = how
  self.asked:set()
  self.answered:wait(24 * HOUR)
  if how == "rollback" then return true end
  return self.ok, self.results
end

-- ---- commands ----------------------------------------------------------------------------------

local commands = {}

local reads = { SelectStmt = true, ExplainStmt = true, VariableShowStmt = true }

function commands.sql(self, text)
  if text == "" then return complain "\\sql TEXT: the statement is missing" end
  return self:run(function()
    local source = self.env.tx
    local function ask(name)
      if source then return source[name](source, text) end
      return db[name](text)
    end
    local gives = reads[(sql.kind(text))] or text:lower():find "%f[%w]returning%f[%W]"
    if gives then
      local rows = ask "query"
      if rows[1] then return rows end
      say "(0 rows)"
    elseif source then
      say(("(%d rows changed)"):format(source:count(text)))
    else
      say(("(%d rows changed)"):format(db.exec(text) or 0))
    end
  end)
end

local levels = { [""] = {}, ["read only"] = { read_only = true },
                 ["repeatable read"] = { isolation = "repeatable read" },
                 ["serializable"] = { isolation = "serializable" } }

function commands.begin(self, level)
  if self.tx then return complain "a transaction is open; \\commit or \\rollback ends it" end
  local options = levels[level:lower()]
  if not options then return complain("there is no level " .. level .. "; see: \\help") end
  local own = {}
  for name, value in pairs(options) do own[name] = value end
  local tx = begin(self, own)
  if tx.over then return complain(tx.results) end
  self.tx = tx
  return true
end

local function finish(self, how)
  local tx = self.tx
  if not tx then return complain "no transaction is open; \\begin opens one" end
  self.tx, self.env.tx = nil, nil
  local ok, e = tx:finish(how)
  if not ok then return complain(e) end
  say(how == "commit" and "committed" or "rolled back")
  return true
end

function commands.commit(self) return finish(self, "commit") end
function commands.rollback(self) return finish(self, "rollback") end

function commands.tenant(self, id)
  if id ~= "" then self.tenant = id end
  say(self.tenant and "tenant " .. self.tenant or "no tenant")
  return true
end

function commands.ops()
  require "moonpool.cli.ops" {}
  return true
end

function commands.why(self)
  local text = self.call_id and calls.timeline(self.call_id)
  say(text or "there was no call yet")
  return true
end

function commands.help()
  say(host.built_in_text "moonpool/help/commands/repl.txt")
  return true
end

function commands.quit(self)
  self.ended = true
  return true
end

-- ---- the environment and its words -------------------------------------------------------------

function Session:call(name, input, options)
  local given = { tenant = self.tenant, as = self.as }
  for field, value in pairs(options or {}) do given[field] = value end
  if self.tx then return (moonpool.call(name, input or {}, given)) end
  local ok, result, info = pcall(moonpool.call_info, name, input or {}, given)
  self.call_id = ok and info and info.id or errors.is(result) and result.call_id or self.call_id
  if not ok then error(result, 0) end
  return result
end

local function environment(self)
  return setmetatable({
    moonpool = moonpool, db = db, is = require "moonpool.is", json = moonpool.json,
    decimal = moonpool.decimal,
    call = function(name, input, options) return self:call(name, input, options) end,
    print = function(...)
      local texts = table.pack(...)
      for i = 1, texts.n do texts[i] = tostring(texts[i]) end
      say(table.concat(texts, "\t"))
    end,
  }, { __index = _G })
end

local function add_fields(words, prefix, value)
  for name in pairs(type(value) == "table" and value or {}) do
    if type(name) == "string" and not name:find "^own_" then words[#words + 1] = prefix .. name end
  end
end

-- What Tab completes: variables and their fields, operations, tables, commands.
function Session:words()
  local words = {}
  add_fields(words, "", self.env)
  add_fields(words, "", _G)
  for name, value in pairs(self.env) do
    if type(name) == "string" then add_fields(words, name .. ".", value) end
  end
  for name in (self.env.tx and tx_names or ""):gmatch "%S+" do
    words[#words + 1] = "tx:" .. name
  end
  add_fields(words, "", registry.operations)
  add_fields(words, "\\", commands)
  for _, name in ipairs(self.tables) do words[#words + 1] = name end
  table.sort(words)
  return words
end

-- ---- reading -----------------------------------------------------------------------------------

-- A chunk of the text: an expression, or statements. nil and the fault; the fault is false while
-- the text is not complete.
local function compile(text, env)
  local chunk = load("return " .. text, "=line", "t", env)
  if chunk then return chunk end
  local fault
  chunk, fault = load(text, "=line", "t", env)
  if chunk then return chunk end
  if fault:find "<eof>'?$" then return nil, false end
  return nil, fault
end

-- -> ok
function Session:line(text)
  local command, rest = text:match "^%s*\\(%a+)%s*(.-)%s*;?%s*$"
  if text:find "^%s*\\" and not commands[command] then
    return complain "there is no such command; see: \\help"
  end
  if command then return commands[command](self, rest) end
  if not text:find "%S" then return true end
  local chunk, fault = compile(text, self.env)
  while fault == false do
    local more = self.prompt:read("      -> ", self:words())
    if not more then
      chunk, fault = nil, more == nil and "the line is not complete"
      break
    end
    text = text .. "\n" .. more
    chunk, fault = compile(text, self.env)
  end
  if not chunk then return complain(fault) end
  return self:run(chunk)
end

local function greet(self)
  say(("moonpool %s, %s; \\help shows what there is, \\quit or Ctrl-D ends"):format(host.version,
    host.app_dir))
  local ok, rows = pcall(db.query, [[select relname as name from pg_class
    where relkind in ('r', 'p', 'v') and relnamespace = 'public'::regnamespace]])
  if not ok then complain(rows) end
  for i, row in ipairs(ok and rows or {}) do self.tables[i] = row.name end
end

local function options_of(arguments)
  local given, i = {}, 1
  while arguments[i] do
    local name = arguments[i]:match "^%-%-(%a+)$"
    if (name ~= "tenant" and name ~= "as") or not arguments[i + 1] then
      io.stderr:write(("moonpool repl: %q is not understood; see: moonpool repl --help\n")
        :format(arguments[i]))
      return nil
    end
    given[name] = arguments[i + 1]
    i = i + 2
  end
  return given
end

return function(arguments)
  local given = options_of(arguments)
  if not given then return 2 end
  registry.load()
  local home = os.getenv "HOME"
  local prompt = prompts.open(home and home .. "/.moonpool_history")
  local self = setmetatable({ prompt = prompt, tables = {}, tenant = given.tenant, as = given.as },
                            Session)
  self.env = environment(self)
  local watcher = prompt.is_terminal and host.spawn(function()
    while prompt:interrupted() do
      if self.running then self.running:cancel() end
    end
  end)
  if prompt.is_terminal then greet(self) end
  local code = 0
  while not self.ended and code == 0 do
    local text, why = prompt:read(self.tx and "moonpool*> " or "moonpool> ", self:words())
    if text then
      local ok = self:line(text)
      if not ok and not prompt.is_terminal then code = 1 end
    elseif why == "end" then
      self.ended = true
    end
  end
  if self.tx then
    self.tx:finish "rollback"
    say "the open transaction was rolled back"
  end
  if watcher then watcher:cancel() end
  prompt:close()
  return code
end
