-- moonpool.cache: per tenant, bounded, forgotten in time, invalidated on all hosts.
local cache    = require "moonpool.cache"
local db       = require "moonpool.db"
local decimal  = require "moonpool.decimal"
local failure  = require "spec.support.data.failure"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local json     = require "moonpool.json"
local moonpool = require "moonpool"
local scratch  = require "spec.support.data.scratch"

local number = 0

describe("moonpool.cache", function()
  local key

  setup(function()      -- it listens once what another host invalidates is gone here
    cache.set("spec.first", 1)
    scratch.await("the cache to listen", function()
      scratch.script [[require "moonpool.cache".invalidate "spec.first"]]
      return cache.get "spec.first" == nil
    end)
  end)

  before_each(function()
    number = number + 1
    key = "spec." .. number
  end)

  local function in_tenant(tenant, fn)
    return inline.call(function()
      return fn()
    end, { tenant = "dealership_id" }, { dealership_id = tenant })
  end

  it("gives back a copy of what was set", function()
    assert.is_nil(cache.get(key))
    local value = { text = "a", list = { 1, 2 }, price = decimal "28500.00", yes = true,
                    none = json.null }
    assert.is_true(cache.set(key, value))
    local got = cache.get(key)
    assert.are.equal("a", got.text)
    assert.are.equal(2, got.list[2])
    assert.are.equal("28500.00", tostring(got.price))
    assert.are.equal(json.null, got.none)
    got.text = "b"
    assert.are.equal("a", cache.get(key).text)
    cache.set(key, false)
    assert.is_false(cache.get(key))
    assert.is_true(cache.delete(key))
    assert.is_nil(cache.get(key))
  end)

  it("keeps a row", function()
    cache.set(key, db.one "select 1 as id, 'x' as name")
    assert.are.equal("x", cache.get(key).name)
  end)

  it("forgets when the time is over", function()
    cache.set(key, 1, { ttl = 0.001 })
    scratch.await("the end of its time", function() return cache.get(key) == nil end)
  end)

  it("keeps tenants apart", function()
    local ours, theirs = moonpool.uuid(), moonpool.uuid()
    in_tenant(ours, function() cache.set(key, "ours") end)
    assert.are.equal("none", in_tenant(theirs, function() return cache.get(key) or "none" end))
    assert.is_nil(cache.get(key))
    in_tenant(theirs, function() cache.set(key, "theirs") end)
    assert.are.equal("ours", in_tenant(ours, function() return cache.get(key) end))
    local e = failure(in_tenant, ours, function()
      return moonpool.spawn(function() return cache.get(key) end):wait()
    end)
    assert.are.equal("INVALID_ARGUMENT", e.code)
  end)

  it("stays below its limit by forgetting what was used least recently", function()
    local text = ("x"):rep(1 << 20)
    cache.set(key, "used")
    for i = 1, 40 do
      cache.set(key .. "." .. i, text)
      assert.are.equal("used", cache.get(key))
    end
    local stats = cache.stats()
    assert.is_true(stats.bytes <= stats.max_bytes)
    assert.is_true(stats.evictions > 0)
    assert.is_nil(cache.get(key .. ".1"))
    assert.truthy(cache.get(key .. ".40"))
    assert.is_false(cache.set(key .. ".large", ("x"):rep(stats.max_bytes)))
    assert.is_nil(cache.get(key .. ".large"))
    host.cache_clear()
  end)

  it("is invalidated by another host, for the tenant alone, when its transaction commits",
     function()
    local ours, theirs = moonpool.uuid(), moonpool.uuid()
    for _, tenant in ipairs { ours, theirs } do
      in_tenant(tenant, function() cache.set(key, 1) end)
    end
    cache.set(key, 2)
    local output, exit = scratch.script(([[
      local moonpool = require "moonpool"
      local cache = require "moonpool.cache"
      local op = moonpool.operation { tenant = "dealership_id", run = function(_, input)
        cache.invalidate(%q)
        if input.fail then error "no" end
      end }
      pcall(moonpool.call, op, { dealership_id = %q, fail = true })
      moonpool.call(op, { dealership_id = %q })
      cache.invalidate(%q)
    ]]):format(key, theirs, ours, key .. ".last"))
    assert.are.equal(0, exit, output)
    scratch.await("the invalidation", function()
      return in_tenant(ours, function() return cache.get(key) == nil end)
    end)
    assert.are.equal(1, in_tenant(theirs, function() return cache.get(key) end))
    assert.are.equal(2, cache.get(key))
  end)

  it("refuses what cannot be kept", function()
    for _, arguments in ipairs { { "", 1 }, { 1, 1 }, { ("x"):rep(501), 1 }, { key },
                                 { key, 1, { ttl = 0 } } } do
      assert.are.equal("INVALID_ARGUMENT", failure(cache.set, table.unpack(arguments)).code)
    end
    assert.is_false(pcall(cache.set, key, print))
  end)
end)
