-- The embedded database, driven from outside as a person would: `moonpool db ...`. Each test has a
-- state directory of its own, and stops what it started.

local bin = os.getenv "MOONPOOL_BIN" or "build/moonpool"

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function capture(command)
  local pipe = assert(io.popen("(" .. command .. "\n) 2>&1; echo \"exit:$?\""))
  local text = pipe:read "a"
  pipe:close()
  local out, code = text:match "^(.*)exit:(%d+)%s*$"
  return out, math.tointeger(tonumber(code))
end

local function shell(command)
  local out, code = capture(command)
  assert(code == 0, command .. ": " .. out)
  return (out:gsub("%s+$", ""))
end

describe("embedded database", function()
  local base, state

  -- stdout and stderr together; the outer shell's settings must not reach the command.
  local function command(args, dir)
    return ("env -u DATABASE_URL -u MOONPOOL_OWNER_URL MOONPOOL_STATE=%s %s db %s"):format(
      quote(dir or state), quote(bin), args)
  end

  local function db(args, dir)
    return capture(command(args, dir))
  end

  local function stdout(args)
    return shell(command(args) .. " 2>/dev/null")
  end

  local function sql(text, role)
    return stdout(("psql %s -XAtqc %s"):format(role or "", quote(text)))
  end

  local function start()
    local out, code = db "start"
    assert(code == 0, out)
    return out
  end

  local function pid()
    return tonumber(stdout("status --json"):match '"pid":(%d+)')
  end

  -- tail ends with the process it watches, so this waits for its end and nothing else.
  local function kill_and_wait(number)
    shell(("kill -9 %d; timeout 20 tail --pid=%d -f /dev/null"):format(number, number))
  end

  before_each(function()
    base = shell "mktemp -d /tmp/moonpool-spec-XXXXXX"
    if shell "id -u" == "0" then shell("chmod 755 " .. base) end
    state = base .. "/state"
  end)

  after_each(function()
    db "stop"
    shell("rm -rf " .. quote(base))
  end)

  it("is made once, starts, tells about itself and stops", function()
    local out, code = db "status"
    assert.equal(3, code)
    assert.matches("not made yet", out)

    out = start()
    assert.matches("making a private PostgreSQL database in " .. state, out, 1, true)
    assert.matches("is running, data in " .. state .. "/data", out, 1, true)
    assert.matches("already running", start())

    local json = stdout "status --json"
    assert.matches('"state":"running","running":true,"initialised":true', json, 1, true)
    assert.matches('"stateDir":"' .. state .. '"', json, 1, true)
    assert.equal("700", shell("stat -c %a " .. quote(state .. "/data")))
    assert.equal("700", shell("stat -c %a " .. quote(state .. "/run")))

    sql("create table kept (n int); insert into kept values (7)", "--owner")
    out, code = db "stop"
    assert.equal(0, code)
    assert.matches("PostgreSQL stopped", out)
    out, code = db "status"
    assert.equal(3, code)
    assert.matches("stopped", out)
    out, code = db "stop"
    assert.equal(0, code)
    assert.matches("was not running", out)

    assert.is_nil(start():find("making", 1, true))
    assert.equal("7", sql("select n from kept", "--owner"))
  end)

  it("is durable, in UTC, and listens on no port", function()
    start()
    assert.equal("on|on|on|UTC||UTF8", sql [[
      select current_setting('fsync'), current_setting('synchronous_commit'),
             current_setting('full_page_writes'), current_setting('timezone'),
             current_setting('listen_addresses'), current_setting('server_encoding')]])
  end)

  it("gives URLs for its three roles and starts when asked for one", function()
    local url = stdout "url"
    assert.matches("^postgresql://moonpool_app@/moonpool%?host=", url)
    assert.matches("^postgresql://moonpool_owner@/", (stdout "url --owner"))
    assert.matches("^postgresql://postgres@/", (stdout "url --admin"))
    assert.matches('^{"url":"postgresql://moonpool_app@/.*","role":"app"}$', (stdout "url --json"))
    assert.equal("moonpool_app", sql "select current_user")
    assert.equal("moonpool_owner", sql("select current_user", "--owner"))
    assert.equal("postgres", sql("select current_user", "--admin"))
  end)

  it("prepares the roles with no more rights than they need", function()
    start()
    assert.equal("moonpool_app|f|f|t\nmoonpool_owner|f|t|t\nmoonpool_system|f|t|f", sql [[
      select rolname, rolsuper, rolbypassrls, rolcanlogin from pg_roles
      where rolname like 'moonpool%' order by 1]])
    assert.equal("f|f|f|f|t", sql [[
      select has_database_privilege('moonpool', 'temp'),
        has_database_privilege('moonpool', 'create'),
             has_schema_privilege('public', 'create'),
             has_function_privilege('set_config(text,text,boolean)', 'execute'),
             has_schema_privilege('public', 'usage')]])
    assert.equal("t|t|t", sql([[
      select pg_has_role('moonpool_system', 'member'), has_schema_privilege('public', 'create'),
             has_function_privilege('set_config(text,text,boolean)', 'execute')]], "--owner"))
    local out, code = db [[psql -XAtqc "select set_config('app.dealership_id', 'x', true)"]]
    assert.equal(1, code)
    assert.matches("permission denied for function set_config", out)
  end)

  it("prints roles that an administrator can run again", function()
    start()
    shell(command "roles" .. " > " .. quote(base .. "/roles.sql"))
    sql("select 1", "--admin -v ON_ERROR_STOP=1 -1 -f " .. quote(base .. "/roles.sql"))
    assert.matches("\\password moonpool_app", shell("cat " .. quote(base .. "/roles.sql")), 1, true)
  end)

  it("comes back after a kill -9, with what was committed", function()
    start()
    sql("create table kept (n int); insert into kept values (1)", "--owner")
    kill_and_wait(pid())
    shell("test -e " .. quote(state .. "/data/postmaster.pid"))
    local out, code = db "status"
    assert.equal(3, code)
    assert.matches("stopped", out)
    assert.matches("is running", start())
    assert.equal("1", sql("select n from kept", "--owner"))
  end)

  it("is not fooled by a stale pid file whose number another process has now", function()
    start()
    local data = quote(state .. "/data")
    shell("cp -p " .. data .. "/postmaster.pid " .. quote(base .. "/pid"))
    assert(select(2, db "stop") == 0)
    -- The same user's process, or PostgreSQL would overlook the file by itself.
    local user = shell("stat -c %U " .. data)
    local run = shell "id -u" == "0" and ("setpriv --reuid=%s --clear-groups "):format(user) or ""
    local other = shell(run .. "sleep 300 >/dev/null 2>&1 & echo $!")
    finally(function() os.execute("kill " .. other) end)
    shell(("sed -i '1s/.*/%s/' %s && cp -p %s %s/postmaster.pid && chown %s %s/postmaster.pid")
      :format(
      other, quote(base .. "/pid"), quote(base .. "/pid"), data, user, data))
    local lock = quote(state .. "/run/.s.PGSQL.5432.lock")
    shell(("cp -p %s/postmaster.pid %s"):format(data, lock))
    assert.matches("stopped", (db "status"))
    assert.matches("is running", start())
    assert.not_equal(tonumber(other), pid())
    shell("kill -0 " .. other)
  end)

  it("is started once by two starts at once, and both succeed", function()
    for _ = 1, 2 do -- the second time the data is there already
      local out = shell(
        ("(%s; echo $?) >%s/a 2>&1 & (%s; echo $?) >%s/b 2>&1 & wait; cat %s/a %s/b"):format(
        command "start", base, command "start", base, base, base))
      local _, running = out:gsub("PostgreSQL %d+ is running", "")
      local _, already = out:gsub("was already running", "")
      local _, zero = out:gsub("\n0", "")
      assert.same({ 1, 1, 2 }, { running, already, zero }, out)
      assert(select(2, db "stop") == 0)
    end
  end)

  it("removes what an interrupted initdb left", function()
    shell("mkdir -p " .. quote(state .. "/data.new/base"))
    shell("touch " .. quote(state .. "/lock"))
    shell("chmod 700 " .. quote(state))
    start()
    assert.equal("1", sql "select 1")
    local _, code = capture("test -e " .. quote(state .. "/data.new"))
    assert.equal(1, code)
  end)

  it("resets only when told --yes", function()
    start()
    sql("create table gone (n int)", "--owner")
    local out, code = db "reset"
    assert.equal(2, code)
    assert.matches("nothing was done", out)
    assert.equal("t", sql("select to_regclass('gone') is not null", "--owner"))
    out, code = db "reset --yes"
    assert.equal(0, code, out)
    assert.equal("t", sql("select to_regclass('gone') is null", "--owner"))
    assert.equal("data\nlock\nlog\nrun", shell("ls " .. quote(state)))
  end)

  it("works where the path is too long for a socket", function()
    state = base .. "/" .. ("long"):rep(30)
    start()
    assert.equal("1", sql "select 1")
    local dir = stdout("status --json"):match '"socketDir":"([^"]+)"'
    assert.is_true(#dir < 94, dir)
    assert.equal("700", shell("stat -c %a " .. quote(dir)))
    db "stop"
    start() -- the recorded folder again
    assert.equal(dir, (stdout("status --json"):match '"socketDir":"([^"]+)"'))
    db "stop"
    shell("rm -rf " .. quote(dir))
    assert.matches("is running", start()) -- someone tidied /tmp up
    dir = stdout("status --json"):match '"socketDir":"([^"]+)"'
    db "stop"
    shell("rm -rf " .. quote(dir))
  end)

  it("says what is wrong with a state directory that cannot be made", function()
    shell("touch " .. quote(base .. "/file"))
    local out, code = db("start", base .. "/file/state")
    assert.equal(2, code)
    assert.matches(base .. "/file", out, 1, true)
    assert.matches("Not a directory", out)
    assert.matches("MOONPOOL_STATE", out)
  end)

  it("says what is wrong with a state directory that cannot be written", function()
    shell("mkdir " .. quote(state))
    if shell "id -u" == "0" then
      -- Root may write anywhere, but its server user has to pass through.
      shell("chmod 700 " .. quote(base))
      local out, code = db "start"
      assert.equal(3, code)
      assert.matches("may not enter " .. base, out, 1, true)
      assert.matches("chmod o+x " .. base, out, 1, true)
    else
      shell("chmod 500 " .. quote(state))
      local out, code = db "start"
      assert.equal(3, code)
      assert.matches(state, out, 1, true)
      assert.matches("Permission denied", out)
    end
    assert.not_matches("data", shell("ls " .. quote(state)))
  end)

  it("says how to get PostgreSQL when MOONPOOL_PGBIN has none", function()
    local out, code = capture("MOONPOOL_PGBIN=/nonexistent " .. command "start")
    assert.equal(2, code)
    assert.matches("MOONPOOL_PGBIN is /nonexistent", out, 1, true)
  end)

  it("lets DATABASE_URL take precedence and prints no password", function()
    local prefix = (
      "DATABASE_URL=postgresql://u:hunter2@db.example:5433/x MOONPOOL_STATE=%s %s db "):format(
      quote(state), quote(bin))
    local out, code = capture(prefix .. "url")
    assert.equal(0, code)
    assert.matches("db.example", out, 1, true)
    assert.is_nil(out:find("hunter2", 1, true))
    assert.matches("DATABASE_URL is set", (capture(prefix .. "stop")))
    out, code = capture("env -u MOONPOOL_OWNER_URL " .. prefix .. "url --owner")
    assert.equal(1, code)
    assert.matches("MOONPOOL_OWNER_URL", out)
  end)

  it("tells usage errors apart", function()
    for _, args in ipairs { "", "frobnicate", "start --yes", "url --sideways" } do
      local out, code = db(args)
      assert.equal(2, code, out)
      assert.matches("moonpool db --help", out, 1, true)
    end
    local out, code = db "--help"
    assert.equal(0, code)
    assert.matches("Usage: moonpool db", out)
  end)
end)
