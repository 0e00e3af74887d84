-- The schema's promises: no row of one dealership refers to another's, nothing is seen without a dealership, and the
-- application role can do no more than operations need. On a database of its own, as owner and as application role.
-- What can be read from the catalogue is in catalog_spec.lua.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local test       = require "moonpool.test"
local dealership = require "spec.support.dealership"
local failure    = require "spec.support.failure"

describe("the schema", function()
  local owner, app, ours, theirs

  setup(function()
    local database = test.database()
    owner = db.open { url = database.owner_url, max = 2 }
    app = db.open { url = database.app_url, max = 2 }
    ours, theirs = dealership.new { db = app }, dealership.new { db = app }
  end)

  teardown(function()
    owner.close()
    app.close()
  end)

  local function assert_sqlstate(sqlstate, fn, ...)
    local e = failure(fn, ...)
    assert.are.equal(sqlstate, e.sqlstate, tostring(e))
    return e
  end

  -- Names that a catalogue query gives, which ought to be none.
  local function assert_none(sql)
    local names = {}
    for _, row in ipairs(owner.query(sql)) do names[#names + 1] = row.name end
    assert.are.same({}, names)
  end

  describe("everywhere", function()
    it("keeps money in numeric(12,2) and times with their zone", function()
      assert_none [[
        select table_name || '.' || column_name as name from information_schema.columns
         where table_schema = 'public'
           and (data_type in ('real', 'double precision', 'money', 'timestamp without time zone')
                or column_name ~ '(price|payment|allowance|payoff|_fee|amount|cost|msrp|total_tax|total_fees)$'
                   and (numeric_precision, numeric_scale) is distinct from (12, 2))]]
    end)

    it("has no triggers of its own", function()
      assert_none "select tgname as name from pg_trigger where not tgisinternal"
    end)
  end)

  describe("keeps dealerships apart by keys, so that a deal cannot have another's", function()
    local function deal_of_ours(values)
      values.id, values.dealership_id = moonpool.uuid(), ours.id
      values.salesperson_id = values.salesperson_id or ours.salesperson.id
      return owner.insert("deals", values)
    end

    local references = {
      { "salesperson_id", "deals_salesperson_fkey", function() return theirs.salesperson.id end },
      { "sales_manager_id", "deals_sales_manager_fkey", function() return theirs.salesperson.id end },
      { "finance_manager_id", "deals_finance_manager_fkey", function() return theirs.salesperson.id end },
      { "customer_id", "deals_customer_fkey", function() return theirs:customer().id end },
      { "vehicle_id", "deals_vehicle_fkey", function() return theirs:vehicle().id end },
      { "trade_vehicle_id", "deals_trade_vehicle_fkey", function() return theirs:trade_vehicle().id end },
    }
    for _, reference in ipairs(references) do
      local column, constraint, make = table.unpack(reference)
      it(column, function()
        local e = assert_sqlstate("23503", deal_of_ours, { [column] = make() })
        assert.are.equal(constraint, e.constraint)
      end)
    end

    it("scenario", function()
      local e = assert_sqlstate("23503", owner.insert, "deal_scenarios",
                                { id = moonpool.uuid(), dealership_id = ours.id, deal_id = theirs:deal().id })
      assert.are.equal("deal_scenarios_deal_fkey", e.constraint)
    end)

    it("audit entries", function()
      local entry = { id = moonpool.uuid(), dealership_id = ours.id, user_id = theirs.salesperson.id, action = "create",
                      entity_type = "deal", entity_id = moonpool.uuid() }
      assert.are.equal("audit_log_user_fkey", assert_sqlstate("23503", owner.insert, "audit_log", entry).constraint)
      entry.user_id, entry.deal_id = ours.salesperson.id, theirs:deal().id
      assert.are.equal("audit_log_deal_fkey", assert_sqlstate("23503", owner.insert, "audit_log", entry).constraint)
    end)

    it("active scenario, nor that of another deal", function()
      local deal, other = ours:deal(), ours:deal()
      local scenario = ours:insert("deal_scenarios", { deal_id = other.id })
      local e = assert_sqlstate("23503", owner.exec, [[
        update deals set active_scenario_id = $1 where dealership_id = $2 and id = $3]], scenario.id, ours.id, deal.id)
      assert.are.equal("deals_active_scenario_fkey", e.constraint)
    end)
  end)

  describe("shows the application role", function()
    local tenant_tables = { "users", "user_logins", "customers", "vehicles", "trade_vehicles", "deals", "deal_scenarios",
                            "deal_number_sequences", "audit_log" }

    it("nothing without a dealership", function()
      assert.are.equal(0, app.value "select count(*) from dealership_settings")
      for _, name in ipairs(tenant_tables) do
        assert.are.equal(0, app.value("select count(*) from " .. name), name)
      end
    end)

    it("nothing without a dealership on a connection that had one", function()
      local single = db.open { url = test.database().app_url, max = 1 }
      local there = dealership.new { db = single }
      assert.are.equal(1, there:count "users")
      assert.are.equal(0, single.value "select count(*) from users")
      single.close()
    end)

    it("its dealership's rows and no others", function()
      ours:customer()
      theirs:customer()
      ours:transaction(function(tx)
        assert.are.equal(1, tx:value "select count(*) from dealership_settings")
        assert.is_true(tx:value "select count(*) > 0 from customers")
        assert.are.equal(0, tx:value("select count(*) from customers where dealership_id <> $1", ours.id))
        assert.is_nil(tx:first("select id from users where dealership_id = $1", theirs.id))
      end)
    end)

    it("no row of others to change", function()
      local customer = theirs:customer { first_name = "Theirs" }
      ours:transaction(function(tx)
        assert.are.equal(0, tx:count("update customers set first_name = 'Ours' where id = $1", customer.id))
      end)
      assert.are.equal("Theirs", theirs:rows("customers", { id = customer.id })[1].first_name)
    end)
  end)

  describe("refuses the application role", function()
    it("a row without a dealership set", function()
      assert_sqlstate("42501", app.insert, "customers",
                      { id = moonpool.uuid(), dealership_id = ours.id, first_name = "A", last_name = "B" })
      assert_sqlstate("42501", app.insert, "dealership_settings", { id = moonpool.uuid(), dealership_name = "New" })
    end)

    it("a row for another dealership", function()
      assert_sqlstate("42501", ours.insert, ours, "customers", { dealership_id = theirs.id, first_name = "A", last_name = "B" })
    end)

    it("moving a row to another dealership", function()
      local customer = ours:customer()
      assert_sqlstate("42501", ours.transaction, ours, function(tx)
        tx:exec("update customers set dealership_id = $1 where id = $2", theirs.id, customer.id)
      end)
    end)

    for what, sql in pairs {
      ["to truncate"] = "truncate customers cascade",
      ["to delete"] = "delete from deals",
      ["to delete from the audit log"] = "delete from audit_log",
      ["to change the audit log"] = "update audit_log set action = 'none'",
      ["to create a table"] = "create table mine (id integer)",
      ["to create a temporary table"] = "create temporary table mine (id integer)",
      ["to drop a table"] = "drop table audit_log",
      ["to switch row level security off"] = "alter table customers disable row level security",
      ["to set the dealership by a function"] = "select set_config('app.dealership_id', '', true)",
    } do
      it(what, function()
        assert_sqlstate("42501", app.exec, sql)
      end)
    end
  end)

  describe("refuses", function()
    local invalid = {
      { "a phone number of another shape", "customers_phone_check", "customer", { phone = "207-555-0100" } },
      { "an e-mail address without @", "customers_email_check", "customer", { email = "nobody.example.com" } },
      { "a blank name", "customers_first_name_check", "customer", { first_name = " " } },
      { "an unknown vehicle status", "vehicles_status_check", "vehicle", { status = "lost" } },
      { "a negative price", "vehicles_amounts_check", "vehicle", { price = "-1.00" } },
      { "an unknown role", "users_role_check", "user", { role = "owner" } },
      { "an unknown deal state", "deals_state_check", "deal", { deal_state = "LOST" } },
      { "a deal number of another shape", "deals_number_check", "deal", { deal_number = "17" } },
    }
    for _, case in ipairs(invalid) do
      local what, constraint, factory, values = table.unpack(case)
      it(what, function()
        local e = assert_sqlstate("23514", ours[factory], ours, values)
        assert.are.equal(constraint, e.constraint)
      end)
    end

    it("a negative amount in a scenario", function()
      local e = assert_sqlstate("23514", ours.insert, ours, "deal_scenarios",
                                { deal_id = ours:deal().id, monthly_payment = "-0.01" })
      assert.are.equal("deal_scenarios_amounts_check", e.constraint)
    end)

    it("a time zone the server does not know", function()
      assert_sqlstate("22023", dealership.new, { db = app, timezone = "Atlantis/Capital" })
    end)

    it("a username that another dealership has, whatever its case", function()
      local name = "Shared" .. moonpool.uuid()
      ours:user { username = name }
      local e = assert_sqlstate("23505", theirs.user, theirs, { username = name:upper() })
      assert.are.equal("user_logins_key", e.constraint)
    end)

    it("a deal number twice in a dealership, but not in two", function()
      ours:deal { deal_number = "2026-0102-0001" }
      theirs:deal { deal_number = "2026-0102-0001" }
      local e = assert_sqlstate("23505", ours.deal, ours, { deal_number = "2026-0102-0001" })
      assert.are.equal("deals_number_key", e.constraint)
    end)
  end)
end)
