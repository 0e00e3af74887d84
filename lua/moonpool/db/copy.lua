-- db.copy_in and db.copy_out: PostgreSQL's COPY, as fast as the network and in constant memory.
--
--   db.copy_in("items (id, name)", { { 1, "nail" }, { 2, "screw" } })
--   db.copy_in("copy items from stdin (format csv, header)", io.lines("items.csv", 65536))
--   db.copy_out("select * from items", io.stdout)
local CHUNK = 65536

local columns_of_table = [[
  select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
   where attrelid = to_regclass($1) and attnum > 0 and not attisdropped and attgenerated = '']]

-- Describes the columns that COPY fills: their types decide how values are written. Returns nil if
-- the table does not exist; COPY itself then raises the error.
local function columns_of(conn, target)
  local name, list = target:match "^(.-)%s*%((.*)%)%s*$"
  name = name or target
  list = list or conn.value(columns_of_table, name)
  return list and conn.copy_columns(("select %s from %s"):format(list, name))
end

-- A function that returns the pieces of the source, bytes or rows, one after the other.
local function reader_of(source)
  if type(source) == "function" then return source end
  if type(source) == "string" then source = { source } end
  if type(source) ~= "table" then
    error("db.copy_in: the source is a function, a list of rows or text, not a " .. type(source), 3)
  end
  local at = 0
  return function()
    at = at + 1
    return source[at]
  end
end

local function is_copy(sql) return sql:match "^%s*[cC][oO][pP][yY]%f[%W]" end

--- Stores the rows of the source. `target`: "table", "table (column, …)", or a statement COPY …
--- FROM STDIN. `source`: text, a list, or a function that returns one piece after the other and
--- then nil. A piece is text in COPY's format, or, if `target` is not a statement, a row: an array
--- of values, in which moonpool.null is NULL.
--- -> the number of stored rows; if all pieces were rows, also the number of rows that the server
--- did not store because of a trigger or a rule.
local function copy_in(db, target, source)
  if type(target) ~= "string" then
    error("db.copy_in: a table or a COPY statement is missing", 2)
  end
  local statement = is_copy(target)
  local read = reader_of(source)
  return db.lease(function(conn)
    local columns = not statement and columns_of(conn, target)
    local way = conn.copy_start(statement and target or "copy " .. target .. " from stdin")
    if way ~= "in" then
      error("db.copy_in: the statement does not read from stdin: " .. target, 0)
    end
    local pieces, size, wanted = {}, 0, true
    local rows = 0 -- nil if the source gave texts
    local function put()
      wanted = conn.copy_put(table.concat(pieces))
      pieces, size = {}, 0
    end
    local ok, failure = pcall(function()
      while wanted do
        local piece = read()
        if piece == nil then break end
        if type(piece) == "table" and columns then
          piece, rows = conn.copy_row(piece, columns), rows and rows + 1
        else
          rows = nil
        end
        if type(piece) ~= "string" then
          error("db.copy_in: the source gave a " .. type(piece) .. (statement
            and ", where a statement needs text" or ""), 0)
        end
        pieces[#pieces + 1], size = piece, size + #piece
        if size >= CHUNK then put() end
      end
      if wanted and size > 0 then put() end
    end)
    if ok then
      local stored = conn.copy_end()
      if rows then return stored, rows - stored end
      return stored
    end
    pcall(conn.copy_end, "the source failed")
    error(failure, 0)
  end)
end

--- Writes the rows of a query to `sink`, a function or a file, in pieces of whole rows. -> the
--- number of rows. `source`: a query, or a statement COPY … TO STDOUT.
local function copy_out(db, source, sink)
  if type(source) ~= "string" then
    error("db.copy_out: a query or a COPY statement is missing", 2)
  end
  local write = sink
  if type(sink) ~= "function" then
    if not (sink and sink.write) then error("db.copy_out: the sink is a function or a file", 2) end
    write = function(bytes) assert(sink:write(bytes)) end
  end
  return db.lease(function(conn)
    local way = conn.copy_start(is_copy(source) and source or "copy (" .. source .. ") to stdout")
    if way ~= "out" then
      error("db.copy_out: the statement does not write to stdout: " .. source, 0)
    end
    while true do
      local bytes, rows = conn.copy_get()
      if not bytes then return rows end
      write(bytes)
    end
  end)
end

---@param db moonpool.db
return function(db)
  function db.copy_in(target, source) return copy_in(db, target, source) end
  function db.copy_out(source, sink) return copy_out(db, source, sink) end
end
