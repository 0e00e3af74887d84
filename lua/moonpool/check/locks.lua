-- moonpool.check.locks: pairs of operations that lock rows of two tables in opposite order: two
-- such calls at once can deadlock. The server ends one of them, and the host runs it again.
local lints  = require "moonpool.check.lints"
local sorted = require "moonpool.script.sorted"
local syntax = require "moonpool.check.syntax"

local locks = {}

local function add(found, name)
  if name and not found[name] then
    found[name] = true
    found[#found + 1] = name
  end
end

local function add_tables(node, found)
  if type(node) ~= "table" then return end
  if node.RangeVar then add(found, node.RangeVar.relname) end
  for _, part in pairs(node) do add_tables(part, found) end
end

local takers = {}

function takers.UpdateStmt(statement, found) add(found, statement.relation.relname) end
takers.DeleteStmt = takers.UpdateStmt

function takers.InsertStmt(statement, found)
  local conflict = statement.onConflictClause
  if conflict and conflict.action == "ONCONFLICT_UPDATE" then
    add(found, statement.relation.relname)
  end
end

function takers.SelectStmt(statement, found)
  if statement.lockingClause then add_tables(statement.fromClause, found) end
end

local function look(tag, node, found)
  if type(node) ~= "table" then return end
  if takers[tag] then takers[tag](node, found) end
  for name, part in pairs(node) do look(name, part, found) end
end

-- The tables of which a statement locks rows, in some order.
local function taken(info)
  if not info.locked then
    info.locked = {}
    look(info.kind, lints.tree(info), info.locked)
  end
  return info.locked
end

--- Notes the locks of a statement that an operation sends. `at`: the walk, at its place.
function locks.note(self, at, info, node, op)
  local own = self.locks[op.name] or { op = op }
  self.locks[op.name] = own
  for _, name in ipairs(taken(info)) do
    if not own[name] then
      own[#own + 1] = name
      own[name] = { number = #own, info = info, file = at.file, node = node,
                    statement = at.statement }
    end
  end
end

local function compare(self, one, other)
  for i = 1, #other do
    for k = i + 1, #other do
      local first, second = other[i], other[k]
      local a, b = one[second], one[first]
      local place = other[second]
      if a and b and a.number < b.number and a.info ~= b.info
        and place.info ~= other[first].info then
        self.findings:add { severity = "warning", rule = "locks", file = place.file,
          node = place.node, statement = place.statement,
          message = ("rows of `%s` are locked after those of `%s` here, and the other way round \z
            in %s (%s:%d): two such calls at once can deadlock"):format(second, first, one.op.name,
            b.file.shown, (syntax.place(b.file, b.node.offset))),
          help = "lock in the same order in all operations, or let both wait in the same lane" }
        return
      end
    end
  end
end

-- The key of the lane in which the operation's calls run one at a time, or nil.
local function alone_in(op)
  local lane = type(op.lane) == "table" and (op.lane[1] or op.lane) or op.lane
  if type(lane) ~= "table" then return lane end
  return (lane.width or 1) == 1 and lane.key or nil
end

--- Compares the operations with each other.
function locks.compare_all(self)
  local names = sorted(self.locks)
  for i, name in ipairs(names) do
    for k = i + 1, #names do
      local one, other = self.locks[name], self.locks[names[k]]
      local lane = alone_in(one.op)
      if not (lane and lane == alone_in(other.op)) then compare(self, one, other) end
    end
  end
end

return locks
