-- What the host writes to its log: one line per event, readable for people or machines, never a
-- secret, never a flood.
local command = require "spec.support.process.command"
local json    = require "moonpool.json"
local scratch = require "spec.support.data.scratch"

local function lines_of(script, env)
  env = env or {}
  env.MOONPOOL_LOG_LEVEL = env.MOONPOOL_LOG_LEVEL or "info"
  local lines = {}
  for line in scratch.script('local log = require "moonpool".log\n' .. script, env)
    :gmatch "[^\n]+" do
    lines[#lines + 1] = line
  end
  return lines
end

describe("the log", function()
  it("is JSON where no terminal is, one line per event, whatever the text", function()
    local lines =
      lines_of [[log.warn('a "quoted" \\ thing\nwith a break\27[31m and \xff bytes, äß')]]
    assert.are.equal(1, #lines)
    local event = json.decode(lines[1])
    assert.are.same({ "warn", "script" }, { event.level, event.topic })
    assert.are.equal('a "quoted" \\ thing with a break?[31m and ? bytes, äß', event.message)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", event.time)
  end)

  it("is text where it is asked for", function()
    local lines = lines_of([[log.error "broken\27[0m\194\155 thing"]], { MOONPOOL_LOG = "text" })
    assert.are.equal(1, #lines)
    assert.matches("^%d%S+Z error script: broken%?%[0m%? thing$", lines[1])
  end)

  it("is shown for specs that fail, and only for those", function()
    local folder = command.folder { ["log_spec.lua"] = [[
      local log = require "moonpool".log
      it("passes", function() log.error "of one that passes" end)
      it("fails", function() log.error "of one that fails" error "on purpose" end)
      it("passes again", function() log.error "of one that passes" end)]] }
    local output, code = command.run("spec log_spec.lua", { dir = folder.path })
    assert.are.equal(1, code)
    assert.truthy(output:find("of one that fails", 1, true), output)
    assert.is_nil(output:find("of one that passes", 1, true))
    output = command.run("spec log_spec.lua",
                         { dir = folder.path, env = { MOONPOOL_LOG_LEVEL = "error" } })
    assert.truthy(output:find("of one that passes", 1, true), output)
    folder.remove()
  end)

  it("has levels", function()
    local script = [[log.error "1" log.warn "2" log.info "3" log.debug "4"]]
    for level, count in pairs { error = 1, warn = 2, info = 3, debug = 4 } do
      local of_script = 0
      for _, line in ipairs(lines_of(script, { MOONPOOL_LOG_LEVEL = level })) do
        of_script = of_script + (line:find('"topic":"script"', 1, true) and 1 or 0)
      end
      assert.are.equal(count, of_script, level)
    end
  end)

  it("counts what comes too often, and loses none of it", function()
    local written, counted, others = 0, 0, 0
    for _, line in ipairs(lines_of [[
      for i = 1, 1000 do
        log.warn "the same"
        if i % 500 == 0 then log.warn("another " .. i) end
      end]]) do
      local message = json.decode(line).message
      local held = message:match "^(%d+) more like this within a second: the same$"
      if message == "the same" then written = written + 1 end
      if message:find "^another" then others = others + 1 end
      counted = counted + (held or 0)
    end
    assert.are.equal(1000, written + counted)
    assert.is_true(written >= 20 and written < 200)
    assert.are.equal(2, others)
  end)
end)

describe("no secret comes into log, error or history", function()
  local secrets = {
    ssn = "078-05-1120", password = "correct-horse", token = "tok_4f9a8b",
    card = "4111111111111111",
    email = "jane.doe@example.test",
  }

  it("from values that the server refuses, slow statements, held connections, and failures",
     function()
    local set = {}
    for name, value in pairs(secrets) do set[#set + 1] = ("%s = %q"):format(name, value) end
    local output = scratch.script(([[
      local moonpool, db, metrics = require "moonpool", require "moonpool.db",
        require "moonpool.metrics"
      local secrets = { %s }
      local function try(...)
        local ok, e = pcall(...)
        if not ok then print(tostring(e)) moonpool.log.warn(tostring(e)) end
      end
      for _, secret in pairs(secrets) do
        for type in ("int uuid date timestamptz inet numeric bool json interval int[] bytea"):gmatch
          "%%S+" do
          try(db.value, ("select $1::%%s"):format(type), type == "bytea" and "\\x" .. secret
            or secret)
          try(db.value, ("select ($1::text)::%%s"):format(type), secret)
        end
        try(db.value, "select to_date($1, 'YYYY-MM-DD')", secret)
        try(db.value, "select $1::varchar(3)::int", secret)
        try(db.value, ("select pg_sleep(0.03), '%%s'"):format(secret))
        try(db.value, ("select '%%s' 1 2"):format(secret))
        try(db.value, ("select '%%s"):format(secret))
        try(db.value, ("select '%%s'::int"):format(secret))
        try(db.transaction, function(tx)
          tx:exec("select pg_sleep(0.03), $1::text", secret)
          return tx:value("select $1::int", secret)
        end)
      end
      for _, entry in ipairs(metrics.queries()) do print(entry.query, entry.error) end
      for _, entry in ipairs(metrics.slow { threshold = 20 }) do print(entry.query, entry.error) end
      print(metrics.text())
    ]]):format(table.concat(set, ", ")),
      { DB_SLOW_QUERY_THRESHOLD = "20", MOONPOOL_LOG_LEVEL = "debug" })
    assert.matches("slow: %d+ ms", output)
    assert.matches("value hidden", output)
    for name, value in pairs(secrets) do
      local at = output:find(value, 1, true)
      assert.is_nil(at, at and name .. " in: " .. output:sub(math.max(1, at - 150), at + 60))
    end
  end)
end)
