-- moonpool.migrate.objects: records the objects that the migrations make, so that `migrate verify`
-- can compare them with the database. Each transaction of a migration records its own changes of
-- the catalog, and no others: objects that others make or own are not compared.
--
-- The record is the table moonpool.migration_object, which only the owner may read. Its row of the
-- kind `server` has the server's major version that wrote the definitions: another version may
-- write the same definition in another way.
local catalog = require "moonpool.migrate.catalog"
local db      = require "moonpool.db"
local json    = require "moonpool.json"
local problem = require "moonpool.migrate.problem"
local sorted  = require "moonpool.script.sorted"

local objects = {}

local RECORD =
  "jsonb_to_recordset($1::jsonb) as x (kind text, name text, parent text, definition text)"

-- An INVALID index is skipped here: `migrate status` reports it.
local function is_invalid(object) return object.definition:find "; INVALID$" ~= nil end

local function in_transaction(conn, fn)
  conn.exec "begin"
  local ok, result = pcall(fn)
  if ok then ok, result = pcall(conn.exec, "commit"), result end
  if ok then return result end
  pcall(conn.exec, "rollback")
  error(result, 0)
end

local function major(conn)
  return conn.value "select (current_setting('server_version_num')::int / 10000)::text"
end

-- Returns the recorded objects, by kind and name, and the server's version that wrote them; nil if
-- nothing is recorded yet.
local function noted(conn)
  if not conn.value "select to_regclass('moonpool.migration_object') is not null" then
    return nil
  end
  local all, version, any = {}, nil, false
  for _, row in ipairs(
    conn.query "select kind, name, parent, definition from moonpool.migration_object") do
    if row.kind == "server" then
      version, any = row.definition, true
    else
      all[row.kind .. " " .. row.name] = { kind = row.kind, name = row.name, parent = row.parent,
                                           definition = row.definition }
    end
  end
  return any and all or nil, version
end

-- Deletes the objects of `gone` from the record and inserts those of `there`.
local function write(conn, gone, there)
  if gone[1] then
    conn.exec("delete from moonpool.migration_object o using " .. RECORD
              .. " where o.kind = x.kind and o.name = x.name",
              json.array(gone))
  end
  if there[1] then
    conn.exec("insert into moonpool.migration_object (kind, name, parent, definition) " ..
              "select kind, name, parent, definition from " .. RECORD, json.array(there))
  end
end

local function write_server(conn)
  local row = { { kind = "server", name = "version", definition = major(conn) } }
  write(conn, row, row)
end

--- Records the changes since `before`. Must be called in the transaction that made them. Returns
--- the current objects.
function objects.note(conn, before)
  local now, gone, there = catalog.read(conn), {}, {}
  for key, object in pairs(before) do
    if not now[key] then gone[#gone + 1] = object end
  end
  for key, object in pairs(now) do
    local old = before[key]
    if not old then
      there[#there + 1] = object
      gone[#gone + 1] = object
    elseif old.definition ~= object.definition then
      gone[#gone + 1], there[#there + 1] = object, object
    end
  end
  write(conn, gone, there)
  return now
end

--- Records the current state of the recorded objects, and of the objects that belong to them, as
--- made by the migrations. Returns the current objects.
function objects.accept(conn)
  return in_transaction(conn, function()
    local known, now, gone, there = noted(conn) or {}, catalog.read(conn), {}, {}
    local names = {}
    for key, object in pairs(known) do
      gone[#gone + 1] = object
      if now[key] then there[#there + 1], names[object.name] = now[key], true end
    end
    for key, object in pairs(now) do
      if not known[key] and object.parent and names[object.parent] and not is_invalid(object) then
        there[#there + 1] = object
      end
    end
    write(conn, gone, there)
    write_server(conn)
    return now
  end)
end

-- Makes the first record of a database that an older moonpool has migrated: the objects that belong
-- to the owner's roles.
local function first_note(conn)
  local mine, now, there = {}, catalog.read(conn), {}
  for _, row in ipairs(
    conn.query "select rolname from pg_catalog.pg_roles where pg_has_role(current_user, oid, \z
      'usage')") do
    mine[row.rolname] = true
  end
  local names = {}
  for _, object in pairs(now) do
    local owner = object.definition:match "^owner ([^;]+)"
    if owner and mine[owner] and object.kind ~= "schema" then names[object.name] = true end
  end
  for _, object in pairs(now) do
    if names[object.name] or object.parent and names[object.parent] then
      there[#there + 1] = object
    end
  end
  write(conn, {}, there)
end

--- Must be called before migrations run. `applied`: the database has applied migrations. Returns
--- the current objects.
function objects.open(conn, applied)
  local known, version = noted(conn)
  if known and version ~= major(conn) then return objects.accept(conn) end
  return in_transaction(conn, function()
    if not known then
      if applied then first_note(conn) end
      write_server(conn)
    end
    return catalog.read(conn)
  end)
end

-- Returns the first part of each definition that the other does not have; "-" if there is none.
local function difference(one, other)
  local function parts(text)
    local list, set = {}, {}
    for part in (text:gsub("; ", "\n") .. "\n"):gmatch "([^\n]*)\n" do
      if part:find "%S" then list[#list + 1], set[part] = part, true end
    end
    return list, set
  end
  local list_one, set_one = parts(one)
  local list_other, set_other = parts(other)
  local function first(list, set)
    for _, part in ipairs(list) do
      if not set[part] then
        return #part > 160 and part:sub(1, utf8.offset(part, 0, 160) - 1) .. "…" or part
      end
    end
    return "-"
  end
  return first(list_one, set_other), first(list_other, set_one)
end

local function describe(object)
  local text = object.kind .. " " .. object.name
  if object.kind == "index" then text = text .. " on " .. object.parent end
  return text
end

local function compare(known, now, same_server)
  local lines, lost, names = {}, {}, {}
  for key, object in pairs(known) do
    names[object.name] = not object.parent
    if not now[key] and not object.parent then lost[object.name] = true end
  end
  for _, key in ipairs(sorted(known)) do
    local object, there = known[key], now[key]
    if not there and not lost[object.parent] then
      lines[#lines + 1] = ("the %s is missing: a migration made it"):format(describe(object))
    elseif there and same_server and not is_invalid(there)
      and there.definition ~= object.definition then
      lines[#lines + 1] = (
        "the %s is not what the migrations made:\n  migrations  %s\n  database    %s"):format(
        describe(object), difference(object.definition, there.definition))
    end
  end
  for _, key in ipairs(sorted(now)) do
    local object = now[key]
    -- An index that was added by hand is allowed: it does not change the effect of a statement.
    if not known[key] and object.kind ~= "index" and object.parent and names[object.parent] then
      lines[#lines + 1] = ("the %s is there, but no migration made it"):format(describe(object))
    end
  end
  return lines
end

--- Compares the database with the record. Returns one line for each difference, and whether there
--- is a record to compare with.
---@return string[] lines, boolean noted
function objects.differences()
  local lines, known = {}, true
  db.lease(function(conn)
    local ok, failure = pcall(function()
      conn.exec "begin transaction isolation level repeatable read, read only"
      local all, version = noted(conn)
      known = all ~= nil
      if known then lines = compare(all, catalog.read(conn), version == major(conn)) end
    end)
    pcall(conn.exec, "rollback")
    if not ok then error(failure, 0) end
  end)
  return lines, known
end

--- `migrate verify --accept`.
function objects.accept_all()
  local count = 0
  for _ in ipairs((objects.differences())) do count = count + 1 end
  db.lease(function(conn) objects.accept(conn) end)
  print("taken for what the migrations made: " .. problem.plural(count, "difference"))
  return 0
end

return objects
