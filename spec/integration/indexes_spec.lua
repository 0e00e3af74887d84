-- Each of the 37 indexes is chosen by a query of those it is there for: as the application role,
-- with row level security, on tables with enough rows for the choice to be real.
local db   = require "moonpool.db"
local test = require "moonpool.test"

-- 2,000 dealerships, of which 20 are busy. Ids grow with time, as those of the host do.
local seed = {
  [[create schema seed]],
  [[create function seed.id(kind integer, n bigint) returns uuid language sql immutable
    as $$ select (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || lpad(kind::text, 12, '0'))::uuid
      $$]],
  [[insert into dealership_settings (id, dealership_name)
    select seed.id(0, n), 'Dealership ' || n from generate_series(1, 2000) n]],
  [[insert into deal_number_sequences (dealership_id, current_sequence) select id, 100
    from dealership_settings]],
  [[insert into dealership_stock_settings (dealership_id) select id from dealership_settings]],
  [[insert into users (dealership_id, id, username, email, full_name, is_active, email_verified,
    created_at)
    select seed.id(0, n % 20 + 1), seed.id(1, n), 'user' || n, 'user' || n || '@example.com',
      'User ' || n, n / 20 % 10 < 6,
           n / 20 % 50 <> 0, timestamptz '2026-01-01' + n * interval '1 minute'
      from generate_series(1, 6000) n]],
  [[insert into customers (dealership_id, id, first_name, last_name, email, phone)
    select seed.id(0, n % 20 + 1), seed.id(2, n), 'First' || n % 97, 'Last' || n / 20 % 500,
           case when n / 20 % 3 > 0 then 'c' || n || '@example.com' end,
           case when n / 20 % 4 > 0 then '(207) 555-' || lpad((n / 20 % 10000)::text, 4, '0') end
      from generate_series(1, 20000) n]],
  [[insert into vehicles (dealership_id, id, stock_number, year, make, model, price, status)
    select seed.id(0, n % 20 + 1), seed.id(3, n), 'STK-2026-' || lpad((n / 20)::text, 6, '0'), 2026,
      'Honda', 'Accord',
           28500,
           case when n / 20 % 100 < 15 then 'available' when n / 20 % 100 < 17 then 'pending'
                when n / 20 % 100 = 17 then 'hold' else 'sold' end
      from generate_series(1, 16000) n]],
  [[insert into deals (dealership_id, id, deal_number, deal_state, salesperson_id, customer_id,
    vehicle_id, created_at)
    select seed.id(0, n % 20 + 1), seed.id(4, n), '2026-0101-' || lpad((n / 20)::text, 4, '0'),
           case when n / 20 % 100 < 70 then 'DELIVERED' when n / 20 % 100 < 90 then 'CANCELLED'
                when n / 20 % 100 < 94 then 'APPROVED' when n / 20 % 100 < 98 then 'IN_PROGRESS'
                  else 'DRAFT' end,
           seed.id(1, n % 20 + 20 * (1 + n / 20 % 40)), case
             when n / 20 % 10 > 0 then seed.id(2, n) end,
           seed.id(3, n % 20 + 20 * (1 + n / 20 % 700)),
             timestamptz '2026-01-01' + n * interval '1 minute'
      from generate_series(20, 20000) n]],
  [[insert into deal_scenarios (dealership_id, id, deal_id, vehicle_price)
    select dealership_id, seed.id(5 + s, ('x' || left(id::text, 8))::bit(32)::bigint), id, 28500
      from deals, generate_series(0, 1) s]],
  [[update deals d set active_scenario_id = s.id from deal_scenarios s
     where s.dealership_id = d.dealership_id and s.deal_id = d.id and right(s.id::text, 1) = '5']],
  [[insert into audit_log (dealership_id, id, user_id, action, entity_type, entity_id, deal_id,
    timestamp)
    select d.dealership_id, seed.id(10 + k, ('x' || left(d.id::text, 8))::bit(32)::bigint),
      d.salesperson_id, 'create',
           case k when 0 then 'deal' else 'customer' end, case k when 0 then d.id
             else coalesce(d.customer_id, d.id) end,
           case k when 0 then d.id end, d.created_at
      from deals d, generate_series(0, 1) k order by d.created_at]],
  [[insert into customer_notes (dealership_id, id, customer_id, user_id, note, created_at)
    select dealership_id, seed.id(20, n), customer_id, salesperson_id, 'Called back',
      created_at + k * interval '1 hour'
      from (select *, row_number() over () * 4 + k as n from deals, generate_series(0, 2) k
        where customer_id is not null) d]],
  [[insert into customer_vehicles (dealership_id, id, customer_id, year, make, model)
    select dealership_id, seed.id(21, ('x' || left(id::text, 8))::bit(32)::bigint), id, 2018,
      'Honda', 'Civic' from customers]],
  [[insert into customer_history (dealership_id, id, customer_id, event_type, description,
    timestamp)
    select dealership_id, gen_random_uuid(), id, 'visit', 'Walked in',
      timestamptz '2026-01-01' + k * interval '1 day'
      from customers, generate_series(0, 1) k]],
  [[insert into appointments (dealership_id, id, user_id, customer_id, title, scheduled_at)
    select dealership_id, gen_random_uuid(), salesperson_id, customer_id, 'Test drive',
      created_at + interval '2 days'
      from deals]],
  [[insert into email_messages (dealership_id, id, folder, is_read, from_address, to_addresses,
    created_at)
    select seed.id(0, n % 20 + 1), seed.id(30, n),
      (array['inbox', 'inbox', 'sent', 'archive', 'trash'])[1 + n / 20 % 5],
           n / 20 % 25 <> 0, 'a@example.com', '{b@example.com}',
             timestamptz '2026-01-01' + n * interval '1 minute'
      from generate_series(1, 16000) n]],
  [[insert into tax_jurisdictions (state, county, city, state_tax_rate)
    select chr(65 + n % 25) || chr(65 + n % 2), 'County ' || n / 50 % 20, 'City ' || n / 1000, 0.055
      from generate_series(1, 20000) n]],
  [[insert into zip_code_lookup (zip_code, city, county, state)
    select lpad((n / 2)::text, 5, '0'), 'City ' || n, 'County ' || n % 900, 'M' || chr(65 + n % 25)
      from generate_series(1, 20000) n]],
  [[insert into lenders (dealership_id, id, name)
    select seed.id(0, n % 20 + 1), seed.id(40, n), 'Bank ' || n from generate_series(1, 800) n]],
  [[insert into lender_programs (dealership_id, id, lender_id, name, buy_rate, active)
    select seed.id(0, n % 20 + 1), seed.id(41, n + k * 800), seed.id(40, n), 'Program ' || k, 6.9,
      k % 3 = 0
      from generate_series(1, 800) n, generate_series(1, 12) k]],
  [[insert into rate_requests (dealership_id, id, deal_id, requested_by, requested_amount, term,
    created_at)
    select dealership_id, seed.id(42, ('x' || left(id::text, 8))::bit(32)::bigint), id,
      salesperson_id, 25000, 60, created_at
      from deals where deal_state <> 'CANCELLED']],
  [[insert into approved_lenders (dealership_id, id, rate_request_id, lender_id, approval_status,
    selected)
    select r.dealership_id, gen_random_uuid(), r.id,
           seed.id(40, ('x' || left(r.dealership_id::text, 8))::bit(32)::bigint - 1 + 20 * k),
           case when k < 2 then 'approved' else 'declined' end, k = 1
      from rate_requests r, generate_series(1, 3) k]],
  [[drop schema seed cascade]],
  -- As good as new, so that an index is chosen for what it is and not for the order in which its
  -- rows came.
  [[reindex table users]], [[reindex table customers]], [[reindex table vehicles]],
  [[reindex table deals]],
  -- Index-only scans need to know which pages all can see.
  [[vacuum (analyze)]],
}

local function id(kind, n) return ("%08x-0000-7000-8000-%012d"):format(n, kind) end

-- One deal of dealership 8, the seed's number 4047, and what belongs to it.
local here = {
  d = id(0, 8), user = id(1, 67), customer = id(2, 4047), deal = id(4, 4047),
  scenario = id(5, 4047), lender = id(40, 27),
  rate_request = id(42, 4047), stock_number = "STK-2026-000202", name = "Last202",
  email = "c4047@example.com",
  phone = "(207) 555-0202", zip = "00202", from = "2026-01-05T00:00:00Z",
  to = "2026-01-06T00:00:00Z",
}

-- index -> a query, and who runs it
local queries = {
  -- Lists
  idx_users_dealership_id = { "the list of the active staff",
    "select id, full_name, role from users where dealership_id = $d and is_active" },
  idx_customers_dealership_id =
    { "how many customers there are", "select count(*) from customers where dealership_id = $d" },
  idx_vehicles_dealership_id =
    { "how many vehicles there are", "select count(*) from vehicles where dealership_id = $d" },
  idx_deals_dealership_id =
    { "how many deals there are", "select count(*) from deals where dealership_id = $d" },

  -- Customers
  idx_customers_search = { "a search by name, page by page", [[
    select * from customers where dealership_id = $d and last_name >= $name
      order by last_name, first_name limit 20]] },
  idx_customers_email = { "the customer of an e-mail address", [[
    select * from customers where dealership_id = $d and email = $email]] },
  idx_customers_phone = { "the customer who calls",
                          "select * from customers where dealership_id = $d and phone = $phone" },

  -- Stock
  idx_vehicles_status = { "the stock that can be sold", [[
    select * from vehicles where dealership_id = $d and status = 'available']] },
  idx_vehicles_stock_lookup = { "the vehicle of a stock number", [[
    select id, status from vehicles where dealership_id = $d and stock_number = $stock_number]] },
  idx_vehicles_pending = { "the vehicles that deals hold", [[
    select * from vehicles where dealership_id = $d and status = 'pending' order by stock_number]]
      },

  -- Deals
  idx_deals_state = { "the list of deals in a state", [[
    select * from deals where dealership_id = $d and deal_state = 'APPROVED']] },
  idx_deals_salesperson = { "a salesperson's deals",
                            "select * from deals where dealership_id = $d and salesperson_id = \z
                              $user" },
  idx_deals_customer = { "a customer's deals",
                         "select * from deals where dealership_id = $d \z
                           and customer_id = $customer" },
  idx_deals_created_at = { "the newest deals",
                           "select * from deals where dealership_id = $d order by created_at \z
                             desc limit 50" },
  idx_deals_active = { "the newest deals that are open", [[
    select * from deals where dealership_id = $d and deal_state not in ('CANCELLED', 'DELIVERED')
     order by created_at desc limit 50]] },
  idx_deals_active_scenario = { "the deal that works with a scenario", [[
    select * from deals where dealership_id = $d and active_scenario_id = $scenario]] },
  idx_deal_scenarios_deal_id = { "a deal's scenarios in their order", [[
    select * from deal_scenarios where dealership_id = $d and deal_id = $deal order by created_at]]
      },

  -- Customers' files
  idx_customer_notes_customer_id = { "a customer's notes, newest first", [[
    select * from customer_notes where dealership_id = $d and customer_id = $customer
      order by created_at desc]] },
  idx_customer_vehicles_customer_id = { "what a customer drives", [[
    select * from customer_vehicles where dealership_id = $d and customer_id = $customer]] },
  idx_customer_history_customer_id = { "a customer's history, newest first", [[
    select * from customer_history where dealership_id = $d and customer_id = $customer
      order by timestamp desc]] },

  -- Calendars
  idx_appointments_dealership_date = { "the dealership's day", [[
    select * from appointments where dealership_id = $d and scheduled_at >= $from
      and scheduled_at < $to
     order by scheduled_at]] },
  idx_appointments_user = { "a salesperson's next appointments", [[
    select * from appointments where dealership_id = $d and user_id = $user
      and scheduled_at >= $from order by scheduled_at]] },
  idx_appointments_customer = { "a customer's next appointments", [[
    select * from appointments where dealership_id = $d and customer_id = $customer
      and scheduled_at >= $from
     order by scheduled_at]] },

  -- The audit log
  idx_audit_log_deal_id = { "a deal's history", [[
    select * from audit_log where dealership_id = $d and deal_id = $deal order by timestamp desc]]
      },
  idx_audit_log_user_id = { "what a user did last", [[
    select * from audit_log where dealership_id = $d and user_id = $user order by timestamp desc
      limit 50]] },
  idx_audit_log_entity = { "the history of any thing", [[
    select * from audit_log where dealership_id = $d and entity_type = 'customer'
      and entity_id = $customer
     order by timestamp desc]] },

  -- Taxes and places
  idx_tax_jurisdictions_state =
    { "a state's tax rates", "select * from tax_jurisdictions where state = 'BB'" },
  idx_tax_jurisdictions_lookup = { "the tax rate of a place", [[
    select * from tax_jurisdictions where state = 'BB' and county = 'County 2' and city = 'City 3']]
      },
  idx_zip_code_lookup_zip =
    { "the places of a ZIP code", "select * from zip_code_lookup where zip_code = $zip" },

  -- Mailboxes
  idx_email_messages_dealership_folder = { "a folder, newest first", [[
    select * from email_messages where dealership_id = $d and folder = 'inbox'
      order by created_at desc limit 50]] },
  idx_email_messages_unread = { "what is not read yet", [[
    select * from email_messages where dealership_id = $d and is_read = false
      order by created_at desc limit 50]] },

  -- Counters
  idx_deal_number_seq_dealership = { "the next deal number", [[
    update deal_number_sequences set current_sequence = current_sequence + 1, updated_at = now()
     where dealership_id = $d returning current_sequence]] },
  idx_stock_settings_dealership = { "the next stock number", [[
    update dealership_stock_settings set current_counter = current_counter + 1, updated_at = now()
     where dealership_id = $d returning current_counter, prefix, padding_length]] },

  -- Lenders
  idx_rate_requests_deal = { "a deal's rate requests, newest first", [[
    select * from rate_requests where dealership_id = $d and deal_id = $deal
      order by created_at desc]] },
  idx_approved_lenders_request = { "the answers to a request, the chosen one first", [[
    select * from approved_lenders where dealership_id = $d and rate_request_id = $rate_request
     order by selected desc, approval_status]] },
  idx_lender_programs_lender = { "a lender's programs that can be had", [[
    select * from lender_programs where dealership_id = $d and lender_id = $lender and active]] },

  -- Users
  idx_users_unverified = { "who has not answered the e-mail yet", [[
    select id, email, created_at from users where dealership_id = $d and email_verified = false
      order by created_at]] },
}

describe("the indexes", function()
  local owner, app

  setup(function()
    local database = test.database()
    owner = db.open { url = database.owner_url, max = 1 }
    app = db.open { url = database.app_url, max = 1 }
    -- Foreign keys are not looked at meanwhile, which takes a superuser and half the time.
    local admin = db.open { url = database.admin_url, max = 1 }
    admin.exec "set session_replication_role = replica"
    for _, statement in ipairs(seed) do admin.exec(statement) end
    admin.close()
  end)

  teardown(function()
    owner.close()
    app.close()
  end)

  -- Names of the indexes in a plan, in the plan's order.
  local function walk(node, names)
    if node["Index Name"] then names[#names + 1] = node["Index Name"] end
    for _, child in ipairs(node.Plans or {}) do walk(child, names) end
    return names
  end

  -- The plan, and the number of rows that the query finds.
  local function explained(sql)
    return app.transaction({ tenant = here.d }, function(tx)
      return { rows = #tx:query(sql, here),
               plan = tx:value("explain (format json) " .. sql, here)[1].Plan }
    end)
  end

  it("are 37", function()
    local wanted, found = {}, {}
    for name in pairs(queries) do wanted[#wanted + 1] = name end
    table.sort(wanted)
    assert.are.equal(37, #wanted)
    for _, row in ipairs(owner.query [[
      select c.relname as name from pg_class c join pg_index i on i.indexrelid = c.oid
       where c.relnamespace = 'public'::regnamespace and c.relname ~ '^idx_' and i.indisvalid
         order by c.relname collate "C"]]) do
      found[#found + 1] = row.name
    end
    assert.are.same(wanted, found)
  end)

  it("have the two unique ones among them", function()
    local unique = {}
    for _, row in ipairs(owner.query [[
      select c.relname as name from pg_class c join pg_index i on i.indexrelid = c.oid
       where c.relname ~ '^idx_' and i.indisunique order by 1]]) do
      unique[#unique + 1] = row.name
    end
    assert.are.same({ "idx_deal_number_seq_dealership", "idx_stock_settings_dealership" }, unique)
  end)

  local names = {}
  for name in pairs(queries) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local who, sql = table.unpack(queries[name])
    it("serve " .. who .. ": " .. name, function()
      local result = explained(sql)
      assert.is_true(result.rows > 0, "the query finds nothing, so its plan says nothing")
      assert.are.same({ name }, walk(result.plan, {}))
    end)
  end
end)
