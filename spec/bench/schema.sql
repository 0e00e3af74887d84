-- The tables of the deal workload, their seed, and the workload as one PL/pgSQL function.
--
-- This is not the project's own schema (migrations/): it is a plain one, without tenants or composite keys, on which
-- clients of any kind can do the same work. What a run relies on:
--   * ids of the seed are counted, so that a client knows them: dealership d is seed_id(1000000 + d), its i-th user
--     seed_id(2000000 + (d - 1) * 5 + i), its i-th customer seed_id(3000000 + (d - 1) * 200 + i), and its i-th vehicle
--     seed_id(4000000 + (d - 1) * 200 + i), with d in 1..100;
--   * each dealership has twenty deals already. A plan that was cached while a table was empty would read the whole
--     table, and go on doing so while it grows.

create table dealership_settings (
  id               uuid          primary key default gen_random_uuid(),
  dealership_id    text          not null unique default 'default',
  dealership_name  text          not null,
  address          text,
  city             text,
  state            text,
  zip_code         text,
  phone            text,
  email            text,
  website          text,
  logo             text,
  primary_color    text          default '#0066cc',
  default_tax_rate numeric(5,4)  default 0.0825,
  doc_fee          numeric(10,2) default 299.00,
  timezone         text          default 'America/New_York',
  currency         text          default 'USD',
  settings         jsonb         default '{}',
  created_at       timestamp     not null default now(),
  updated_at       timestamp     not null default now()
);

create table users (
  id                    uuid      primary key default gen_random_uuid(),
  dealership_id         uuid      not null references dealership_settings (id) on delete cascade,
  username              text      not null unique,
  full_name             text      not null,
  email                 text      not null unique,
  password              text      not null,
  role                  text      not null default 'salesperson',
  email_verified        boolean   not null default false,
  reset_token           text,
  reset_token_expires   timestamp,
  mfa_enabled           boolean   not null default false,
  mfa_secret            text,
  last_login            timestamp,
  failed_login_attempts integer   not null default 0,
  account_locked_until  timestamp,
  is_active             boolean   not null default true,
  preferences           jsonb     default '{}',
  created_at            timestamp not null default now(),
  updated_at            timestamp not null default now()
);
create index idx_users_dealership_id on users (dealership_id) where is_active;

create table customers (
  id                       uuid      primary key default gen_random_uuid(),
  dealership_id            uuid      not null references dealership_settings (id) on delete cascade,
  customer_number          text      unique,
  first_name               text      not null,
  last_name                text      not null,
  email                    text,
  phone                    text,
  address                  text,
  city                     text,
  state                    text,
  zip_code                 text,
  county                   text,
  date_of_birth            timestamp,
  drivers_license_number   text,
  drivers_license_state    text,
  ssn_last4                text,
  employer                 text,
  occupation               text,
  monthly_income           numeric(12,2),
  credit_score             integer,
  preferred_contact_method text,
  marketing_opt_in         boolean   not null default false,
  notes                    text,
  photo_url                text,
  license_image_url        text,
  status                   text      not null default 'prospect',
  current_vehicle_year     integer,
  current_vehicle_make     text,
  current_vehicle_model    text,
  current_vehicle_trim     text,
  current_vehicle_vin      text,
  current_vehicle_mileage  integer,
  current_vehicle_color    text,
  trade_allowance          numeric(12,2),
  trade_acv                numeric(12,2),
  trade_payoff             numeric(12,2),
  trade_payoff_to          text,
  created_at               timestamp not null default now(),
  updated_at               timestamp not null default now()
);
create index idx_customers_search on customers (dealership_id, last_name, first_name);
create index idx_customers_email on customers (dealership_id, email) where email is not null;
create index idx_customers_phone on customers (dealership_id, phone) where phone is not null;
create index customers_status_idx on customers (status);

create table vehicles (
  id             uuid          primary key default gen_random_uuid(),
  dealership_id  uuid          not null references dealership_settings (id) on delete cascade,
  stock_number   text,
  vin            text          not null unique,
  year           integer       not null,
  make           text          not null,
  model          text          not null,
  trim           text,
  mileage        integer       not null,
  exterior_color text,
  interior_color text,
  engine_type    text,
  transmission   text,
  drivetrain     text,
  fuel_type      text,
  mpg_city       integer,
  mpg_highway    integer,
  price          numeric(12,2) not null,
  msrp           numeric(12,2),
  invoice_price  numeric(12,2),
  internet_price numeric(12,2),
  condition      text          not null default 'new',
  status         text          not null default 'available',
  images         jsonb         not null default '[]',
  features       jsonb         not null default '[]',
  is_new         boolean       not null default false,
  created_at     timestamp     not null default now(),
  updated_at     timestamp     not null default now()
);
create unique index vehicles_dealership_stock_idx on vehicles (dealership_id, stock_number);
create index idx_vehicles_status on vehicles (dealership_id, status) where status in ('available', 'pending');
create index vehicles_make_model_idx on vehicles (make, model);
create index vehicles_price_idx on vehicles (price);

create table deals (
  id                   uuid      primary key default gen_random_uuid(),
  deal_number          text,
  dealership_id        uuid      not null references dealership_settings (id) on delete cascade,
  salesperson_id       uuid      not null references users (id),
  sales_manager_id     uuid      references users (id),
  finance_manager_id   uuid      references users (id),
  customer_id          uuid      references customers (id),
  vehicle_id           uuid      references vehicles (id),
  trade_vehicle_id     uuid,
  deal_state           text      not null default 'DRAFT',
  active_scenario_id   uuid,
  locked_by            uuid      references users (id),
  customer_attached_at timestamp,
  created_at           timestamp not null default now(),
  updated_at           timestamp not null default now(),
  unique (dealership_id, deal_number)
);
create index idx_deals_state on deals (dealership_id, deal_state);
create index idx_deals_salesperson on deals (dealership_id, salesperson_id);
create index idx_deals_customer on deals (dealership_id, customer_id) where customer_id is not null;
create index idx_deals_created_at on deals (dealership_id, created_at desc);
create index idx_deals_active_scenario on deals (active_scenario_id) where active_scenario_id is not null;

create table deal_scenarios (
  id                          uuid          primary key default gen_random_uuid(),
  deal_id                     uuid          not null references deals (id) on delete cascade,
  vehicle_id                  uuid          references vehicles (id),
  trade_vehicle_id            uuid,
  scenario_type               text          not null,
  name                        text          not null,
  is_quick_quote              boolean       not null default false,
  vehicle_price               numeric(12,2) not null,
  down_payment                numeric(12,2) not null default 0,
  apr                         numeric(6,4)  default 0,
  term                        integer       default 0,
  money_factor                numeric(8,6)  default 0,
  residual_value              numeric(12,2) default 0,
  residual_percent            numeric(5,2)  default 0,
  msrp                        numeric(12,2) default 0,
  selling_price               numeric(12,2) default 0,
  acquisition_fee             numeric(12,2) default 0,
  acquisition_fee_capitalized boolean       default true,
  doc_fee_capitalized         boolean       default true,
  government_fees             jsonb         not null default '[]',
  cash_down                   numeric(12,2) default 0,
  manufacturer_rebate         numeric(12,2) default 0,
  other_incentives            numeric(12,2) default 0,
  trade_allowance             numeric(12,2) not null default 0,
  trade_payoff                numeric(12,2) not null default 0,
  dealer_fees                 jsonb         not null default '[]',
  accessories                 jsonb         not null default '[]',
  aftermarket_products        jsonb         not null default '[]',
  tax_jurisdiction_id         uuid,
  origin_tax_state            text,
  origin_tax_amount           numeric(12,2),
  origin_tax_paid_date        timestamp,
  total_tax                   numeric(12,2) not null default 0,
  total_fees                  numeric(12,2) not null default 0,
  amount_financed             numeric(12,2) not null default 0,
  monthly_payment             numeric(12,2) not null default 0,
  total_cost                  numeric(12,2) not null default 0,
  cash_due_at_signing         numeric(12,2) not null default 0,
  gross_cap_cost              numeric(12,2) default 0,
  total_cap_reductions        numeric(12,2) default 0,
  adjusted_cap_cost           numeric(12,2) default 0,
  depreciation                numeric(12,2) default 0,
  monthly_depreciation_charge numeric(12,2) default 0,
  monthly_rent_charge         numeric(12,2) default 0,
  base_monthly_payment        numeric(12,2) default 0,
  monthly_tax                 numeric(12,2) default 0,
  upfront_tax                 numeric(12,2) default 0,
  security_deposit            numeric(12,2) default 0,
  drive_off_breakdown         jsonb         not null default '{}',
  tax_profile                 jsonb,
  total_of_payments           numeric(12,2) default 0,
  total_lease_cost            numeric(12,2) default 0,
  created_at                  timestamp     not null default now(),
  updated_at                  timestamp     not null default now()
);
create index idx_deal_scenarios_deal_id on deal_scenarios (deal_id);

create table audit_log (
  id          uuid      primary key default gen_random_uuid(),
  deal_id     uuid      references deals (id) on delete cascade,
  scenario_id uuid      references deal_scenarios (id) on delete cascade,
  user_id     uuid      not null references users (id),
  action      text      not null,
  entity_type text      not null,
  entity_id   uuid      not null,
  field_name  text,
  old_value   text,
  new_value   text,
  metadata    jsonb,
  timestamp   timestamp not null default now()
);
create index idx_audit_log_deal_id on audit_log (deal_id, timestamp desc) where deal_id is not null;
create index idx_audit_log_user_id on audit_log (user_id, timestamp desc);
create index idx_audit_log_entity on audit_log (entity_type, entity_id, timestamp desc);

create table deal_number_sequences (
  id               uuid      primary key default gen_random_uuid(),
  dealership_id    uuid      not null unique,
  current_sequence integer   not null default 0,
  updated_at       timestamp not null default now()
) with (fillfactor = 50);

create table dealership_stock_settings (
  id              uuid      primary key default gen_random_uuid(),
  dealership_id   uuid      not null unique references dealership_settings (id) on delete cascade,
  prefix          text      not null default 'STK',
  use_year_prefix boolean   not null default true,
  padding_length  integer   not null default 6,
  current_counter integer   not null default 1,
  format_preview  text,
  created_at      timestamp not null default now(),
  updated_at      timestamp not null default now()
);

-- The seed ------------------------------------------------------------------------------------------------------------

create function seed_id(n bigint) returns uuid language sql immutable
  return lpad(n::text, 32, '0')::uuid;

insert into dealership_settings (id, dealership_id, dealership_name, city, state)
select seed_id(1000000 + d), 'dealer-' || d, 'Dealership ' || d, 'Austin', 'TX'
  from generate_series(1, 100) as d;

insert into users (id, dealership_id, username, full_name, email, password)
select seed_id(2000000 + (d - 1) * 5 + i), seed_id(1000000 + d), format('seller-%s-%s', d, i), 'Seller ' || i,
       format('seller%s.%s@example.org', d, i), 'none'
  from generate_series(1, 100) as d, generate_series(1, 5) as i;

insert into customers (id, dealership_id, first_name, last_name, email, phone, city, state)
select seed_id(3000000 + (d - 1) * 200 + i), seed_id(1000000 + d), 'First' || i, 'Last' || d,
       format('customer%s.%s@example.org', d, i), '(512) 555-0100', 'Austin', 'TX'
  from generate_series(1, 100) as d, generate_series(1, 200) as i;

insert into vehicles (id, dealership_id, stock_number, vin, year, make, model, mileage, price, features)
select seed_id(4000000 + (d - 1) * 200 + i), seed_id(1000000 + d), 'STK-' || lpad(i::text, 6, '0'),
       'VIN' || lpad(((d - 1) * 200 + i)::text, 14, '0'), 2015 + i % 10,
       (array['Ford', 'Honda', 'Toyota', 'BMW'])[1 + i % 4], 'Model ' || i % 20, 137 * i, 9000 + 100 * i, '["abs", "nav"]'
  from generate_series(1, 100) as d, generate_series(1, 200) as i;

insert into dealership_stock_settings (dealership_id) select id from dealership_settings;

insert into deal_number_sequences (dealership_id, current_sequence) select id, 20 from dealership_settings;

insert into deals (dealership_id, deal_number, customer_id, salesperson_id, customer_attached_at)
select seed_id(1000000 + d), 'SEED-' || lpad(i::text, 4, '0'), seed_id(3000000 + (d - 1) * 200 + i),
       seed_id(2000000 + (d - 1) * 5 + 1 + i % 5), now()
  from generate_series(1, 100) as d, generate_series(1, 20) as i;

insert into deal_scenarios (deal_id, name, scenario_type, vehicle_price, term, apr)
select id, 'Scenario 1', 'FINANCE_DEAL', 0, 60, 8.9 from deals;

update deals set active_scenario_id = deal_scenarios.id from deal_scenarios where deal_scenarios.deal_id = deals.id;

insert into audit_log (deal_id, user_id, action, entity_type, entity_id, metadata)
select id, salesperson_id, 'create', 'deal', id, '{"hasCustomer": true}' from deals;

-- The workload in one call: no client can need fewer round trips. Its checks are those of the clients. -----------------

create type created_deal as (deal_id uuid, deal_number text, scenario_id uuid, customer_id uuid);

create function create_deal(dealership uuid, seller uuid) returns created_deal language plpgsql as $$
declare
  employer uuid;
  sequence integer;
  made     created_deal;
begin
  perform from dealership_settings where id = dealership;
  if not found then
    raise exception 'Dealership not found: %', dealership using errcode = 'no_data_found';
  end if;

  select u.dealership_id into employer from users u where u.id = seller;
  if employer is distinct from dealership then
    raise exception 'Salesperson not found: %', seller using errcode = 'no_data_found';
  end if;

  insert into customers (dealership_id, first_name, last_name, email, phone, address, city, state, zip_code, county)
  values (dealership, 'Jane', 'Doe', 'jane@example.org', '(512) 555-0199', '1 Main St', 'Austin', 'TX', '78701', 'Travis')
  returning id into made.customer_id;

  insert into deal_number_sequences as s (dealership_id, current_sequence)
  values (dealership, 1)
  on conflict (dealership_id) do update set current_sequence = s.current_sequence + 1, updated_at = now()
  returning current_sequence into sequence;
  made.deal_number := to_char(now(), 'YYYY-MMDD-') || lpad(sequence::text, greatest(4, length(sequence::text)), '0');

  insert into deals (dealership_id, deal_number, customer_id, vehicle_id, trade_vehicle_id, salesperson_id, deal_state,
                     customer_attached_at)
  values (dealership, made.deal_number, made.customer_id, null, null, seller, 'DRAFT', now())
  returning id into made.deal_id;

  insert into deal_scenarios (deal_id, name, scenario_type, vehicle_id, vehicle_price, down_payment, trade_allowance,
                              trade_payoff, term, apr, total_tax, total_fees, monthly_payment, aftermarket_products)
  values (made.deal_id, 'Scenario 1', 'FINANCE_DEAL', null, 0, 0, 0, 0, 60, 8.9, 0, 0, 0, '[]')
  returning id into made.scenario_id;

  update deals set active_scenario_id = made.scenario_id, updated_at = now() where id = made.deal_id;

  insert into audit_log (deal_id, user_id, action, entity_type, entity_id, metadata)
  values (made.deal_id, seller, 'create', 'deal', made.deal_id,
          jsonb_build_object('dealNumber', made.deal_number, 'hasCustomer', true, 'hasVehicle', false));

  return made;
end
$$;
