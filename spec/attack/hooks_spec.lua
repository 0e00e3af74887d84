-- What a call starts, and what that starts, as somebody would write it who means harm: it stays
-- with the tenant, the caller and the limits of the call, and it ends.
local border     = require "moonpool.operation.border"
local cache      = require "moonpool.cache"
local db         = require "moonpool.db"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"
local host       = require "moonpool.host"
local inline     = require "spec.support.data.inline"
local metrics    = require "moonpool.metrics"
local moonpool   = require "moonpool"
local is         = require "moonpool.is"
local definition = require "moonpool.operation.definition"
local outbox     = require "moonpool.outbox"
local registry   = require "moonpool.operation.registry"
local sandbox    = require "moonpool.script.sandbox"
local sandboxed  = require "spec.support.data.sandboxed"
local scratch    = require "spec.support.data.scratch"

registry.load() -- which names the tenant

local ours, theirs

setup(function() ours, theirs = dealership.new(), dealership.new() end)

local input = is.object { dealership_id = is.uuid }

-- An operation of run(tx, input) as those of scripts/ are: with limits.
local function define(run, fields)
  local whole = { input = input, tenant = "dealership_id" }
  for name, value in pairs(fields or {}) do whole[name] = value end
  local op = inline.define(run, whole)
  definition.limit(definition.of(op))
  return op
end

local whoami = inline.define(function(tx)
  return { tenant = tx.tenant, user = tx.caller.user_id,
           setting = tx:value "select current_setting('app.dealership_id', true)" }
end, { input = input, tenant = "dealership_id" })

-- Where an attack can be started from: run(fn) gives what fn returned, or raises its error.
local function in_hook(list)
  return function(fn)
    local done, ok, value
    local op = define(function(tx)
      tx[list](tx, function()
        ok, value = pcall(fn)
        done = true
      end)
      if list == "on_rollback" then moonpool.fail("UNDONE", "undone") end
    end)
    pcall(moonpool.call, op, { dealership_id = ours.id },
          { as = ours.salesperson.id, tenant = ours.id })
    scratch.await("the hook", function() return done end)
    return ok and value or not ok and error(value, 0)
  end
end

local from = {
  ["an after_commit hook"]    = in_hook "after_commit",
  ["an on_rollback hook"]     = in_hook "on_rollback",
  ["a task of a hook"]        = function(fn)
    return in_hook "after_commit" (function() return moonpool.spawn(fn):wait() end)
  end,
  ["moonpool.all of a hook"]  = function(fn)
    return in_hook "after_commit" (function() return moonpool.all { fn }[1] end)
  end,
  ["a coroutine of a hook"]   = function(fn)
    return in_hook "after_commit" (function() return coroutine.wrap(fn)() end)
  end,
  ["moonpool.timeout of a hook"] = function(fn)
    return in_hook "after_commit" (function() return moonpool.timeout(5, fn) end)
  end,
  ["a hook of a transaction of a hook"] = function(fn)
    return in_hook "after_commit" (function()
      local done, ok, value
      db.transaction(function(tx) tx:after_commit(function()
        ok, value = pcall(fn)
        done = true
      end) end)
      while not done do moonpool.sleep(0.001) end
      return ok and value or not ok and error(value, 0)
    end)
  end,
}

for place, run in pairs(from) do
  describe(place, function()
    it("is the caller's, of the call's tenant", function()
      assert.are.same({ tenant = ours.id, user = ours.salesperson.id, setting = ours.id },
                      run(function()
        local seen = moonpool.call(whoami, {})
        return { tenant = seen.tenant, user = seen.user, setting = seen.setting }
      end))
      assert.are.same({ ours.id, ours.salesperson.id }, run(function()
        return db.transaction(function(tx) return { tx.tenant, tx.caller.user_id } end)
      end))
    end)

    it("sees no other tenant's rows", function()
      local function count(tenant)
        return function()
          return db.transaction({ tenant = tenant }, function(tx)
            return tx:value("select count(*) from users where dealership_id = $1", theirs.id)
          end)
        end
      end
      assert.are.equal(0, run(count(nil)))
      assert.are.equal(0, run(count(ours.id)))
      assert.are.equal("MULTI_TENANT_VIOLATION", failure(run, count(theirs.id)).code)
      assert.are.equal("MULTI_TENANT_VIOLATION",
                       failure(run, count { dealership_id = theirs.id }).code)
      assert.are.equal("MULTI_TENANT_VIOLATION",
                       failure(run, count { other_field = theirs.id }).code)
      assert.are.equal(0, run(function()
        return db.value("select count(*) from users where dealership_id = $1", theirs.id)
      end))
      assert.are.equal(0, run(function()
        return db.lease(function(conn)
          return conn.value("select count(*) from users where dealership_id = $1", theirs.id)
        end)
      end))
    end)

    it("makes no call for another tenant, nor as another user", function()
      assert.are.equal("MULTI_TENANT_VIOLATION", failure(run, function()
        return moonpool.call(whoami, { dealership_id = theirs.id })
      end).code)
      assert.are.equal("MULTI_TENANT_VIOLATION", failure(run, function()
        return moonpool.call(whoami, {}, { tenant = theirs.id })
      end).code)
      assert.are.equal(ours.salesperson.id, run(function()
        return moonpool.call(whoami, {}, { as = theirs.salesperson.id }).user
      end))
    end)

    it("sends no statement that an operation may not send", function()
      for _, sql in ipairs {
        "set app.dealership_id = '" .. theirs.id .. "'", "reset all", "begin", "listen x",
        "select set_config('app.dealership_id', '" .. theirs.id .. "', false)",
        "do $$ begin perform set_config('app.dealership_id', '', false); end $$",
        "select * from moonpool.token", "set moonpool.relay = 'on'",
        "copy users to stdout", "create table x(a int)",
      } do
        for how, send in pairs {
          ["db.exec"]  = function() return db.exec(sql) end,
          ["db.query"] = function() return db.query(sql) end,
          ["db.one"]   = function() return db.one(sql) end,
          ["db.lease"] = function() return db.lease(function(conn) return conn.exec(sql) end) end,
          ["db.copy"]  = function()
            return db.lease(function(conn) return conn.copy_start(sql) end)
          end,
          ["db.transaction"] = function()
            return db.transaction(function(tx) return tx:exec(sql) end)
          end,
          ["db.stream"] = function() for _ in db.stream(sql) do error "a row" end end,
        } do
          local e = failure(run, send)
          assert.are.equal("INVALID_ARGUMENT", e.code, how .. ": " .. sql)
        end
      end
    end)

    it("may read rows one by one, and notify, but not on the host's channels", function()
      assert.are.equal(3, run(function()
        local n = 0
        for _ in db.stream "select generate_series(1, 3)" do n = n + 1 end
        return n
      end))
      run(function() db.notify("attack_spec", "x") end)
      assert.are.equal("INVALID_ARGUMENT", failure(run, function()
        db.notify("moonpool_cache", "[]")
      end).code)
    end)
  end)
end

describe("hooks of calls that shared a transaction", function()
  it("are each of their own call's tenant", function()
    local seen = {}
    local op = define(function(tx, asked)
      tx:after_commit(function()
        local setting = moonpool.call(whoami, {}).setting
        seen[#seen + 1] = { asked.dealership_id, setting }
      end)
    end, { lane = "attack_hooks", group = 8 })
    local calls = {}
    for i = 1, 8 do
      calls[i] = function()
        moonpool.call(op, { dealership_id = (i % 2 == 0 and ours or theirs).id })
      end
    end
    moonpool.all(calls)
    scratch.await("the hooks", function() return #seen == 8 end)
    for _, pair in ipairs(seen) do assert.are.equal(pair[1], pair[2]) end
  end)

  it("see their own tenant's part of the cache", function()
    local seen = {}
    for _, d in ipairs { ours, theirs } do
      local op = define(function(tx)
        tx:after_commit(function()
          seen[d.id] = cache.get "attack_hooks_private" or "none"
          cache.set("attack_hooks_private", d.id)
        end)
      end)
      moonpool.call(op, { dealership_id = d.id })
      scratch.await("the hook", function() return seen[d.id] end)
    end
    assert.are.same({ [ours.id] = "none", [theirs.id] = "none" }, seen)
    assert.is_nil(cache.get "attack_hooks_private")
  end)
end)

describe("a hook of an operation of no tenant", function()
  it("may call for any, each with that tenant", function()
    local seen = {}
    local op = inline.define(function(tx)
      tx:after_commit(function()
        for _, d in ipairs { ours, theirs } do
          seen[#seen + 1] = moonpool.call(whoami, {}, { tenant = d.id }).setting
        end
      end)
    end)
    definition.limit(definition.of(op))
    moonpool.call(op, {})
    scratch.await("the calls", function() return #seen == 2 end)
    assert.are.same({ ours.id, theirs.id }, seen)
  end)

  it("is told so where it calls within its transaction", function()
    local op = inline.define(function() moonpool.call(whoami, {}, { tenant = ours.id }) end)
    inline.contains(failure(moonpool.call, op, {}).message, "for_each")
  end)

  it("has the tenant of a caller who has one", function()
    local code
    local op = inline.define(function(tx)
      tx:after_commit(function()
        code = failure(moonpool.call, whoami, {}, { tenant = theirs.id }).code
      end)
    end)
    moonpool.call(op, {}, { tenant = ours.id })
    scratch.await("the refusal", function() return code end)
    assert.are.equal("MULTI_TENANT_VIOLATION", code)
  end)
end)

describe("a task beside a tenant's transaction", function()
  for what, attack in pairs {
    ["db.query"]       = function() return db.query "select 1" end,
    ["db.stream"]      = function() for _ in db.stream "select 1" do error "a row" end end,
    ["db.transaction"] = function()
      return db.transaction({ tenant = theirs.id }, function() end)
    end,
    ["moonpool.call"]  = function() return moonpool.call(whoami, {}, { tenant = theirs.id }) end,
  } do
    it("has no connection of its own: " .. what, function()
      local code
      moonpool.call(define(function()
        code = failure(function() return moonpool.spawn(attack):wait() end).code
      end), { dealership_id = ours.id }, { tenant = ours.id })
      assert.is_true(code == "INVALID_ARGUMENT" or code == "MULTI_TENANT_VIOLATION", code)
    end)
  end
end)

describe("an error that a script has made", function()
  local spied

  -- Something that runs a script's code wherever it is looked at.
  local function spy()
    local function seen() spied = not host.call_scope() return "seen" end
    return setmetatable({}, { __tostring = seen, __concat = seen, __index = seen, __len = seen,
                              __lt = seen, __le = seen,
      __eq = seen, __call = seen, __pairs = seen })
  end

  local function looked_at(e)
    spied = nil
    local text = tostring(e) .. border.detail(e, "{}") .. border.encode(border.public(e))
      .. tostring(e.line)
    assert.is_nil(spied, text)
  end

  for _, field in ipairs { "code", "message", "status", "line", "sqlstate", "constraint",
                           "traceback", "fields", "call_id",
                           "operation", "attempts", "retries", "hint", "told" } do
    it("runs none of its code in the host: " .. field, function()
      local kept
      local function attack(later)
        return define(function(tx)
          local _, e = pcall(moonpool.fail, "XX", "x", { hint = spy() })
          kept = e
          tx:on_rollback(function(reason) reason[field] = spy() end)
          if later then
            moonpool.spawn(function()
              moonpool.sleep(0)
              e[field] = spy()
            end)
          else
            e[field] = spy()
          end
          error(e)
        end)
      end
      for _, later in ipairs { false, true } do
        local e = failure(moonpool.call, attack(later), { dealership_id = ours.id })
        looked_at(e)
        kept[field] = spy()
        moonpool.sleep(0.01)
        looked_at(e)
      end
    end)
  end
end)

describe("what never ends", function()
  local short = { cpu = 0.05, memory = 2, timeout = 0.3 }

  -- Runs the hook, and waits until it has failed.
  local function fails(fn, fields)
    local op = define(function(tx) tx:after_commit(fn) end, fields or short)
    local before = metrics.transactions().hook_errors
    moonpool.call(op, { dealership_id = ours.id })
    scratch.await("the hook to fail", function()
      return metrics.transactions().hook_errors > before
    end)
  end

  -- Waits also until what the hook has started has ended: each has put itself on the list.
  local function ends(fn, fields)
    local living = 0
    local function mourned(body)
      return function(...)
        local _ <close> = setmetatable({}, { __close = function() living = living - 1 end })
        living = living + 1 -- behind what may fail for memory
        return body(mourned, ...)
      end
    end
    fails(mourned(fn), fields)
    scratch.await("what it has started to end", function() return living == 0 end)
  end

  it("in a hook: a loop", function() ends(function() while true do end end) end)
  it("in a hook: a loop that catches its end", function()
    ends(function() while true do pcall(function() while true do end end) end end)
  end)
  -- Ended: nothing holds its memory any more. Its <close> variables do not tell, for they need
  -- memory and time too.
  it("in a hook: memory", function()
    local held = setmetatable({}, { __mode = "k" })
    fails(function()
      local kept = {}
      held[kept] = true
      while true do kept[#kept + 1] = ("x"):rep(1000) .. #kept end
    end)
    scratch.await("its memory to be free", function()
      collectgarbage()
      return next(held) == nil
    end)
  end)
  it("in a hook: a wait", function() ends(function() moonpool.sleep(1e6) end) end)
  it("in a hook: many short waits", function()
    ends(function() while true do moonpool.sleep(0.001) end end)
  end)
  it("in a hook: transactions", function()
    ends(function()
      while true do db.transaction(function(tx) return tx:value "select 1" end) end
    end)
  end)
  it("in a transaction of a hook: a loop", function()
    ends(function() db.transaction(function() while true do end end) end)
  end)
  it("in a call of a hook: a loop", function()
    local loop = define(function() while true do end end, { cpu = 1000 })
    ends(function() moonpool.call(loop, {}) end)
  end)
  it("in a task of a hook: a loop", function()
    ends(function(mourned) moonpool.spawn(mourned(function() while true do end end)):wait() end)
  end)
  -- Until count() has not risen for a second.
  local function rests(count)
    local last, since = count(), host.clock()
    scratch.await("its rest", function()
      if count() ~= last then last, since = count(), host.clock() end
      return host.clock() - since > 1
    end)
  end

  it("in a task that nobody waits for: tasks", function()
    local n = 0
    local function more()
      while true do
        n = n + 1
        moonpool.spawn(more)
        moonpool.sleep(0)
      end
    end
    moonpool.call(define(function(tx)
      tx:after_commit(more)
    end, short), { dealership_id = ours.id })
    rests(function() return n end)
  end)
  it("in calls that start each other by hooks", function()
    local calls, op = 0, nil
    op = define(function(tx)
      calls = calls + 1
      tx:after_commit(function() moonpool.call(op, {}) end)
    end, short)
    moonpool.call(op, { dealership_id = ours.id })
    rests(function() return calls end)
  end)
  it("in a subscriber: a loop", function()
    local op = inline.define(function() while true do end end,
      { on = "attack.hooks", from = "oldest", deliveries = 1, cpu = 0.05 })
    definition.limit(definition.of(op))
    db.transaction(function(tx) tx:publish("attack.hooks", 1) end)
    local counts = outbox.run { until_idle = true, backoff = 0,
                                subscribers = { attack_hooks = op } }
    outbox.forget "attack_hooks"
    assert.is_true(counts.dead >= 1)
  end)
  it("left behind by a call", function()
    local ended
    local op = define(function()
      moonpool.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() ended = true end })
        while true do moonpool.sleep(0.001) end
      end)
    end, short)
    moonpool.call(op, { dealership_id = ours.id })
    scratch.await("its end", function() return ended end)
  end)
end)

describe("a file of scripts/ that is being loaded", function()
  local function refused(text)
    local ok, e = pcall(sandbox.as_body, sandboxed.load(text, "attack.lua"))
    assert.is_false(ok)
    inline.contains(e, "moonpool.spawn", "loaded")
  end

  it("starts no task that would be nobody's", function()
    refused [[require "moonpool".spawn(function() while true do end end)]]
    refused [[coroutine.wrap(function() require "moonpool".spawn(function() end) end)()]]
    refused [[require "moonpool".all { function() require "moonpool".spawn(function() end) end }]]
    refused [[require "moonpool".timeout(1, function() end)]]
  end)

  it("leaves the right to whoever has loaded it", function()
    pcall(sandbox.as_body, sandboxed.load("error 'x'", "attack.lua"))
    assert.are.equal(1, moonpool.spawn(function() return 1 end):wait())
  end)
end)
