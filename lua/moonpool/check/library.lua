-- moonpool.check.library: what the functions do that a script calls without having written them:
-- Lua's, the host's and the methods of tx.
local access     = require "moonpool.check.access"
local own_errors = require "moonpool.operation.own_errors"
local nullable   = require "moonpool.check.nullable"
local statements = require "moonpool.check.statements"
local values     = require "moonpool.check.values"

local library = {}

local MOST_TURNS = 16

--- What a parameter is guessed to be where the caller is not known.
function library.parameter(_, name)
  if name == "tx" then return { kind = "tx" } end
  return values.unknown
end

local functions = { _G = {}, string = {}, table = {}, os = {}, math = {}, method = {},
                    ["moonpool"] = {}, ["moonpool.db"] = {}, ["moonpool.cache"] = {},
                    ["moonpool.json"] = {} }

local function first_of(call, number)
  return values.present(call.arguments[number or 1] or values.unknown)
end

-- -- Lua's own ------------------------------------------------------------------------------------

local basic = functions._G

function basic.error() return {}, true end
function basic.tostring(_, call) return { first_of(call) } end
function basic.tonumber() return { { kind = "number" } } end
function basic.assert(self, call)
  nullable.tested(self, call.arguments[1] or values.unknown)
  return { first_of(call) }
end

function basic.setmetatable(_, call)
  local object, meta = first_of(call), first_of(call, 2)
  if object.kind == "table" and meta.kind == "table" then object.meta = meta end
  return { object }
end

function basic.require(self, call)
  local name = first_of(call)
  if name.kind ~= "text" or not values.plain(name) then return { values.unknown } end
  return { self.project:require(self, (values.plain(name)), call.node) }
end

function basic.pcall(self, call)
  self:enter_perhaps(call.arguments)
  return { values.boolean, values.unknown, open = true }
end
basic.xpcall = basic.pcall

-- A text that Lua computes of another: not known, but of a value it stays a value.
local function computed(_, call)
  for _, argument in ipairs(call.arguments) do
    for _, member in ipairs(values.members(argument)) do
      if member.kind == "data" or member.kind == "column" then
        return { { kind = "data", path = member.path } }
      end
    end
  end
  return { values.unknown }
end

for name in ("lower upper sub rep reverse gsub match"):gmatch "%S+" do
  functions.string[name], functions.method[name] = computed, computed
end
functions["moonpool.json"].encode = computed
functions["moonpool.json"].array = function(_, call)
  return { call.arguments[1] or values.table() }
end

function functions.string.format(self, call)
  local format, list = first_of(call), {}
  if format.kind ~= "text" then return computed(self, call) end
  for i = 2, #call.arguments do list[i - 1] = call.arguments[i] end
  return { values.format(format, list, self.file, call.node) }
end

function functions.method.format(self, call)
  local formats = {}
  for _, member in ipairs(values.members(first_of(call))) do
    local own = table.pack(table.unpack(call.arguments))
    own[1] = member
    formats[#formats + 1] = functions.string.format(self, { node = call.node, arguments = own })[1]
  end
  return { values.union(table.unpack(formats)) }
end

function functions.table.insert(self, call)
  local list, value = first_of(call), call.arguments[#call.arguments]
  if list.kind ~= "table" then return {} end
  local root = call.node[2]
  if root and root.tag == "Id" then
    local scope = call.scope
    while scope and not scope.vars[root[1]] do scope = scope.parent end
    if scope and scope.vars[root[1]].of_file then access.keeps_state(self, root, root[1]) end
  end
  if #call.arguments == 2 then access.append(self, list, value) else list.open = true end
  return {}
end

-- Parts that are perhaps not there, with their separators: each way is a text of its own.
local function concat_of(list, separator, file, node)
  local ways = { {} }
  for _, cell in ipairs(list.items) do
    local more = {}
    for _, way in ipairs(ways) do
      if values.may_be_nil(cell.value) then more[#more + 1] = way end
      local value = values.present(cell.value)
      if value.kind ~= "none" then
        local longer = table.move(way, 1, #way, 1, {})
        if way[1] then longer[#longer + 1] = { separator, file, node } end
        longer[#longer + 1] = { value, file, node }
        more[#more + 1] = longer
      end
    end
    if #more > 64 then return values.hole(file, node, "more than 64 texts") end
    ways = more
  end
  local texts = {}
  for i, way in ipairs(ways) do texts[i] = way[1] and values.concat(way) or values.text "" end
  return values.union(table.unpack(texts))
end

function functions.table.concat(self, call)
  local list, separator = first_of(call), call.arguments[2] or values.text ""
  if list.kind ~= "table" or list.open or call.arguments[3] then
    return { values.hole(self.file, call.node, "table.concat of a list") }
  end
  return { concat_of(list, separator, self.file, call.node) }
end

function functions.table.unpack() return { open = true } end

-- The clock and the dice of the process give each attempt another value.
local function reads_clock(better, when)
  return function(self, call)
    if self.phase == "run" and #call.arguments <= when then
      self:report("warning", "clock", call.node,
        "each attempt of the transaction gets another value here",
        ("use %s: it gives the same value again when the transaction is retried"):format(better))
    end
    return { { kind = "number" } }
  end
end
functions.os.time = reads_clock("tx:now()", 0)
functions.os.date = reads_clock("tx:now()", 1)
functions.os.clock = reads_clock("tx:now()", 0)
functions.math.random = reads_clock("tx:random()", 2)

-- -- moonpool -------------------------------------------------------------------------------------

local own = functions["moonpool"]

function own.operation(self, call)
  return { { kind = "operation", table = first_of(call), file = self.file, node = call.node } }
end

local function plain_text(value)
  if value.kind ~= "text" then return nil end
  local text, whole = values.plain(value)
  return whole and text or nil
end

function own.fail(self, call)
  local code, message, more = first_of(call), call.arguments[2], call.arguments[3]
  local node, text = call.node, plain_text(first_of(call))
  local fault = code.kind == "none" and "the code is missing"
    or text and own_errors.code_fault(text)
  if fault then self:report("error", "fail", node[2] or node, "moonpool.fail: " .. fault) end
  if #call.arguments < 2 and not call.arguments.open or message and message.kind == "none" then
    self:report("error", "fail", node, "moonpool.fail: the message is missing",
                "moonpool.fail(\"CODE\", \"what happened\", { status = 409 })")
  elseif message.kind == "table" or message.kind == "number" and message.n then
    self:report("error", "fail", node[3], "moonpool.fail: the message must be a text")
  end
  if more and more.kind == "number" then
    self:report("error", "fail", node[4], "moonpool.fail: the status stands in a table",
                ("write { status = %s }"):format(more.n or "…"))
  elseif more and more.kind == "table" then
    local status = more.fields.status
    local wrong = status and status.value.kind == "number" and status.value.n
      and own_errors.status_fault(status.value.n)
    if wrong then self:report("error", "fail", status.node, "moonpool.fail: " .. wrong) end
  end
  return {}, true
end

function own.call(self, call)
  local name = plain_text(first_of(call))
  if name then self.project:check_call(self, name, call) end
  return { values.unknown }
end
own.call_info = own.call

function own.spawn(self, call)
  self:with({ phase = "spawn" }, self.enter_perhaps, self, call.arguments)
  return { values.unknown }
end

function own.all(self, call)
  local list = first_of(call)
  for _, cell in ipairs(list.kind == "table" and list.items or {}) do
    self:enter_perhaps { cell.value }
  end
  return { open = true }
end

function own.sleep(self, call)
  if self.phase == "run" then
    self:report("warning", "sleep", call.node,
      "the transaction, its connection and its locks are held while this sleeps",
      "sleep before or behind the call, or let a schedule (`every`) come back")
  end
  return {}
end

local function effect(self, call)
  if self.phase == "run" then
    self:report("warning", "effect", call.node,
      "this stays although the transaction may be rolled back, and is done again by each attempt",
      "do it when the work is stored: tx:after_commit(function() … end)")
  end
  self:enter_perhaps(call.arguments)
  return { values.unknown }
end
for name in ("set delete invalidate"):gmatch "%S+" do functions["moonpool.cache"][name] = effect end

-- -- moonpool.db ----------------------------------------------------------------------------------

local db = functions["moonpool.db"]

-- The names of the functions that take SQL: what a statement's rows become.
local function not_in_run(self, call, name)
  if self.phase ~= "run" or call.conn then return end
  self:report("error", "outside", call.node,
    ("db.%s is refused inside of an operation, whose statements are one transaction"):format(name),
    ("use tx:%s"):format(name == "transaction" and "savepoint" or name))
end

for name in ("one query first value count exec insert"):gmatch "%S+" do
  db[name] = function(self, call)
    not_in_run(self, call, name)
    return { statements.judge(self, call, name, nil, 1) }
  end
end

function db.stream(self, call)
  not_in_run(self, call, "stream")
  return { statements.judge(self, call, "query", nil, 1) }
end

local function is_true(cell) return cell and cell.node and cell.node.tag == "True" end

local function enter_all(self, value, arguments)
  local results = { open = true }
  for _, member in ipairs(values.members(value)) do
    if member.kind == "func" then results = self:enter(member, arguments) end
  end
  return results
end

function db.transaction(self, call)
  not_in_run(self, call, "transaction")
  local options, fn = first_of(call), call.arguments[#call.arguments] or values.unknown
  local fields = options.kind == "table" and options.fields or {}
  local tx = { kind = "tx", read_only = is_true(fields.read_only), tenant = fields.tenant ~= nil }
  return self:with({ phase = "transaction" }, enter_all, self, fn, { tx })
end

function db.lease(self, call)
  not_in_run(self, call, "lease")
  return enter_all(self, first_of(call), { { kind = "conn" } })
end

-- -- tx -------------------------------------------------------------------------------------------

local tx_methods = {}

-- Rows know the function that asked for them.
local function owned(self, value)
  for _, member in ipairs(values.members(value)) do
    if member.kind == "row" or member.kind == "rows" then member.fn = self.fn end
  end
  return value
end

for name in ("one query first value count exec insert"):gmatch "%S+" do
  tx_methods[name] = function(self, call, tx)
    return { owned(self, statements.judge(self, call, name, tx, 2)) }
  end
end

function tx_methods.savepoint(self, call, tx)
  return enter_all(self, first_of(call, 2), { tx })
end

local function hook(self, call)
  self:with({ phase = "after" }, self.enter_perhaps, self, call.arguments)
  return {}
end
tx_methods.after_commit, tx_methods.on_rollback = hook, hook

function tx_methods.uuid() return { { kind = "column", type = 2950, path = "tx:uuid()" } } end
function tx_methods.now() return { { kind = "column", type = 1184, path = "tx:now()" } } end
function tx_methods.random() return { { kind = "number" } } end

local function call_tx(self, callee, call)
  local first = call.arguments[1]
  if self.phase == "after" then
    self:report("error", "over", call.node, "the transaction is over when this hook runs",
                "use moonpool.db or moonpool.call here, or do it in `run`")
    return { open = true }
  end
  if not call.method and not (first and first.kind == "tx") then
    self:report("error", "name", call.node[1], ("tx.%s is called with a colon"):format(callee.name),
                ("write tx:%s(…)"):format(callee.name))
    return { values.unknown }
  end
  local method = tx_methods[callee.name]
  if method then return method(self, call, callee.tx) end
  return { open = true }
end

--- Calls a value that is no function of the script. -> results, and true if it never returns
function library.call(self, callee, call)
  if callee.kind == "tx_method" then return call_tx(self, callee, call) end
  local known = callee.kind == "member" and functions[callee.module]
  local fn = known and known[callee.name]
  if fn then return fn(self, call) end
  self:enter_perhaps(call.arguments)
  return { open = true }
end

-- -- loops ----------------------------------------------------------------------------------------

local walks = {}

function walks.ipairs(value)
  if value.kind == "rows" then return { { { kind = "number" }, value.row } } end
  if value.kind == "data" then
    local item = { kind = "data", schema = value.schema and value.schema.item,
                   path = value.path .. "[…]" }
    return { { { kind = "number" }, item } }
  end
  if value.kind ~= "table" then return { {} } end
  local turns = {}
  for i, cell in ipairs(value.items) do turns[i] = { { kind = "number", n = i }, cell.value } end
  if value.open and turns[1] then
    local any = { values.unknown }
    for i, turn in ipairs(turns) do any[i + 1] = turn[2] end
    return { { { kind = "number" }, values.union(table.unpack(any)) } }
  end
  return turns, not value.open and #turns <= MOST_TURNS
end

function walks.pairs(value)
  if value.kind ~= "table" then
    return { { values.unknown, value.kind == "rows" and value.row or values.unknown } }
  end
  local turns, names = {}, {}
  for name in pairs(value.fields) do
    if type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do turns[i] = { values.text(name), value.fields[name].value } end
  local closed = not value.open and #value.items == 0 and #turns <= MOST_TURNS
  if closed then return turns, true end
  return { {} }
end

-- A turn that may be any of these.
local function one_turn(turns)
  local any = {}
  for position = 1, 2 do
    local list = {}
    for i, turn in ipairs(turns) do list[i] = turn[position] or values.unknown end
    any[position] = list[1] and values.union(table.unpack(list)) or values.unknown
  end
  return any
end

--- The turns of `for … in`: a list of lists of values, and true if there are no others.
function library.turns(self, expressions, scope)
  local call = expressions[1]
  if call.tag == "Call" and call[1].tag == "Id" and walks[call[1][1]] and call[2] then
    local turns, closed = {}, true
    local members = values.members(values.present(self:eval(call[2], scope)))
    for _, value in ipairs(members) do
      local list, whole = walks[call[1][1]](value)
      table.move(list, 1, #list, #turns + 1, turns)
      closed = closed and whole
    end
    if closed and not members[2] then return turns, true end
    return { one_turn(turns) }, false
  end
  local list = self:eval_list(expressions, scope)
  local rows = list[1] and list[1].kind == "rows" and list[1].row
  return { rows and { rows } or {} }, false
end

return library
