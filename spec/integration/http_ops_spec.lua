-- Operations over HTTP: who may call what, and what comes back.
local command    = require "spec.support.process.command"
local dealership = require "spec.support.data.dealership"
local http       = require "spec.support.client.http"
local json       = require "moonpool.json"
local moonpool   = require "moonpool"
local outbox     = require "moonpool.outbox.store"
local scratch    = require "spec.support.data.scratch"
local service    = require "spec.support.process.http_service"
local test       = require "moonpool.test"

local function operation(fields, body)
  return ('local moonpool = require "moonpool"\nlocal is = require "moonpool.is"\n' ..
          'return moonpool.operation { summary = "x", %s run = function(tx, input) %s end }')
            :format(fields or "", body)
end

local files = {
  ["scripts/hello.lua"]  = operation(nil,
                                     'return { said_so = tx:value "select 42", price = \z
                                       moonpool.decimal "1.50" }'),
  ["scripts/whoami.lua"] = operation(nil, 'return tx.caller or {}'),
  ["scripts/fails.lua"]  = operation(nil,
                                     'moonpool.fail("NO_SUCH_LUCK", "no luck today", { status = \z
                                       409 })'),
  ["scripts/breaks.lua"] = operation(nil, 'local none; return none.field'),
  ["scripts/leaks.lua"]  = operation(nil, [[return tx:one "select 1 / 0 as secret_column"]]),
  ["scripts/unwritable.lua"] =
    operation(nil, 'tx:publish("http_ops_spec", 1); return { ratio = 0 / 0 }'),
  ["scripts/none.lua"]   = operation(nil,
                                     [[return { rows = tx:query "select 1 where false",
                                       first = tx:query "select 1 n" }]]),
  ["scripts/hears.lua"]  = operation('on = "http_ops_spec.nothing",', 'return nil'),
  ["scripts/nightly.lua"] = operation('every = "366d",', "return 1"),
  ["scripts/hourly.lua"] = operation('every = "366d", http = true,', "return 1"),
  ["scripts/inner.lua"]  = operation("internal = true,", "return 7"),
  ["scripts/outer.lua"]  = operation(nil, 'return moonpool.call("inner", {})'),
  ["scripts/misuses.lua"] = operation(nil, 'return tx:value("select $nmae::int", { name = 1 })'),
  ["scripts/slow.lua"]   = operation("timeout = 20,", [[tx:exec "select pg_sleep(20)"; return 1]]),
  ["scripts/naps.lua"]   = operation(nil, [[tx:exec "select pg_sleep(1), 'a nap'"; return 1]]),
  ["scripts/checked.lua"] =
    operation(
      'input = is.object { company_name = is.string:max(20), size = is.integer:optional() },',
              'return { name = input.company_name }'),
  ["scripts/of_tenant.lua"] =
    operation('tenant = "dealership_id", input = is.object { dealership_id = is.uuid },',
              [[return { tenant = tx:value "select current_setting('app.dealership_id')" }]]),
}

describe("operations over HTTP", function()
  local host, all
  setup(function()
    host = service.start(files)
    all = service.token "--scopes ops:*"
  end)
  teardown(function() host:stop() end)

  local function call(name, options)
    options = options or {}
    options.token = options.token or all
    return service.ask(host, "POST", "/api/ops/" .. name, options)
  end

  it("answer with their result", function()
    local answer = call("hello", { json = json.object() })
    assert.equal(200, answer.status)
    assert.same({ result = { saidSo = 42, price = "1.50" } }, answer.json)
    assert.equal("application/json", answer.headers["content-type"])
    assert.equal(200, call("hello").status) -- no body is an empty input
  end)

  it("answer with their error, and its status", function()
    local answer = call("fails", { headers = { ["X-Request-Id"] = "mine-1" } })
    assert.equal(409, answer.status)
    assert.equal("NO_SUCH_LUCK", answer.json.error.code)
    assert.equal("no luck today", answer.json.error.message)
    assert.equal("mine-1", answer.json.error.requestId)
    assert.equal("mine-1", answer.headers["x-request-id"])
  end)

  it("check their input", function()
    local answer = call("checked", { json = { companyName = ("x"):rep(21), size = "big" } })
    assert.equal(400, answer.status)
    assert.equal("VALIDATION_ERROR", answer.json.error.code)
    assert.equal(400, call("checked", { body = "{" }).status)
    assert.equal(400, call("checked", { body = '{"companyName":"a","companyName":"b"}' }).status)
    assert.equal(
      415, call("checked", { body = "companyName=a",
                             headers = { ["Content-Type"] = "text/plain" } }).status)
    assert.same({ result = { name = "a" } }, call("checked", { json = { companyName = "a" } }).json)
  end)

  it("show no SQL, no detail and no traceback, which the log has under the request's id", function()
    local answer = call("leaks", { headers = { ["X-Request-Id"] = "leaks-1" } })
    assert.equal(500, answer.status)
    assert.is_nil(answer.body:find("secret_column", 1, true), answer.body)
    answer = call("breaks", { headers = { ["X-Request-Id"] = "breaks-1" } })
    assert.equal(500, answer.status)
    assert.is_nil(answer.body:find("stack traceback", 1, true), answer.body)
    assert.truthy(host:log():find("breaks%-1"))
  end)

  it("do not tell a caller what their script did wrong with the host; the log has it", function()
    local answer = call("misuses", { headers = { ["X-Request-Id"] = "misused-1" } })
    assert.equal(500, answer.status)
    -- the code that scripts, `why` and the log have
    assert.equal("INVALID_ARGUMENT", answer.json.error.code)
    assert.equal("the operation failed; the log of the host says why, under the call's id",
                 answer.json.error.message)
    assert.is_nil(answer.body:find("nmae", 1, true))
    scratch.await("the log to tell", function()
      return host:log():find("no value for $nmae", 1, true)
    end)
  end)

  it("give an empty list for a query without rows", function()
    local answer = call "none"
    assert.matches('"rows":[]', answer.body, 1, true)
    assert.matches('"first":[{"n":1}]', answer.body, 1, true)
  end)

  it("undo the work when their result cannot be told", function()
    local function stored()
      return outbox.with(function(conn)
        return conn.value "select count(*) from moonpool.outbox where topic = 'http_ops_spec'"
      end)
    end
    local before, answer = stored(), call "unwritable"
    assert.equal(before, stored())
    assert.equal(500, answer.status)
    assert.equal("RESULT_UNWRITABLE", answer.json.error.code)
    assert.equal("unwritable was undone: its result cannot be written as JSON",
                 answer.json.error.message)
    assert.truthy(host:log():find(
      "unwritable was undone: its result cannot be written as JSON: $.ratio", 1, true))
    assert.equal(answer.headers["x-call-id"], answer.json.error.callId)
  end)

  it("are not found under other names", function()
    for _, name in ipairs { "helo", "hello/x", "", "../hello", "hello%00", ("x"):rep(100) } do
      assert.equal(404, call(name).status, name)
    end
    assert.equal(405, service.ask(host, "GET", "/api/ops/hello", { token = all }).status)
  end)

  it("end at the client's deadline, which cannot be longer than their own", function()
    local answer = call("slow", { headers = { ["Request-Timeout"] = "0.2" } })
    assert.equal(504, answer.status)
    assert.equal("DEADLINE_EXCEEDED", answer.json.error.code)
    for _, wrong in ipairs { "0", "-1", "x", "1e3", "", "99999999", "1 s", "nan" } do
      assert.equal(400, call("hello", { headers = { ["Request-Timeout"] = wrong } }).status, wrong)
    end
  end)

  it("are done once under an Idempotency-Key", function()
    local key = { ["Idempotency-Key"] = moonpool.uuid() }
    local first = call("checked", { json = { companyName = "a" }, headers = key })
    assert.equal(200, first.status)
    local second = call("checked", { json = { companyName = "a" }, headers = key })
    assert.same(first.json, second.json)
    assert.is_true(call("checked", { json = { companyName = "b" }, headers = key }).status >= 400)
    assert.equal(400, call("hello", { headers = { ["Idempotency-Key"] = ("x"):rep(256) } }).status)
  end)

  it("are rolled back when the client goes away", function()
    local client = http.connect(host.port)
    client.send(("POST /api/ops/slow HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
      :format(all))
    local function sleeping()
      return test.admin().value [[
        select count(*) from pg_stat_activity
         where query like '%pg_sleep(20)%' and state = 'active' and pid <> pg_backend_pid()]]
    end
    scratch.await("it sleeps", function() return sleeping() == 1 end)
    client.close()
    scratch.await("it is ended", function() return sleeping() == 0 end)
  end)

  it("that run by themselves, or are internal, are for no caller", function()
    for _, name in ipairs { "hears", "nightly", "inner" } do
      local answer = call(name)
      assert.same({ 404, "NOT_CALLABLE" }, { answer.status, answer.json.error.code })
    end
    assert.equal(200, call("hourly").status)
    assert.equal(7, call("outer").json.result)
    assert.equal(7, host:call("inner", {}).result) -- the operator's command line
  end)

  it("are listed, with their schemas, for whom they are", function()
    local answer = service.ask(host, "GET", "/api/ops", { token = all })
    assert.equal(200, answer.status)
    assert.equal(14, #answer.json.operations)
    for _, op in ipairs(answer.json.operations) do
      assert.is_nil(({ hears = true, nightly = true, inner = true })[op.name])
    end
    answer = service.ask(host, "GET", "/api/ops",
                         { token = service.token "--scopes ops:hello,monitor" })
    assert.equal(1, #answer.json.operations)
    local doc = service.ask(host, "GET", "/openapi.json", { token = all }).json
    assert.equal("3.1.0", doc.openapi)
    for _, name in ipairs { "hears", "nightly", "inner" } do
      assert.is_nil(doc.paths["/api/ops/" .. name])
    end
    assert.truthy(doc.paths["/api/ops/hourly"])
    local post = doc.paths["/api/ops/checked"].post
    assert.equal("checked", post.operationId)
    local named = post.requestBody.content["application/json"].schema["$ref"]
    assert.equal("#/components/schemas/CheckedInput", named)
    local schema = doc.components.schemas.CheckedInput
    assert.equal(20, schema.properties.companyName.maxLength)
    assert.same({ "companyName" }, schema.required)
  end)

  -- ---- who ----

  describe("need a token", function()
    it("of a host's own making", function()
      local made = service.token "--scopes ops:*"
      local others = {
        { headers = {} }, { headers = { Authorization = "" } },
        { headers = { Authorization = "Bearer" } },
        { headers = { Authorization = "Basic " .. made } }, { headers = { Authorization = made } },
        { headers = { Authorization = "Bearer " .. made:sub(1, -2) } },
        { headers = { Authorization = "Bearer " .. made .. "A" } },
      }
      for i, options in ipairs(others) do
        options.headers["X-Forwarded-For"] = "192.0.2." .. i
        local answer = service.ask(host, "POST", "/api/ops/hello", options)
        assert.equal(401, answer.status, i)
        assert.equal("Bearer", answer.headers["www-authenticate"])
      end
      assert.equal(200, call("hello", { token = made }).status)
      -- Known by its id by now, with another secret.
      local last = made:sub(-1) == "A" and "B" or "A"
      assert.equal(401, call("hello", { token = made:sub(1, -2) .. last,
                                        headers = { ["X-Forwarded-For"] = "192.0.2.99" } }).status)
    end)

    it("with a scope for them", function()
      local one = service.token "--scopes ops:hello"
      assert.equal(200, call("hello", { token = one }).status)
      assert.equal(403, call("whoami", { token = one }).status)
      assert.equal(403, call("hell", { token = one }).status)
      assert.equal(403, call("hello", { token = service.token "--scopes monitor,admin" }).status)
    end)

    it("which is not made for a misspelled operation, or for a tenant that none takes", function()
      local function made(args, ...)
        local output, code = command.run("token create " .. args, { dir = moonpool.app_dir })
        for _, part in ipairs { ... } do assert.truthy(output:find(part, 1, true), output) end
        return code
      end
      assert.equal(2, made("--scopes ops:create_dela", "create_dela", "did you mean create_deal?"))
      assert.equal(2, made("--scopes ops:*,ops:nothing_like_it", "nothing_like_it",
                           "--allow-unknown"))
      assert.equal(2, made("--tenant nouuid", "nouuid", "dealership_id"))
      assert.equal(0, made "--scopes ops:nothing_like_it --allow-unknown")
    end)

    it("which says for whom they are called", function()
      local token =
        service.token "--tenant 0190aaaa-0000-7000-8000-000000000001 --user \z
          0190bbbb-0000-7000-8000-000000000002"
      local caller = call("whoami", { token = token }).json.result
      assert.equal("0190aaaa-0000-7000-8000-000000000001", caller.tenant)
      assert.equal("0190bbbb-0000-7000-8000-000000000002", caller.userId)
    end)

    it("and work for its tenant, and no other", function()
      local own, other = dealership.new(), dealership.new()
      local token = service.token("--tenant " .. own.id)
      assert.equal(
        own.id, call("of_tenant", { token = token, json = json.object() }).json.result.tenant)
      assert.equal(
        own.id, call("of_tenant",
                     { token = token, json = { dealershipId = own.id } }).json.result.tenant)
      local answer = call("of_tenant", { token = token, json = { dealershipId = other.id } })
      assert.equal(403, answer.status)
      assert.equal("MULTI_TENANT_VIOLATION", answer.json.error.code)
    end)

    it("that has not been revoked", function()
      local token, id = service.token "--scopes ops:*"
      assert.equal(200, call("hello", { token = token }).status)
      local output, code = command.run("token revoke " .. id, { dir = moonpool.app_dir })
      assert.equal(0, code, output)
      local status
      for _ = 1, 200 do -- known for some seconds more
        status = call("hello", { token = token }).status
        if status == 401 then break end
        moonpool.sleep(0.1)
      end
      assert.equal(401, status)
      assert.equal(1, select(2, command.run("token revoke " .. id, { dir = moonpool.app_dir })))
    end)

    it("that has not expired", function()
      local token = service.token "--scopes ops:* --days 0.0000001"
      moonpool.sleep(0.02)
      assert.equal(
        401, call(
          "hello", { token = token, headers = { ["X-Forwarded-For"] = "192.0.2.77" } }).status)
    end)

    it("and few wrong ones: guessing is limited by address, and does not stop those who have one",
       function()
      local guess = "mp_000000000000_" .. ("A"):rep(43)
      local from = { ["X-Forwarded-For"] = "198.51.100.1" }
      local statuses = {}
      for i = 1, 30 do
        local answer = call("hello",
                            { token = guess:gsub("0000_", ("%04d_"):format(i)), headers = from })
        statuses[answer.status] = (statuses[answer.status] or 0) + 1
        if answer.status == 429 then
          assert.is_true(tonumber(answer.headers["retry-after"]) >= 1)
        end
      end
      assert.same({ [401] = 10, [429] = 20 }, statuses)
      -- a token that is known is no guess
      assert.equal(200, call("hello", { headers = from }).status)
      assert.equal(
        401, call(
          "hello", { token = guess, headers = { ["X-Forwarded-For"] = "198.51.100.2" } }).status)
    end)
  end)

  it("never write a token to the log or an answer", function()
    local secret = all:match "_([^_]+.*)$":sub(-40)
    call("breaks")
    assert.is_nil(host:log():find(secret, 1, true))
  end)
end)

describe("the pages of a host", function()
  local host, monitor, admin
  setup(function()
    host = service.start(files)
    monitor, admin = service.token "--scopes monitor", service.token "--scopes admin"
  end)
  teardown(function() host:stop() end)

  it("say to everybody that it is there", function()
    assert.same({ healthy = true }, service.ask(host, "GET", "/health").json)
    local answer = service.ask(host, "GET", "/api/db/health")
    assert.equal(200, answer.status)
    assert.equal("healthy", answer.json.status)
  end)

  it("need the scope monitor", function()
    for _, path in ipairs { "/metrics", "/api/db/metrics", "/api/db/pool-metrics",
                            "/api/db/transaction-stats",
                            "/api/db/operations", "/api/db/query-history", "/api/db/slow-queries",
                            "/api/db/alerts" } do
      assert.equal(401, service.ask(host, "GET", path).status, path)
      assert.equal(403, service.ask(host, "GET", path, { token = admin }).status, path)
      local answer = service.ask(host, "GET", path, { token = monitor })
      assert.equal(200, answer.status, path .. answer.body)
      assert.equal(405, service.ask(host, "POST", path, { token = monitor }).status, path)
    end
    assert.matches("# TYPE moonpool_",
                   service.ask(host, "GET", "/metrics", { token = monitor }).body)
    assert.equal(400, service.ask(host, "GET", "/api/db/query-history?limit=x",
                                  { token = monitor }).status)
    local answer = service.ask(host, "GET", "/api/db/test?development=1", { token = monitor })
    assert.same({ 403, "FORBIDDEN" }, { answer.status, answer.json.error.code })
    assert.matches("MOONPOOL_ENV=development", answer.json.error.message, 1, true)
    assert.equal(404, service.ask(host, "GET", "/nothing").status)
  end)

  it("reload for the scope admin", function()
    assert.equal(403, service.ask(host, "POST", "/admin/reload", { token = monitor }).status)
    local report = service.ask(host, "POST", "/admin/reload", { token = admin })
    assert.equal(200, report.status)
    assert.is_true(report.json.ok)
    host:write { ["scripts/hello.lua"] = "return = 1" }
    report = service.ask(host, "POST", "/admin/reload", { token = admin })
    assert.equal(409, report.status)
    assert.matches("scripts/hello%.lua:1: ", report.json.report)
  end)
end)

describe("moonpool serve", function()
  it("listens for others only when a token says who they are", function()
    local folder = command.folder(files)
    local output, code = command.run("serve --listen nonsense",
                                     { dir = folder.path, env = { MOONPOOL_STATE = folder.path } })
    assert.equal(2, code)
    assert.matches("cannot listen on \"nonsense\"", output)
    -- A database without our tables has no tokens either.
    output, code = command.run("serve --listen 0.0.0.0:0", { dir = folder.path, env = {
      MOONPOOL_STATE = folder.path, MOONPOOL_WATCH = "0",
      DATABASE_URL = moonpool.host.app_url:gsub("/[^/?]*(%?.*)$", "/postgres%1"),
    } })
    assert.equal(2, code)
    assert.matches("no token yet", output)
    folder.remove()
  end)

  it("drops no request when it is told to end under load", function()
    local token, host = service.token "--scopes ops:*", service.start(files)
    local answered, dropped = service.stop_under_load(host, token, 20)
    assert.equal(0, dropped)
    assert.is_true(answered >= 100)
    assert.equal(0, host:wait())
    host.folder.remove()
  end)

  it("answers what clients have sent before it ends", function()
    local token = service.token "--scopes ops:*"
    local host = service.start(files)
    local client = http.connect(host.port)
    client.send(("POST /api/ops/naps HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n")
      :format(token))
    scratch.await("it is under way", function()
      return test.admin().value [[
        select exists (select from pg_stat_activity
                        where query like '%a nap%' and state = 'active'
                          and pid <> pg_backend_pid())]]
    end)
    assert(os.execute("kill -TERM " .. host:pid()))
    local answer = client.answer()
    assert.equal(200, answer.status)
    assert.equal("close", answer.headers.connection)
    client.close()
    assert.equal(0, host:wait())
  end)
end)
