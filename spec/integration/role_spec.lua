-- A host that connects as a role which row level security does not bind says so.
local moonpool = require "moonpool"
local db       = require "moonpool.db"
local role     = require "moonpool.serve.role"
local scratch  = require "spec.support.data.scratch"
local serving  = require "spec.support.process.serving"
local test     = require "moonpool.test"

local function fault_as(url) return test.on({ app_url = url }, role.fault) end

describe("the role of the host", function()
  it("that `moonpool db roles` made is bound by row level security", function()
    assert.is_nil(role.fault())
  end)

  it("is told of when it is a superuser or passes by", function()
    assert.matches("is a superuser: row level security does not bind it",
                   fault_as(moonpool.host.admin_url))
    assert.matches("^the role moonpool_owner has BYPASSRLS", fault_as(moonpool.host.owner_url))
  end)

  it("is told of when it owns tables without FORCE", function()
    local admin = db.open { url = moonpool.host.admin_url, max = 1 }
    local app = moonpool.host.app_url
    admin.exec "create schema role_spec"
    admin.exec "create table role_spec.own (tenant uuid)"
    admin.exec "alter table role_spec.own enable row level security"
    admin.exec "alter table role_spec.own owner to moonpool_app"
    local found = fault_as(app)
    admin.exec "alter table role_spec.own force row level security"
    local forced = fault_as(app)
    admin.exec "drop schema role_spec cascade"
    admin.close()
    assert.matches("^the role moonpool_app owns tables .*: role_spec%.own$", found)
    assert.is_nil(forced)
  end)

  it("is looked at when a host starts to serve", function()
    local host = serving.start(
      { ["scripts/ping.lua"] = 'return require "moonpool".operation { run = function() end }' },
      { env = { DATABASE_URL = moonpool.host.owner_url } })
    scratch.await("the warning", function()
      moonpool.sleep(0.005)
      return host:log():find("has BYPASSRLS", 1, true)
    end)
    assert.truthy(host:log():find("moonpool db roles", 1, true))
    host:stop()
  end)
end)
