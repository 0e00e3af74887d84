-- moonpool.migrate.statements: splits a text into statements, and tells of each whether it can run
-- in a transaction, and which index it builds. All of this comes from PostgreSQL's own parser.
local checksum = require "moonpool.migrate.checksum"
local problem  = require "moonpool.migrate.problem"
local report   = require "moonpool.migrate.report"
local sql      = require "moonpool.sql"

local PARSER_MAJOR = 15     -- PostgreSQL version of the built-in parser

---@class moonpool.migrate.statement
---@field number integer      from 1, within the text
---@field sql string
---@field line integer        in the file
---@field path string         of the file
---@field kind? string        the parser's name for it; nil: newer syntax than the parser knows
---@field tree? table         the parser's node
---@field alone boolean       cannot run in a transaction
---@field checksum string
---@field index? { name: string, schema?: string, table: string, concurrent: boolean }
---@field drops_index boolean

local statements = {}

-- The statements that cannot run in a transaction, by kind. A function decides from the node and
-- from `concurrent`: the statement is CONCURRENTLY.
local alone = {
  IndexStmt                = function(_, concurrent) return concurrent end,
  DropStmt                 = function(_, concurrent) return concurrent end,
  VacuumStmt               = function(tree) return tree.is_vacuumcmd end,
  ClusterStmt              = function(tree) return not tree.relation end,
  CreatedbStmt             = true,
  DropdbStmt               = true,
  CreateTableSpaceStmt     = true,
  DropTableSpaceStmt       = true,
  AlterSystemStmt          = true,
  CreateSubscriptionStmt   = true,
  DropSubscriptionStmt     = true,
  AlterSubscriptionStmt    = true,
  -- a new value cannot be used before COMMIT
  AlterEnumStmt            = function(tree) return tree.newVal and not tree.oldVal end,
  AlterDatabaseStmt        = function(tree)
    for _, option in ipairs(tree.options or {}) do
      if option.DefElem and option.DefElem.defname == "tablespace" then return true end
    end
  end,
  ReindexStmt = function(tree, concurrent)
    return concurrent or (tree.kind ~= "REINDEX_OBJECT_INDEX"
                          and tree.kind ~= "REINDEX_OBJECT_TABLE")
  end,
  AlterTableStmt = function(tree)
    for _, command in ipairs(tree.cmds or {}) do
      local partition = command.AlterTableCmd.def and command.AlterTableCmd.def.PartitionCmd
      if partition and partition.concurrent then return true end
    end
  end,
}

local function has_parameter(node)
  if type(node) ~= "table" then return false end
  if node.ParamRef then return true end
  for _, child in pairs(node) do
    if has_parameter(child) then return true end
  end
  return false
end

local within_transaction =
  { TRANS_STMT_SAVEPOINT = true, TRANS_STMT_RELEASE = true, TRANS_STMT_ROLLBACK_TO = true }

-- Raises a problem for a statement that a migration must not contain.
local function check(statement)
  local tree = statement.tree or {}
  if has_parameter(tree) then
    problem.raise(
      "%s:%d: $1 outside of quotes has no value here: in a function's body, give the argument a \z
        name and use it",
                  statement.path, statement.line)
  elseif statement.kind == "TransactionStmt" and not within_transaction[tree.kind] then
    problem.raise(
      "%s:%d: a migration does not begin or end transactions, moonpool does: take `%s` out",
                  statement.path, statement.line, statement.sql)
  elseif statement.index and statement.index.concurrent and not statement.index.name then
    problem.raise(
      "%s:%d: CREATE INDEX CONCURRENTLY needs a name for its index: without one, what an \z
        interrupted build " ..
                  "leaves behind could not be told from other indexes", statement.path,
                  statement.line)
  end
end

local function describe(statement)
  local rule, tree = alone[statement.kind], statement.tree
  if not statement.kind then
    statement.alone = statement.concurrent
  elseif type(rule) == "function" then
    statement.alone = rule(tree or {}, statement.concurrent) and true or false
  else
    statement.alone = rule or false
  end
  if statement.kind == "IndexStmt" and tree then
    statement.index = { name = tree.idxname, table = tree.relation.relname,
                        schema = tree.relation.schemaname,
                        concurrent = tree.concurrent or false }
  end
  statement.drops_index = statement.kind == "DropStmt" and tree ~= nil
    and tree.removeType == "OBJECT_INDEX"
  -- No session queues behind these, so they need no lock timeout: they wait for older transactions
  -- and do not block other sessions.
  statement.patient = statement.alone
    and (statement.kind == "IndexStmt" or statement.kind == "ReindexStmt"
         or statement.drops_index)
end

local function server_major(conn)
  return conn.value "select current_setting('server_version_num')::int / 10000"
end

--- Splits `text`. `first_line` is its first line in the file at `path`. Raises a problem for a text
--- that the built-in parser cannot read, unless the server of `conn` is newer than the parser: then
--- the server checks the text, and note(line) is called.
---@return moonpool.migrate.statement[]
function statements.split(conn, text, path, first_line, note)
  local ok, list = pcall(sql.split, text)
  if not ok then
    if type(list) ~= "table" or not list.sql_line then error(list, 0) end
    local reason = list
    if server_major(conn) > PARSER_MAJOR then ok, list = pcall(sql.split, text, true) end
    if not ok then problem.raise("%s", report.syntax(path, first_line, text, reason)) end
    if note then
      note(
        string.format(
          "%s:%d: syntax newer than PostgreSQL %d, which moonpool reads: the server judges it, \z
            and it is not " ..
                      "checked for what locks a big table", path, first_line + reason.sql_line - 1,
                      PARSER_MAJOR))
    end
  end
  for number, statement in ipairs(list) do
    statement.number, statement.path, statement.line = number, path, first_line + statement.line - 1
    statement.checksum = checksum.of(statement.sql)
    describe(statement)
    check(statement)
  end
  return list
end

--- Groups statements: each statement that must run alone is a group, and each sequence of other
--- statements is a group, which is one transaction.
---@return { alone: boolean, [integer]: moonpool.migrate.statement }[]
function statements.segments(list, from)
  local segments = {}
  for number = from or 1, #list do
    local statement, last = list[number], segments[#segments]
    if not last or statement.alone or last.alone then
      last = { alone = statement.alone }
      segments[#segments + 1] = last
    end
    last[#last + 1] = statement
  end
  return segments
end

return statements
