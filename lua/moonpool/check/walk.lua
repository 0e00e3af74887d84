-- moonpool.check.walk: follows a script through its syntax tree, with what is known of each value
-- (values.lua). Nothing is run. Both branches of an `if` are followed, and what they assign is
-- joined; functions are entered where they are called.
local access   = require "moonpool.check.access"
local branches = require "moonpool.check.branches"
local compared = require "moonpool.check.compared"
local library  = require "moonpool.check.library"
local nullable = require "moonpool.check.nullable"
local values   = require "moonpool.check.values"

local MOST_STEPS, MOST_DEPTH = 200000, 24 -- of one operation

local Walk = {}
Walk.__index = Walk

local walk = {}

local branch, join, loop = branches.branch, branches.join, branches.loop

-- project: see project.lua. `phase`: "load" while files are loaded, "run" inside of `run`, "after"
-- inside of a hook.
function walk.new(project)
  return setmetatable({ project = project, phase = "load", steps = 0, depth = 0,
                        entered = {}, added = {}, tests = {} }, Walk)
end

--- Adds a finding (findings.lua) about the statement that is followed.
function Walk:add(finding)
  finding.file = finding.file or self.file
  finding.statement = self.statement
  self.project.findings:add(finding)
end

--- Reports about a node of the file that is followed.
function Walk:report(severity, rule, node, message, help)
  self:add { severity = severity, rule = rule, node = node, message = message, help = help }
end

--- Runs fn with other fields of the walk; they are put back afterwards.
function Walk:with(fields, fn, ...)
  local before = {}
  for name, value in pairs(fields) do
    before[name] = { self[name] }
    self[name] = value or nil
  end
  local results = table.pack(fn(...))
  for name, old in pairs(before) do self[name] = old[1] end
  return table.unpack(results, 1, results.n)
end

-- -- variables ------------------------------------------------------------------------------------

local function declare(self, scope, name, value)
  local cell = values.cell(value)
  cell.of_file = self.fn.main
  scope.vars[name] = cell
  return cell
end

local function find(scope, name)
  while scope do
    if scope.vars[name] then return scope.vars[name] end
    scope = scope.parent
  end
end

--- Sets a cell; in a branch the value before is kept.
function Walk:write(cell, value)
  local journal = self.journal
  if journal and journal[cell] == nil then journal[cell] = cell.value end
  cell.value = value
end

-- -- expressions ----------------------------------------------------------------------------------

local eval = {}

function Walk:eval(node, scope)
  local handler = eval[node.tag]
  return handler and handler(self, node, scope) or values.unknown
end

--- The values of a list of expressions; the last may give several.
function Walk:eval_list(nodes, scope, from)
  local list, never = {}, false
  for i = from or 1, #nodes do
    local node = nodes[i]
    if i == #nodes and (node.tag == "Call" or node.tag == "Invoke") then
      local results
      results, never = self:call(node, scope)
      table.move(results, 1, #results, #list + 1, list)
      list.open = results.open
    elseif i == #nodes and node.tag == "Dots" then
      list.open = true
    else
      list[#list + 1] = self:eval(node, scope)
    end
  end
  return list, never
end

eval.Nil    = function() return values.none end
eval.True   = function() return values.boolean end
eval.False  = eval.True
eval.Paren  = function(self, node, scope) return self:eval(node[1], scope) end
eval.Dots   = function() return values.unknown end

function eval.Number(_, node)
  return { kind = "number", n = math.tointeger(tonumber(node[1])) or tonumber(node[1]) }
end

function eval.String(self, node) return values.text(node[1], self.file, node) end

function eval.Id(self, node, scope)
  local cell = find(scope, node[1])
  if cell and self.testing then nullable.tested(self, cell.value) end
  if cell then return cell.value end
  return access.global(self, node)
end

function eval.Function(self, node, scope)
  local made = { kind = "func", node = node, file = self.file, scope = scope }
  table.insert(self.project.functions, made)
  return made
end

function eval.Index(self, node, scope)
  local value = access.index(self, node, self:eval(node[1], scope), self:eval(node[2], scope),
                             node[2])
  if self.testing then nullable.tested(self, value) end
  return value
end

function eval.Table(self, node, scope)
  local made = values.table()
  made.node, made.file, made.keys = node, self.file, {}
  for i, item in ipairs(node) do
    if item.tag == "Pair" then
      local key, value = self:eval(item[1], scope), self:eval(item[2], scope)
      local name, plain = access.key_of(key)
      if not plain then
        made.open = true
      else
        made.fields[name] = values.cell(value)
        made.keys[name] = item[1]
        made.fields[name].node = item[2]
      end
    elseif i == #node and (item.tag == "Call" or item.tag == "Invoke" or item.tag == "Dots") then
      local more = self:eval_list({ item }, scope)
      for _, value in ipairs(more) do made.items[#made.items + 1] = values.cell(value) end
      made.open = made.open or more.open or item.tag == "Dots"
    else
      made.items[#made.items + 1] = values.cell(self:eval(item, scope))
    end
  end
  return made
end

local operators = {}

-- A value whose being nil is asked for, and one that must not be nil.
local function eval_tested(self, node, scope)
  return self:with({ testing = true }, self.eval, self, node, scope)
end

local function eval_used(self, node, scope)
  local value = self:with({ testing = false }, self.eval, self, node, scope)
  nullable.used(self, node, value)
  return value
end

operators["and"] = function(self, node, scope)
  local left = eval_tested(self, node[2], scope)
  local finals
  local right
  finals = branch(self, function() right = self:eval(node[3], scope) end)
  join(self, { finals, {} })
  if left.kind == "none" then return left end
  local falsy = values.may_be_nil(left) or left.kind == "data" or left.kind == "boolean"
    or left.kind == "unknown"
  return falsy and values.union(right, values.none) or right -- false counts as nil here
end

operators["or"] = function(self, node, scope)
  local left = eval_tested(self, node[2], scope)
  local right
  local finals, dead = branch(self, function()
    local list, never = self:eval_list({ node[3] }, scope)
    right = list[1] or values.unknown
    return never
  end)
  join(self, { finals, {} })
  if dead then return values.present(left) end
  return values.union(values.present(left), right)
end

local function operands(node, out)
  if node.tag == "Op" and node[1] == "concat" then
    operands(node[2], out)
    operands(node[3], out)
  elseif node.tag == "Paren" and node[1].tag == "Op" and node[1][1] == "concat" then
    operands(node[1], out)
  else
    out[#out + 1] = node
  end
  return out
end

function operators.concat(self, node, scope)
  local parts = {}
  for i, part in ipairs(operands(node, {})) do
    parts[i] = { eval_used(self, part, scope), self.file, part }
  end
  return values.concat(parts)
end

local function compare(self, node, scope)
  local left, right = eval_tested(self, node[2], scope), eval_tested(self, node[3], scope)
  compared.equal(self, node, left, right)
  return values.boolean
end
operators.eq, operators.ne = compare, compare

local booleans = { lt = true, le = true, gt = true, ge = true, ["not"] = true }

function eval.Op(self, node, scope)
  local operator = operators[node[1]]
  if operator then return operator(self, node, scope) end
  if node[1] == "not" then compared.absent(self, node, eval_tested(self, node[2], scope)) end
  local left = node[1] ~= "not" and eval_used(self, node[2], scope)
  if node[3] then compared.calculated(self, node, left, eval_used(self, node[3], scope)) end
  return booleans[node[1]] and values.boolean or node[1] == "len" and { kind = "number" }
    or values.unknown
end

function eval.Call(self, node, scope)
  local results = self:call(node, scope)
  return results[1] or results.open and values.unknown or values.none
end
eval.Invoke = eval.Call

-- -- calls ----------------------------------------------------------------------------------------

local function merge_returns(returns, dead)
  local most, merged = 0, {}
  for _, list in ipairs(returns) do
    most = math.max(most, #list)
    merged.open = merged.open or list.open
  end
  for i = 1, most do
    local choices = {}
    for k, list in ipairs(returns) do
      choices[k] = list[i] or list.open and values.unknown or values.none
    end
    if not dead then choices[#choices + 1] = values.none end
    merged[i] = values.union(table.unpack(choices))
  end
  return merged
end

--- Enters a function. -> the list of its results, and true if it never returns.
function Walk:enter(func, arguments)
  if self.entered[func.node] or self.depth > MOST_DEPTH or self.steps > MOST_STEPS then
    return { open = true }, false
  end
  self.project.visited[func.node] = true
  local scope = { vars = {}, parent = func.scope }
  local fn = { returns = {}, main = false }
  self.entered[func.node] = true
  local dead = self:with({ fn = fn, file = func.file, depth = self.depth + 1 }, function()
    for i, parameter in ipairs(func.node[1]) do
      if parameter.tag == "Id" then
        local value = arguments[i]
          or (arguments.open or arguments.guess) and library.parameter(self, parameter[1])
        declare(self, scope, parameter[1], value)
      end
    end
    return self:block(func.node[2], scope)
  end)
  self.entered[func.node] = nil
  return merge_returns(fn.returns, dead), dead and not fn.returns[1]
end

--- Enters the functions among the values as a branch that may not be taken.
function Walk:enter_perhaps(list)
  for _, value in ipairs(list) do
    for _, member in ipairs(values.members(value)) do
      if member.kind == "func" then
        local finals = branch(self, function() self:enter(member, { guess = true }) end)
        join(self, { finals, {} })
      end
    end
  end
end

-- Calls one of the values. -> results, and true if the call never returns
local function apply(self, callee, call)
  local outcomes, results, all_never, known = {}, {}, true, values.members(values.present(callee))
  for _, member in ipairs(known) do
    local list, never
    local function one()
      if member.kind == "func" then
        list, never = self:enter(member, call.arguments)
      else
        list, never = library.call(self, member, call)
      end
    end
    if known[2] then outcomes[#outcomes + 1] = branch(self, one) else one() end
    if not never then results[#results + 1] = list end
    all_never = all_never and never
  end
  if known[2] then join(self, outcomes) end
  return merge_returns(results, true), all_never
end

--- A call. -> the list of its results, and true if it never returns.
function Walk:call(node, scope)
  local arguments, callee
  if node.tag == "Invoke" then
    local object = eval_used(self, node[1], scope)
    arguments = self:eval_list(node, scope, 3)
    callee = access.method(self, node, object, node[2][1])
    table.insert(arguments, 1, object)
  else
    callee = self:eval(node[1], scope)
    arguments = self:eval_list(node, scope, 2)
  end
  return apply(self, callee, { node = node, arguments = arguments, scope = scope,
                               method = node.tag == "Invoke" })
end

-- -- statements -----------------------------------------------------------------------------------

local exec = {}

-- The place of a label in a block, or nil.
local function label_of(block, name)
  for i, statement in ipairs(block) do
    if statement.tag == "Label" and statement[1] == name then return i end
  end
end

--- Follows statements. -> true if what stands behind them is never reached.
function Walk:block(block, scope)
  local at = 1
  while block[at] do
    local statement = block[at]
    self.steps, self.statement = self.steps + 1, statement
    if self.steps > MOST_STEPS then return false end
    local handler = exec[statement.tag]
    if handler and handler(self, statement, scope) then
      local label = statement.tag == "Goto" and label_of(block, statement[1])
      if not label or label < at then return true end
      at = label
    end
    at = at + 1
  end
  return false
end

local function inner(scope) return { vars = {}, parent = scope } end

function exec.Local(self, node, scope)
  local list, never = self:eval_list(node[2] or {}, scope)
  for i, id in ipairs(node[1]) do
    declare(self, scope, id[1], list[i] or list.open and values.unknown or values.none)
  end
  return never
end

function exec.Localrec(self, node, scope)
  local cell = declare(self, scope, node[1][1][1])
  cell.value = self:eval(node[2][1], scope)
end

-- The variable that an assignment's target begins with.
local function root_of(node, scope)
  while node.tag == "Index" do node = node[1] end
  return node.tag == "Id" and find(scope, node[1]) or nil, node
end

local function assign(self, target, value, scope)
  local cell, id = root_of(target, scope)
  if cell and cell.of_file then access.keeps_state(self, target, id[1]) end
  if target.tag == "Id" then
    if cell then self:write(cell, value) else access.set_global(self, target) end
    return
  end
  local base, key = self:eval(target[1], scope), self:eval(target[2], scope)
  access.set_index(self, base, key, value, target[2])
end

function exec.Set(self, node, scope)
  local list, never = self:eval_list(node[2], scope)
  for i, target in ipairs(node[1]) do
    assign(self, target, list[i] or list.open and values.unknown or values.none, scope)
  end
  return never
end

function exec.Call(self, node, scope) return (select(2, self:call(node, scope))) end
exec.Invoke = exec.Call

function exec.Do(self, node, scope) return self:block(node, inner(scope)) end

function exec.If(self, node, scope)
  local outcomes, complete = {}, false
  for i = 1, #node, 2 do
    local block = node[i + 1]
    if block then eval_tested(self, node[i], scope) else block, complete = node[i], true end
    local finals, dead = branch(self, function() return self:block(block, inner(scope)) end)
    if not dead then outcomes[#outcomes + 1] = finals end
  end
  if not complete then outcomes[#outcomes + 1] = {} end
  if not outcomes[1] then return true end
  join(self, outcomes)
end

function exec.While(self, node, scope)
  self:eval(node[1], scope)
  loop(self, node, function() self:block(node[2], inner(scope)) end)
end

function exec.Repeat(self, node, scope)
  local within = inner(scope)
  loop(self, node, function()
    self:block(node[1], within)
    self:eval(node[2], within)
  end)
end

function exec.Fornum(self, node, scope)
  for i = 2, #node - 1 do self:eval(node[i], scope) end
  local within = inner(scope)
  declare(self, within, node[1][1], { kind = "number" })
  loop(self, node, function() self:block(node[#node], within) end)
end

function exec.Forin(self, node, scope)
  local turns, closed = library.turns(self, node[2], scope)
  local function turn(list)
    local within = inner(scope)
    for i, id in ipairs(node[1]) do declare(self, within, id[1], list[i] or values.unknown) end
    self:block(node[3], within)
  end
  if not closed then
    loop(self, node, function() turn(turns[1] or {}) end)
    return
  end
  for _, list in ipairs(turns) do turn(list) end
end

function exec.Return(self, node, scope)
  local list, never = self:eval_list(node, scope)
  if never then return true end
  local returns = self.fn.returns
  returns[#returns + 1] = list
  list.node = node
  return true
end

function exec.Break() return true end
exec.Goto = exec.Break

--- Follows the body of a file. -> the value that it returns
function Walk:file_body(file)
  local fn = { returns = {}, main = true }
  return self:with({ fn = fn, file = file, phase = "load", journal = false }, function()
    self:block(file.tree, { vars = {} })
    return merge_returns(fn.returns, true)[1] or values.none
  end)
end

return walk
