-- db.stream: the rows of a query one by one, in constant memory. It uses a cursor on a separate
-- connection, which is released when the loop ends, also by a break or an error.
--
--   for row in db.stream("select * from orders where total > $total", { total = 100 }) do … end

local FIRST, MOST = 16, 1024      -- rows in the first round trip, doubled up to MOST

local READY = {}

-- Runs in a coroutine, which yields READY when the query runs, and then its rows.
local function read(db, sql, arguments)
  db.check(sql)
  db.own_lease(function(conn)
    conn.exec "begin read only"
    conn.exec "set local cursor_tuple_fraction = 1"
    -- The reader of the rows may be slow.
    conn.exec "set local idle_in_transaction_session_timeout = 0"
    conn.exec("declare moonpool_stream no scroll cursor for " .. sql,
              table.unpack(arguments, 1, arguments.n))
    coroutine.yield(READY)
    local size = FIRST
    repeat
      local rows = conn.query(("fetch forward %d from moonpool_stream"):format(size))
      for i = 1, #rows do coroutine.yield(rows[i]) end
      local last = #rows < size
      size = math.min(size * 2, MOST)
    until last
    conn.exec "commit"
  end)
end

---@param db moonpool.db
return function(db)
  --- A query's rows one by one. Returns the four values of `for … in`; the last one is the closing
  --- value, which releases the connection.
  function db.stream(sql, ...)
    if type(sql) ~= "string" then error("db.stream: the SQL text is missing", 2) end
    local reader = coroutine.create(read)
    local ok, row = coroutine.resume(reader, db, sql, table.pack(...))
    if not ok then error(row, 0) end
    local function following()
      if coroutine.status(reader) == "dead" then return nil end
      ok, row = coroutine.resume(reader)
      if not ok then error(row, 0) end
      return row
    end
    return following, nil, nil, setmetatable({}, { __close = function()
      coroutine.close(reader)
    end })
  end
end
