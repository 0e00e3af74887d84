-- What a deal is made of: the dealership (the tenant), its staff, customers, vehicles, deals and the audit log.
--
-- Rules that every table of a dealership keeps:
--   * the key is (dealership_id, id) and foreign keys carry dealership_id, so a row of one dealership cannot refer to
--     another's: foreign keys, unique constraints and TRUNCATE are outside row level security. A table that must name a
--     user or a deal needs no key to the dealership itself, whose one row every insert would have to lock;
--   * row level security is enabled and forced, with one policy: the dealership of the transaction, none without one;
--   * money is numeric(12,2), times are timestamptz, and constraints have names, for scripts turn names into errors;
--   * there are no triggers: what happens is in the operations.
-- moonpool_owner (BYPASSRLS) owns the tables, moonpool_app works with them and gets no more than it needs.

create table dealership_settings (
  id               uuid          not null,
  dealership_name  text          not null,
  timezone         text          not null default 'America/New_York',
  phone            text,
  email            text,
  address          text,
  city             text,
  state            text,
  zip_code         text,
  county           text,
  default_tax_rate numeric(6,4)  not null default 0.0825,
  doc_fee          numeric(12,2) not null default 299.00,
  created_at       timestamptz   not null default now(),
  updated_at       timestamptz   not null default now(),
  constraint dealership_settings_pkey primary key (id),
  constraint dealership_settings_name_check check (btrim(dealership_name) <> ''),
  -- A zone the server does not know raises 22023 here, so it never reaches the date in a deal number.
  constraint dealership_settings_timezone_check check ((timestamptz '2000-01-01 00:00:00Z' at time zone timezone) is not null),
  constraint dealership_settings_tax_rate_check check (default_tax_rate between 0 and 1),
  constraint dealership_settings_doc_fee_check check (doc_fee >= 0)
);

create table users (
  dealership_id         uuid        not null,
  id                    uuid        not null,
  username              text        not null,
  email                 text        not null,
  full_name             text        not null,
  password_hash         text,                     -- null: nobody can log in as this user
  role                  text        not null default 'salesperson',
  email_verified        boolean     not null default false,
  is_active             boolean     not null default true,
  failed_login_attempts integer     not null default 0,
  locked_until          timestamptz,
  last_login_at         timestamptz,
  mfa_enabled           boolean     not null default false,
  mfa_secret            bytea,
  created_at            timestamptz not null default now(),
  updated_at            timestamptz not null default now(),
  constraint users_pkey primary key (dealership_id, id),
  constraint users_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint users_username_check check (length(username) >= 3),
  constraint users_email_check check (email ~ '^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$'),
  constraint users_full_name_check check (btrim(full_name) <> ''),
  constraint users_role_check check (role in ('salesperson', 'sales_manager', 'finance_manager', 'admin')),
  constraint users_failed_login_attempts_check check (failed_login_attempts >= 0)
);

-- Usernames and e-mail addresses are unique over all dealerships, whatever their case. Whoever adds a user, or changes
-- one of the two, writes it here in the same transaction.
create table user_logins (
  kind          text        not null,
  value         text        not null,
  dealership_id uuid        not null,
  user_id       uuid        not null,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint user_logins_key primary key (kind, value),
  constraint user_logins_user_key unique (dealership_id, user_id, kind),
  constraint user_logins_user_fkey foreign key (dealership_id, user_id) references users (dealership_id, id),
  constraint user_logins_kind_check check (kind in ('username', 'email')),
  constraint user_logins_value_check check (value <> '' and value = lower(value))
);

create table customers (
  dealership_id uuid        not null,
  id            uuid        not null,
  first_name    text        not null,
  last_name     text        not null,
  email         text,
  phone         text,
  address       text,
  city          text,
  state         text,
  zip_code      text,
  county        text,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint customers_pkey primary key (dealership_id, id),
  constraint customers_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint customers_first_name_check check (btrim(first_name) <> ''),
  constraint customers_last_name_check check (btrim(last_name) <> ''),
  constraint customers_email_check check (email ~ '^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$'),
  constraint customers_phone_check check (phone ~ '^\([0-9]{3}\) [0-9]{3}-[0-9]{4}$')
);

create table vehicles (
  dealership_id  uuid          not null,
  id             uuid          not null,
  stock_number   text          not null,
  vin            text,
  year           integer       not null,
  make           text          not null,
  model          text          not null,
  trim           text,
  condition      text          not null default 'new',
  mileage        integer       not null default 0,
  exterior_color text,
  interior_color text,
  price          numeric(12,2) not null,
  msrp           numeric(12,2),
  cost           numeric(12,2),
  status         text          not null default 'available',
  created_at     timestamptz   not null default now(),
  updated_at     timestamptz   not null default now(),
  constraint vehicles_pkey primary key (dealership_id, id),
  constraint vehicles_stock_number_key unique (dealership_id, stock_number),
  constraint vehicles_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint vehicles_stock_number_check check (btrim(stock_number) <> ''),
  constraint vehicles_vin_check check (vin ~ '^[A-HJ-NPR-Z0-9]{17}$'),
  constraint vehicles_year_check check (year between 1900 and 2100),
  constraint vehicles_condition_check check (condition in ('new', 'used', 'certified')),
  constraint vehicles_mileage_check check (mileage >= 0),
  constraint vehicles_amounts_check check (price >= 0 and msrp >= 0 and cost >= 0),
  constraint vehicles_status_check check (status in ('available', 'pending', 'hold', 'sold', 'in_transit'))
);

create table trade_vehicles (
  dealership_id    uuid          not null,
  id               uuid          not null,
  customer_id      uuid,
  vin              text,
  year             integer       not null,
  make             text          not null,
  model            text          not null,
  trim             text,
  mileage          integer       not null default 0,
  condition        text          not null default 'good',
  estimated_value  numeric(12,2) not null default 0,
  payoff_amount    numeric(12,2) not null default 0,
  payoff_lender    text,
  created_at       timestamptz   not null default now(),
  updated_at       timestamptz   not null default now(),
  constraint trade_vehicles_pkey primary key (dealership_id, id),
  constraint trade_vehicles_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint trade_vehicles_customer_fkey foreign key (dealership_id, customer_id) references customers (dealership_id, id),
  constraint trade_vehicles_vin_check check (vin ~ '^[A-HJ-NPR-Z0-9]{17}$'),
  constraint trade_vehicles_year_check check (year between 1900 and 2100),
  constraint trade_vehicles_mileage_check check (mileage >= 0),
  constraint trade_vehicles_condition_check check (condition in ('excellent', 'good', 'fair', 'poor')),
  constraint trade_vehicles_amounts_check check (estimated_value >= 0 and payoff_amount >= 0)
);

create table deals (
  dealership_id        uuid        not null,
  id                   uuid        not null,
  deal_number          text,                      -- given with the first customer
  deal_state           text        not null default 'DRAFT',
  salesperson_id       uuid        not null,
  sales_manager_id     uuid,
  finance_manager_id   uuid,
  customer_id          uuid,
  customer_attached_at timestamptz,
  vehicle_id           uuid,                      -- null: blank desking
  trade_vehicle_id     uuid,
  active_scenario_id   uuid,
  locked_by            uuid,
  locked_at            timestamptz,
  created_at           timestamptz not null default now(),
  updated_at           timestamptz not null default now(),
  constraint deals_pkey primary key (dealership_id, id),
  constraint deals_number_key unique (dealership_id, deal_number),
  constraint deals_salesperson_fkey foreign key (dealership_id, salesperson_id) references users (dealership_id, id),
  constraint deals_sales_manager_fkey foreign key (dealership_id, sales_manager_id) references users (dealership_id, id),
  constraint deals_finance_manager_fkey foreign key (dealership_id, finance_manager_id) references users (dealership_id, id),
  constraint deals_customer_fkey foreign key (dealership_id, customer_id) references customers (dealership_id, id),
  constraint deals_vehicle_fkey foreign key (dealership_id, vehicle_id) references vehicles (dealership_id, id),
  constraint deals_trade_vehicle_fkey foreign key (dealership_id, trade_vehicle_id) references trade_vehicles (dealership_id, id),
  constraint deals_locked_by_fkey foreign key (dealership_id, locked_by) references users (dealership_id, id),
  constraint deals_number_check check (deal_number ~ '^[0-9]{4}-[0-9]{4}-[0-9]{4,}$'),
  constraint deals_state_check check (deal_state in ('DRAFT', 'IN_PROGRESS', 'APPROVED', 'CANCELLED', 'DELIVERED')),
  constraint deals_customer_attached_check check (customer_id is not null or customer_attached_at is null),
  constraint deals_locked_check check ((locked_by is null) = (locked_at is null))
);

create table deal_scenarios (
  dealership_id        uuid          not null,
  id                   uuid          not null,
  deal_id              uuid          not null,
  name                 text          not null default 'Scenario 1',
  scenario_type        text          not null default 'FINANCE_DEAL',
  vehicle_id           uuid,
  trade_vehicle_id     uuid,
  vehicle_price        numeric(12,2) not null default 0,
  down_payment         numeric(12,2) not null default 0,
  apr                  numeric(6,4)  not null default 8.9,     -- per cent
  term                 integer       not null default 60,      -- months
  money_factor         numeric(8,6),
  residual_percent     numeric(6,4),
  residual_value       numeric(12,2),
  trade_allowance      numeric(12,2) not null default 0,
  trade_payoff         numeric(12,2) not null default 0,
  dealer_fees          jsonb         not null default '[]',
  accessories          jsonb         not null default '[]',
  aftermarket_products jsonb         not null default '[]',
  total_tax            numeric(12,2) not null default 0,
  total_fees           numeric(12,2) not null default 0,
  amount_financed      numeric(12,2) not null default 0,
  monthly_payment      numeric(12,2) not null default 0,
  total_cost           numeric(12,2) not null default 0,
  cash_due_at_signing  numeric(12,2) not null default 0,
  created_at           timestamptz   not null default now(),
  updated_at           timestamptz   not null default now(),
  constraint deal_scenarios_pkey primary key (dealership_id, id),
  constraint deal_scenarios_deal_key unique (dealership_id, deal_id, id),
  constraint deal_scenarios_deal_fkey foreign key (dealership_id, deal_id) references deals (dealership_id, id),
  constraint deal_scenarios_vehicle_fkey foreign key (dealership_id, vehicle_id) references vehicles (dealership_id, id),
  constraint deal_scenarios_trade_vehicle_fkey
    foreign key (dealership_id, trade_vehicle_id) references trade_vehicles (dealership_id, id),
  constraint deal_scenarios_name_check check (btrim(name) <> ''),
  constraint deal_scenarios_type_check check (scenario_type in ('FINANCE_DEAL', 'CASH_DEAL', 'LEASE_DEAL')),
  constraint deal_scenarios_apr_check check (apr >= 0),
  constraint deal_scenarios_term_check check (term between 1 and 120),
  constraint deal_scenarios_lease_check check (money_factor >= 0 and residual_percent >= 0 and residual_value >= 0),
  constraint deal_scenarios_lists_check check (
    jsonb_typeof(dealer_fees) = 'array' and jsonb_typeof(accessories) = 'array' and jsonb_typeof(aftermarket_products) = 'array'),
  constraint deal_scenarios_amounts_check check (
    vehicle_price >= 0 and down_payment >= 0 and trade_allowance >= 0 and trade_payoff >= 0 and total_tax >= 0
    and total_fees >= 0 and amount_financed >= 0 and monthly_payment >= 0 and total_cost >= 0 and cash_due_at_signing >= 0)
);

-- The active scenario is one of the deal's own. Deal and scenario name each other, so this is judged at COMMIT.
alter table deals
  add constraint deals_active_scenario_fkey
  foreign key (dealership_id, id, active_scenario_id) references deal_scenarios (dealership_id, deal_id, id)
  deferrable initially deferred;

-- The last number given. Every deal updates its dealership's row: room in the page keeps those updates off the index.
create table deal_number_sequences (
  dealership_id    uuid        not null,
  current_sequence bigint      not null,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now(),
  constraint deal_number_sequences_pkey primary key (dealership_id),
  constraint deal_number_sequences_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint deal_number_sequences_current_check check (current_sequence >= 0)
) with (fillfactor = 50);

-- Who did what. Rows are added and read, never changed: the application role may do nothing else.
create table audit_log (
  dealership_id uuid        not null,
  id            uuid        not null,
  user_id       uuid        not null,
  action        text        not null,
  entity_type   text        not null,
  entity_id     uuid        not null,
  deal_id       uuid,
  scenario_id   uuid,
  field_name    text,
  old_value     text,
  new_value     text,
  metadata      jsonb       not null default '{}',
  timestamp     timestamptz not null default clock_timestamp(),
  constraint audit_log_pkey primary key (dealership_id, id),
  constraint audit_log_user_fkey foreign key (dealership_id, user_id) references users (dealership_id, id),
  constraint audit_log_deal_fkey foreign key (dealership_id, deal_id) references deals (dealership_id, id),
  constraint audit_log_scenario_fkey foreign key (dealership_id, scenario_id) references deal_scenarios (dealership_id, id),
  constraint audit_log_action_check check (action <> ''),
  constraint audit_log_entity_check check (entity_type <> ''),
  constraint audit_log_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- After a transaction the setting is '' and not null, hence nullif: no dealership, no rows.
alter table dealership_settings enable row level security;
alter table dealership_settings force row level security;
create policy tenant on dealership_settings
  using (id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table users enable row level security;
alter table users force row level security;
create policy tenant on users
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table user_logins enable row level security;
alter table user_logins force row level security;
create policy tenant on user_logins
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table customers enable row level security;
alter table customers force row level security;
create policy tenant on customers
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table vehicles enable row level security;
alter table vehicles force row level security;
create policy tenant on vehicles
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table trade_vehicles enable row level security;
alter table trade_vehicles force row level security;
create policy tenant on trade_vehicles
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table deals enable row level security;
alter table deals force row level security;
create policy tenant on deals
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table deal_scenarios enable row level security;
alter table deal_scenarios force row level security;
create policy tenant on deal_scenarios
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table deal_number_sequences enable row level security;
alter table deal_number_sequences force row level security;
create policy tenant on deal_number_sequences
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

alter table audit_log enable row level security;
alter table audit_log force row level security;
create policy tenant on audit_log
  using (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid)
  with check (dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid);

grant select, insert, update
  on dealership_settings, users, user_logins, customers, vehicles, trade_vehicles, deals, deal_scenarios, deal_number_sequences
  to moonpool_app;
grant select, insert on audit_log to moonpool_app;

-- migrate:down
drop table audit_log;
drop table deal_number_sequences;
alter table deals drop constraint deals_active_scenario_fkey;
drop table deal_scenarios;
drop table deals;
drop table trade_vehicles;
drop table vehicles;
drop table customers;
drop table user_logins;
drop table users;
drop table dealership_settings;
