-- moonpool.migrate.watch: watches the migration's connection from another connection: the progress
-- of an index build, and the session that the migration waits for. Prints this on stderr: one line
-- that changes on a terminal, otherwise plain lines.
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local moonpool = require "moonpool"

local TICK_S    = 0.05
local REPEAT_S  = 30       -- seconds until the same line is repeated; not on a terminal

local watch = {}

-- Numbers that the role may not read are NULL, and so is the query of another role.
local query = [[
  select p.phase, p.blocks_done, p.blocks_total, p.tuples_done, p.tuples_total, p.lockers_done,
    p.lockers_total,
         p.index_relid::regclass::text as index,
         b.pid as blocker, b.usename, b.application_name, b.state, b.query,
         extract(epoch from clock_timestamp() - b.state_change)::float8 as since
    from (select $pid::integer as pid) w
    left join pg_stat_progress_create_index p on p.pid = w.pid
    left join lateral (select a.* from unnest(pg_blocking_pids(w.pid)) k (pid)
      join pg_stat_activity a on a.pid = k.pid
                        order by a.backend_start limit 1) b on true]]

local function duration(seconds)
  if seconds < 120 then return string.format("%.0f s", seconds) end
  if seconds < 7200 then return string.format("%.0f min", seconds / 60) end
  return string.format("%.1f h", seconds / 3600)
end

-- "process 4711 (moonpool_app, psql, idle in transaction for 3 min: select …)"
local function blocker_text(row)
  local words = {}
  for _, word in ipairs { row.usename or "", row.application_name or "" } do
    if word ~= "" then words[#words + 1] = word end
  end
  if row.state then
    words[#words + 1] = row.state .. (row.since and " for " .. duration(row.since) or "")
  end
  local text = table.concat(words, ", ")
  if row.query and row.query ~= "" then
    local sql = row.query:gsub("%s+", " ")
    text = text .. ": " .. (#sql > 80 and sql:sub(1, utf8.offset(sql, -1, 78) - 1) .. "…" or sql)
  end
  return string.format("process %d (%s)", row.blocker, text)
end

local function percent(done, total)
  if not done or not total or total == 0 then return nil end
  return math.min(100, 100 * done // total)
end

local function progress_text(row)
  if not row.phase then return nil end
  local part = percent(row.tuples_done, row.tuples_total)
    or percent(row.blocks_done, row.blocks_total)
               or percent(row.lockers_done, row.lockers_total)
  return row.phase .. (part and string.format(" %d %%", part) or ""), row.phase, part
end

local on_terminal

local function is_terminal()
  if on_terminal == nil then on_terminal = os.execute "test -t 2" == true end
  return on_terminal
end

--- Watches the server process `pid` until stop() is called. `options`: quiet, interval (seconds),
--- blind (the pool has no second connection to watch from). The caller sets `watcher.statement`,
--- the statement to report about. `watcher.blocker` describes the last session that the migration
--- waited for.
function watch.start(pid, options)
  local watcher = { over = false, statement = nil, blocker = nil }
  local shown, shown_at, line_open = nil, 0, false
  local interval_s = options.interval or 1

  local function show(text, key)
    if options.quiet then return end
    if is_terminal() then
      io.stderr:write("\r\27[K", text)
      line_open = true
    elseif key ~= shown or host.clock() - shown_at >= REPEAT_S then
      shown, shown_at = key, host.clock()
      io.stderr:write(text, "\n")
    end
  end

  --- Erases the changing line, so that the caller can print another line.
  function watcher.clear()
    if line_open then io.stderr:write "\r\27[K" end
    line_open, shown = false, nil
  end

  local function look()
    local statement = watcher.statement
    if not statement or options.blind then return end
    local ok, row = pcall(db.first, query, { pid = pid })
    if not ok or not row or watcher.statement ~= statement then return end
    if row.blocker then watcher.blocker = blocker_text(row) end
    local text, phase, part = progress_text(row)
    local label = string.format("  %s:%d", statement.path:match "[^/]*$", statement.line)
    if row.index and row.index ~= "-" and row.index ~= "0" then
      label = label .. " " .. row.index
    end
    if row.blocker then
      show(string.format("%s: %swaits for %s", label, phase and phase .. ", " or "",
                         watcher.blocker),
           "blocked " .. row.blocker .. (phase or ""))
    elseif text then
      show(label .. ": " .. text, phase .. (part and part // 10 or ""))
    end
  end

  local task = moonpool.spawn(function()
    local waited_s = 0
    while not watcher.over do
      moonpool.sleep(TICK_S)
      waited_s = waited_s + TICK_S
      if not watcher.over and waited_s >= interval_s then
        waited_s = 0
        look()
      end
    end
  end)

  function watcher.stop()
    watcher.over = true
    task:wait()
    watcher.clear()
  end

  return watcher
end

return watch
