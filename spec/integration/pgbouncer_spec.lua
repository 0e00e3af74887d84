-- A PgBouncer between a host and its database: in session mode all works; in transaction mode the
-- host says so and does not serve.
local cluster   = require "spec.support.process.cluster"
local command   = require "spec.support.process.command"
local db        = require "moonpool.db"
local failure   = require "spec.support.data.failure"
local inline    = require "spec.support.data.inline"
local pgbouncer = require "spec.support.process.pgbouncer"
local scratch   = require "spec.support.data.scratch"
local serving   = require "spec.support.process.serving"

local files = {
  ["scripts/add.lua"] = [[
    local moonpool, is = require "moonpool", require "moonpool.is"
    return moonpool.operation { lane = "all", input = is.object { n = is.integer },
      run = function(tx, input)
        tx:exec("insert into pooled.seen (n) values ($1)", input.n)
        tx:publish("pooled.added", input.n)
        return tx:one [=[select count(*) as n, '2026-01-02 03:04:05+02'::timestamptz as at
                           from pooled.seen]=]
      end }]],
  ["scripts/hears.lua"] = [[
    return require "moonpool".operation { on = "pooled.added",
      run = function(tx) tx:exec "insert into pooled.heard default values" end }]],
  ["scripts/ticks.lua"] = [[
    return require "moonpool".operation { every = "1s",
      run = function(tx) tx:exec "insert into pooled.ticked default values" end }]],
}

describe("PgBouncer", function()
  local own, bouncer, host

  lazy_setup(function()
    own = cluster.start()
    own:ask "create schema pooled"
    for _, name in ipairs { "seen (n int)", "heard (at timestamptz)", "ticked (at timestamptz)" } do
      own:ask("create table pooled." .. name)
    end
    own:ask "grant usage on schema pooled to moonpool_app"
    own:ask "grant select, insert on all tables in schema pooled to moonpool_app"
  end)
  lazy_teardown(function() own:stop() end)
  after_each(function()
    if host then host:stop() end
    if bouncer then bouncer:stop() end
    host, bouncer = nil, nil
    own:ask "alter role moonpool_app reset all"
  end)

  local function prepare_role()
    for _, setting in ipairs { "timezone = 'UTC'", "datestyle = 'ISO'",
                               "intervalstyle = 'iso_8601'" } do
      own:ask("alter role moonpool_app set " .. setting)
    end
  end

  local function env()
    return { DATABASE_URL = bouncer.url, MOONPOOL_OWNER_URL = own.owner_url }
  end

  it("in session mode carries calls, lanes, messages, schedules and notifications", function()
    prepare_role()
    bouncer = pgbouncer.start(own, "session", "options")
    host = serving.start(files, { env = env() })
    local calls = {}
    for n = 1, 8 do calls[n] = host:send { ["do"] = "call", name = "add", input = { n = n } } end
    local last = 0
    for n = 1, 8 do
      local answer = calls[n].finish()
      assert.is_true(answer.ok, answer.error and answer.error.message)
      assert.are.equal("2026-01-02T01:04:05Z", answer.result.at)
      last = math.max(last, answer.result.n)
    end
    assert.are.equal(8, last) -- one after the other
    scratch.await("the deliveries", function()
      return own:ask "select count(*) from pooled.heard" == 8
    end)
    scratch.await("a run", function() return own:ask "select count(*) from pooled.ticked" > 0 end)
    local output = scratch.script([[
      local db, heard = require "moonpool.db", nil
      db.listen("pooled", function(payload) heard = payload end)
      while not heard do
        db.notify("pooled", "hello")
        require "moonpool".sleep(0.01)
      end
      print(heard)]], env())
    assert.are.equal("hello\n", output)
    host:signal "TERM"
    assert.are.equal(0, host:wait())
    assert.are.equal(0, own:ask "select count(*) from pg_locks where locktype = 'advisory'")
  end)

  it("in transaction mode is found out by serve, which says what to do and ends", function()
    prepare_role()
    bouncer = pgbouncer.start(own, "transaction", "options")
    local folder = command.folder { ["scripts/hello.lua"] =
      'return require "moonpool".operation { run = print }' }
    local settings = env()
    settings.MOONPOOL_STATE, settings.MOONPOOL_LISTEN = folder.path .. "/state", "off"
    settings.MOONPOOL_CHECK = "off"
    local output, code = command.run("serve", { dir = folder.path, env = settings })
    folder.remove()
    assert.are.equal(2, code, output)
    inline.contains(output, "gives the transactions of a session to different backends",
                    "pool_mode = session", "moonpool help deploying")
  end)

  it("that drops the settings of a session is told, with where the remedy is", function()
    for _, ignored in ipairs { "extra_float_digits", "options" } do
      bouncer = pgbouncer.start(own, "session", ignored)
      local pool = db.open { url = bouncer.url, max = 1 }
      local e = failure(pool.value, "select 1")
      pool.close()
      bouncer:stop()
      bouncer = nil
      assert.are.equal("NO_DATABASE", e.code)
      inline.contains(e.message, "pooler", "options")
    end
  end)
end)
