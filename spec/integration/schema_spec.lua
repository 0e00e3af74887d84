-- The schema's promises: no row of one dealership refers to another's, nothing is seen without a
-- dealership, and the application role can do no more than operations need. On a database of its
-- own, as owner and as application role. What can be read from the catalogue is in
-- catalog_spec.lua.
local moonpool   = require "moonpool"
local db         = require "moonpool.db"
local test       = require "moonpool.test"
local dealership = require "spec.support.data.dealership"
local failure    = require "spec.support.data.failure"

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
                or column_name ~ '(price|payment|allowance|payoff|_fee|amount|cost|msrp|total_tax'
                                 '|total_fees)$'
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
      { "sales_manager_id", "deals_sales_manager_fkey", function()
        return theirs.salesperson.id
      end },
      { "finance_manager_id", "deals_finance_manager_fkey", function()
        return theirs.salesperson.id
      end },
      { "customer_id", "deals_customer_fkey", function() return theirs:customer().id end },
      { "vehicle_id", "deals_vehicle_fkey", function() return theirs:vehicle().id end },
      { "trade_vehicle_id", "deals_trade_vehicle_fkey", function()
        return theirs:trade_vehicle().id
      end },
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
                                { id = moonpool.uuid(), dealership_id = ours.id,
                                  deal_id = theirs:deal().id })
      assert.are.equal("deal_scenarios_deal_fkey", e.constraint)
    end)

    it("audit entries", function()
      local entry = { id = moonpool.uuid(), dealership_id = ours.id,
                      user_id = theirs.salesperson.id, action = "create",
                      entity_type = "deal", entity_id = moonpool.uuid() }
      assert.are.equal("audit_log_user_fkey",
                       assert_sqlstate("23503", owner.insert, "audit_log", entry).constraint)
      entry.user_id, entry.deal_id = ours.salesperson.id, theirs:deal().id
      assert.are.equal("audit_log_deal_fkey",
                       assert_sqlstate("23503", owner.insert, "audit_log", entry).constraint)
    end)

    -- Every other table of a dealership, with a row of ours that names something of theirs.
    local function others()
      local deal = ours:deal()
      local lender = ours:insert("lenders", { name = "Bank " .. moonpool.uuid() })
      local request = ours:insert("rate_requests",
                                  { deal_id = deal.id, requested_by = ours.salesperson.id,
                                    requested_amount = "25000.00", term = 60 })
      local foreign = {
        user = theirs.salesperson.id, customer = theirs:customer().id,
        vehicle = theirs:vehicle().id, deal = theirs:deal().id,
        lender = theirs:insert("lenders", { name = "Bank" }).id,
      }
      foreign.program = theirs:insert("lender_programs", { lender_id = foreign.lender, name = "A",
                                                           buy_rate = "6.9" }).id
      foreign.scenario = theirs:insert("deal_scenarios", { deal_id = foreign.deal }).id
      foreign.request = theirs:insert("rate_requests",
                                      { deal_id = foreign.deal, requested_by = foreign.user,
                                        requested_amount = "25000.00", term = 60 }).id
      local customer, user = ours:customer().id, ours.salesperson.id
      local note = { customer_id = customer, user_id = user, note = "Called" }
      local driven = { customer_id = customer, year = 2018, make = "Honda", model = "Civic" }
      local event = { customer_id = customer, event_type = "visit", description = "Walked in" }
      local appointment = { user_id = user, title = "Test drive",
                            scheduled_at = "2026-03-14T10:00:00Z" }
      local message = { from_address = "a@example.com", to_addresses = { "b@example.com" } }
      local rate = { deal_id = deal.id, requested_by = user, requested_amount = "1.00", term = 60 }
      local answer = { rate_request_id = request.id, lender_id = lender.id }
      return {
        { "user_permissions", { permission = "deals.read" }, { user_id = foreign.user } },
        { "customer_notes", note, { customer_id = foreign.customer, user_id = foreign.user } },
        { "customer_vehicles", driven,
          { customer_id = foreign.customer, vehicle_id = foreign.vehicle } },
        { "customer_history", event,
          { customer_id = foreign.customer, user_id = foreign.user, deal_id = foreign.deal } },
        { "appointments", appointment,
          { user_id = foreign.user, customer_id = foreign.customer, vehicle_id = foreign.vehicle,
            deal_id = foreign.deal } },
        { "security_audit_log", { event_type = "login", success = true },
          { user_id = foreign.user } },
        { "email_messages", message,
          { user_id = foreign.user, customer_id = foreign.customer, deal_id = foreign.deal } },
        { "lender_programs", { lender_id = lender.id, name = "B", buy_rate = "6.9" },
          { lender_id = foreign.lender } },
        { "rate_requests", rate, { deal_id = foreign.deal, scenario_id = foreign.scenario,
                                   requested_by = foreign.user } },
        { "approved_lenders", answer,
          { rate_request_id = foreign.request, lender_id = foreign.lender,
            lender_program_id = foreign.program } },
      }
    end

    it("everything else", function()
      for _, case in ipairs(others()) do
        local name, values, foreign = table.unpack(case)
        values.dealership_id = ours.id
        if name ~= "user_permissions" then values.id = moonpool.uuid() end
        for column, theirs_id in pairs(foreign) do
          local row = { [column] = theirs_id }
          for other, value in pairs(values) do row[other] = row[other] or value end
          local constraint = name .. "_" .. column:gsub("_id$", "") .. "_fkey"
          assert.are.equal(constraint, assert_sqlstate("23503", owner.insert, name, row).constraint)
        end
        -- With our own, it is a row like any other.
        if name ~= "user_permissions" then owner.insert(name, values) end
      end
    end)

    it("active scenario, nor that of another deal", function()
      local deal, other = ours:deal(), ours:deal()
      local scenario = ours:insert("deal_scenarios", { deal_id = other.id })
      local e = assert_sqlstate("23503", owner.exec, [[
        update deals set active_scenario_id = $1 where dealership_id = $2 and id = $3]],
          scenario.id, ours.id, deal.id)
      assert.are.equal("deals_active_scenario_fkey", e.constraint)
    end)
  end)

  describe("shows the application role", function()
    local function tenant_tables()
      return owner.query [[
        select c.oid::regclass::text as name from pg_class c join pg_attribute a
          on a.attrelid = c.oid
         where c.relkind = 'r' and a.attname = 'dealership_id'
           and c.relnamespace in ('public'::regnamespace, 'system'::regnamespace)]]
    end

    it("nothing without a dealership", function()
      assert.are.equal(0, app.value "select count(*) from dealership_settings")
      local tables = tenant_tables()
      assert.is_true(#tables >= 23)
      for _, row in ipairs(tables) do
        assert.are.equal(0, app.value("select count(*) from " .. row.name), row.name)
      end
    end)

    it("reference data, but lets nobody write it", function()
      assert.is_true(
        app.value "select count(*) > 0 from role_permissions where role = 'salesperson'")
      assert_sqlstate("42501", app.exec,
                      "insert into permissions (name, description) values ('all.things', \z
                        'Everything')")
      assert_sqlstate("42501", app.exec, "update tax_jurisdictions set state_tax_rate = 0")
      assert_sqlstate("42501", app.exec, "delete from zip_code_lookup")
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
        assert.are.equal(0, tx:value("select count(*) from customers where dealership_id <> $1",
                                     ours.id))
        assert.is_nil(tx:first("select id from users where dealership_id = $1", theirs.id))
      end)
    end)

    it("no row of others to change", function()
      local customer = theirs:customer { first_name = "Theirs" }
      ours:transaction(function(tx)
        assert.are.equal(0, tx:count("update customers set first_name = 'Ours' where id = $1",
                                     customer.id))
      end)
      assert.are.equal("Theirs", theirs:rows("customers", { id = customer.id })[1].first_name)
    end)
  end)

  describe("refuses the application role", function()
    it("a row without a dealership set", function()
      assert_sqlstate("42501", app.insert, "customers",
                      { id = moonpool.uuid(), dealership_id = ours.id, first_name = "A",
                        last_name = "B" })
      assert_sqlstate("42501", app.insert, "dealership_settings",
                      { id = moonpool.uuid(), dealership_name = "New" })
    end)

    it("a row for another dealership", function()
      assert_sqlstate("42501", ours.insert, ours, "customers",
                      { dealership_id = theirs.id, first_name = "A", last_name = "B" })
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
      ["to give an audit entry a time"] = [[
        insert into audit_log (dealership_id, id, user_id, action, entity_type, entity_id,
          timestamp)
        values (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'create', 'deal',
          gen_random_uuid(), '2020-01-01')]],
      ["to change the security log"] = "update security_audit_log set success = true",
      ["to delete from the security log"] = "delete from security_audit_log",
      ["to change a seal"] = "update audit_seals set hash = hash",
      ["to delete a seal"] = "delete from audit_seals",
      ["to move the head of the seals"] = "update system.audit_heads set seq = 0",
      ["to set a head of its own"] = [[
        insert into system.audit_heads (dealership_id, seq, hash)
          values (gen_random_uuid(), 0, '')]],
      ["to change a customer's history"] = "update customer_history set description = 'none'",
      ["to keep a large object"] = "select lo_from_bytea(0, 'kept')",
      ["to run a block of code"] = "do $$ begin end $$",
      ["to create a function"] =
        "create function mine() returns integer language sql as 'select 1'",
      ["to create a function in the schema system"] =
        "create function system.mine() returns integer language sql as 'select 1'",
      ["to become another role"] = "set role moonpool_owner",
      ["to switch foreign keys off"] = "set session_replication_role = replica",
      ["to set the dealership by a function"] = "select set_config('app.dealership_id', '', true)",
    } do
      it(what, function()
        assert_sqlstate("42501", app.exec, sql)
      end)
    end
  end)

  describe("tells the application role whose login a name is", function()
    local function find(login)
      return app.query("select dealership_id, user_id from system.find_login($1)", login)
    end

    it("by username or e-mail address, whatever the case, without a dealership", function()
      local user = theirs:user()
      local expected = { dealership_id = theirs.id, user_id = user.id }
      for _, login in ipairs { user.username, user.username:upper(), user.email,
                               user.email:upper() } do
        local rows = find(login)
        assert.are.equal(1, #rows, login)
        assert.are.same(expected,
                        { dealership_id = rows[1].dealership_id, user_id = rows[1].user_id })
      end
    end)

    it("and nothing where there is none", function()
      for _, login in ipairs { "", "nobody", "nobody@example.com", "%", "' or true --",
                               ("x"):rep(100000) } do
        assert.are.equal(0, #find(login))
      end
    end)

    it("but of a name that is taken no more than that", function()
      local user, mine = theirs:user(), ours.salesperson
      local function take(sql)
        return ours:transaction(function(tx)
          return tx:count([[insert into user_logins as l (kind, value, dealership_id, user_id)
                            values ('email', $value, $d, $user) ]] .. sql,
                              { value = user.email, d = ours.id, user = mine.id })
        end)
      end
      local e = assert_sqlstate("23505", take, "")
      assert.are.equal("user_logins_key", e.constraint)
      assert.is_nil(e.detail)                      -- it would give the key's values back
      assert.are.equal(0, take "on conflict do nothing")
      assert_sqlstate("42501", take,
                      "on conflict (kind, value) do update set user_id = excluded.user_id")
      assert.are.equal(2, theirs:count("user_logins", { user_id = user.id }))
    end)
  end)

  describe("refuses", function()
    local invalid = {
      { "a phone number of another shape", "customers_phone_check", "customer",
        { phone = "207-555-0100" } },
      { "an e-mail address without @", "customers_email_check", "customer",
        { email = "nobody.example.com" } },
      { "a blank name", "customers_first_name_check", "customer", { first_name = " " } },
      { "an unknown vehicle status", "vehicles_status_check", "vehicle", { status = "lost" } },
      { "a negative price", "vehicles_amounts_check", "vehicle", { price = "-1.00" } },
      { "an unknown role", "users_role_check", "user", { role = "owner" } },
      { "a username that could be an e-mail address", "users_username_shape_check", "user",
        { username = "ceo@example.com" } },
      { "a password as it was typed", "users_password_hash_check", "user",
        { password_hash = "Secret123" } },
      { "a second factor without a secret", "users_mfa_check", "user", { mfa_enabled = true } },
      { "a VIN of another shape", "vehicles_vin_check", "vehicle", { vin = "IOQ" } },
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

    it("a VIN and a stock number twice in a dealership, but not in two", function()
      for column, value in pairs { vin = "1HGCM82633A004352", stock_number = "STK-1" } do
        ours:vehicle { [column] = value }
        theirs:vehicle { [column] = value }
        local e = assert_sqlstate("23505", ours.vehicle, ours, { [column] = value })
        assert.are.equal("vehicles_" .. column .. "_key", e.constraint)
      end
    end)

    it("states and amounts that make no sense in the other tables", function()
      local user, deal = ours.salesperson.id, ours:deal().id
      local lender = ours:insert("lenders", { name = "Lender " .. moonpool.uuid() }).id
      local request = { deal_id = deal, requested_by = user, requested_amount = "1.00", term = 60 }
      local answer = { rate_request_id = ours:insert("rate_requests", request).id,
                       lender_id = lender }
      local message = { from_address = "a@example.com", to_addresses = {} }
      local appointment = { user_id = user, title = "T", scheduled_at = "2026-03-14T10:00:00Z" }
      for constraint, case in pairs {
        appointments_status_check = { "appointments", appointment, { status = "maybe" } },
        email_messages_status_check = { "email_messages", message, { status = "lost" } },
        email_messages_folder_check = { "email_messages", message, { folder = "attic" } },
        email_messages_from_check = { "email_messages", message, { from_address = "nobody" } },
        rate_requests_amounts_check = { "rate_requests", request, { requested_amount = "-0.01" } },
        rate_requests_credit_score_check = { "rate_requests", request, { credit_score = 900 } },
        approved_lenders_status_check =
          { "approved_lenders", answer, { approval_status = "perhaps" } },
        approved_lenders_selected_check =
          { "approved_lenders", answer, { approval_status = "declined", selected = true } },
        approved_lenders_amounts_check =
          { "approved_lenders", answer, { monthly_payment = "-1.00" } },
        lender_programs_term_check =
          { "lender_programs", { lender_id = lender, name = "P", buy_rate = "6.9" },
            { min_term = 60, max_term = 12 } },
        lenders_email_check = { "lenders", { name = "L" }, { email = "nobody" } },
      } do
        local name, values, wrong = table.unpack(case)
        local row = { dealership_id = ours.id, id = moonpool.uuid() }
        for _, part in ipairs { values, wrong } do
          for column, value in pairs(part) do row[column] = value end
        end
        assert.are.equal(constraint, assert_sqlstate("23514", owner.insert, name, row).constraint)
      end
    end)

    it("two chosen lenders for a request", function()
      local deal = ours:deal()
      local request = ours:insert("rate_requests",
                                  { deal_id = deal.id, requested_by = ours.salesperson.id,
                                    requested_amount = "1.00", term = 60 })
      local answer = { rate_request_id = request.id, approval_status = "approved", selected = true,
                       lender_id = ours:insert("lenders",
                                               { name = "Lender " .. moonpool.uuid() }).id }
      ours:insert("approved_lenders", answer)
      local e = assert_sqlstate("23505", ours.insert, ours, "approved_lenders", answer)
      assert.are.equal("approved_lenders_selected_key", e.constraint)
    end)

    it("a deal number twice in a dealership, but not in two", function()
      ours:deal { deal_number = "2026-0102-0001" }
      theirs:deal { deal_number = "2026-0102-0001" }
      local e = assert_sqlstate("23505", ours.deal, ours, { deal_number = "2026-0102-0001" })
      assert.are.equal("deals_number_key", e.constraint)
    end)
  end)
end)
