-- db.stream: the rows of a query one by one, in constant memory: a cursor on a connection of its
-- own, which is given up when the loop ends, however it ends.
--
--   for row in db.stream("select * from orders where total > $total", { total = 100 }) do … end

local FIRST, MOST = 16, 1024      -- rows in one round trip: more and more of them

local READY = {}

-- Runs in a coroutine, which yields READY when the query runs, and then its rows.
local function read(db, sql, arguments)
  db.check(sql)
  db.own_lease(function(conn)
    conn.exec "begin read only"
    conn.exec "set local cursor_tuple_fraction = 1"
    -- whoever reads may take his time
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
  --- A query's rows one by one: three values for `for … in`, whose last one ends it.
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
