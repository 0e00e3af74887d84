-- The rest of a dealership: permissions, the customers' files, appointments, stock numbers, e-mail, lenders and their
-- answers, the security log, and the seals of the audit log. Reference data that all dealerships share: permissions,
-- tax jurisdictions, ZIP codes.
--
-- The rules of 0001 hold. Further ones:
--   * reference data has no dealership and no policy: the application role reads it, the owner writes it;
--   * a table whose rows never change has created_at and no updated_at; statements, not triggers, keep updated_at;
--   * what must cross dealerships is a SECURITY DEFINER function in the schema system, owned by moonpool_system, with a
--     pinned search_path; nothing else crosses.

-- Additions to 0001 ----------------------------------------------------------------------------------------------------

alter table dealership_settings
  add constraint dealership_settings_email_check check (email ~ '^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$'),
  add constraint dealership_settings_phone_check check (phone ~ '^\([0-9]{3}\) [0-9]{3}-[0-9]{4}$');

alter table users rename column locked_until to account_locked_until;
alter table users
  add column password_changed_at timestamptz,
  -- Without @, no username can be another user's e-mail address, and a login is one or the other.
  add constraint users_username_shape_check check (username !~ '[@[:space:][:cntrl:]]'),
  -- Whatever an operation does, no password can be stored as it was typed.
  add constraint users_password_hash_check check (password_hash ~ '^\$argon2id\$'),
  add constraint users_mfa_check check (mfa_secret is not null or not mfa_enabled);

alter table vehicles
  add constraint vehicles_vin_key unique (dealership_id, vin);

alter table audit_log
  add column created_at timestamptz not null default now();

-- Permissions: reference data, and what each user was granted of it ----------------------------------------------------

create table permissions (
  name        text        not null,
  description text        not null,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  constraint permissions_pkey primary key (name),
  constraint permissions_name_check check (name ~ '^[a-z_]+\.[a-z_]+$'),
  constraint permissions_description_check check (btrim(description) <> '')
);

create table role_permissions (
  role       text        not null,
  permission text        not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint role_permissions_pkey primary key (role, permission),
  constraint role_permissions_permission_fkey foreign key (permission) references permissions (name),
  constraint role_permissions_role_check check (role in ('salesperson', 'sales_manager', 'finance_manager', 'admin'))
);

insert into permissions (name, description) values
  ('deals.read',         'See deals and their scenarios'),
  ('deals.write',        'Create deals, change them and their scenarios'),
  ('deals.approve',      'Approve deals'),
  ('deals.deliver',      'Deliver deals'),
  ('deals.cancel',       'Cancel deals'),
  ('customers.read',     'See customers and their history'),
  ('customers.write',    'Add and change customers'),
  ('vehicles.read',      'See the stock'),
  ('vehicles.write',     'Add and change vehicles'),
  ('appointments.write', 'Make and change appointments'),
  ('email.write',        'Write and send e-mail'),
  ('lending.read',       'See lenders, programs and their answers'),
  ('lending.write',      'Ask lenders for rates and choose among their answers'),
  ('reports.read',       'See reports of the dealership'),
  ('audit.read',         'See the audit log'),
  ('users.manage',       'Add users and change their roles'),
  ('settings.manage',    'Change the settings of the dealership');

insert into role_permissions (role, permission)
  select 'salesperson', unnest(array['deals.read', 'deals.write', 'customers.read', 'customers.write', 'vehicles.read',
                                     'appointments.write', 'email.write'])
  union all
  select 'sales_manager', unnest(array['deals.read', 'deals.write', 'deals.approve', 'deals.deliver', 'deals.cancel',
                                       'customers.read', 'customers.write', 'vehicles.read', 'vehicles.write',
                                       'appointments.write', 'email.write', 'lending.read', 'reports.read'])
  union all
  select 'finance_manager', unnest(array['deals.read', 'deals.write', 'deals.approve', 'deals.deliver', 'deals.cancel',
                                         'customers.read', 'customers.write', 'vehicles.read', 'appointments.write',
                                         'email.write', 'lending.read', 'lending.write', 'reports.read'])
  union all
  select 'admin', name from permissions;

create table user_permissions (
  dealership_id uuid        not null,
  user_id       uuid        not null,
  permission    text        not null,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint user_permissions_pkey primary key (dealership_id, user_id, permission),
  constraint user_permissions_user_fkey foreign key (dealership_id, user_id) references users (dealership_id, id),
  constraint user_permissions_permission_fkey foreign key (permission) references permissions (name)
);

-- Customers' files -----------------------------------------------------------------------------------------------------

create table customer_notes (
  dealership_id uuid        not null,
  id            uuid        not null,
  customer_id   uuid        not null,
  user_id       uuid        not null,             -- who wrote it
  note          text        not null,
  is_important  boolean     not null default false,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint customer_notes_pkey primary key (dealership_id, id),
  constraint customer_notes_customer_fkey foreign key (dealership_id, customer_id) references customers (dealership_id, id),
  constraint customer_notes_user_fkey foreign key (dealership_id, user_id) references users (dealership_id, id),
  constraint customer_notes_note_check check (btrim(note) <> '')
);

-- What customers drive, bought here (vehicle_id) or elsewhere.
create table customer_vehicles (
  dealership_id uuid        not null,
  id            uuid        not null,
  customer_id   uuid        not null,
  vehicle_id    uuid,
  vin           text,
  year          integer     not null,
  make          text        not null,
  model         text        not null,
  trim          text,
  color         text,
  mileage       integer     not null default 0,
  license_plate text,
  is_owned      boolean     not null default true,   -- false: owned once
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint customer_vehicles_pkey primary key (dealership_id, id),
  constraint customer_vehicles_customer_fkey foreign key (dealership_id, customer_id) references customers (dealership_id, id),
  constraint customer_vehicles_vehicle_fkey foreign key (dealership_id, vehicle_id) references vehicles (dealership_id, id),
  constraint customer_vehicles_vin_check check (vin ~ '^[A-HJ-NPR-Z0-9]{17}$'),
  constraint customer_vehicles_year_check check (year between 1900 and 2100),
  constraint customer_vehicles_mileage_check check (mileage >= 0)
);

-- What happened with a customer, in the order of `timestamp`, which may be told later. Rows are added, never changed.
create table customer_history (
  dealership_id uuid        not null,
  id            uuid        not null,
  customer_id   uuid        not null,
  user_id       uuid,
  deal_id       uuid,
  event_type    text        not null,
  description   text        not null,
  metadata      jsonb       not null default '{}',
  timestamp     timestamptz not null default clock_timestamp(),
  created_at    timestamptz not null default now(),
  constraint customer_history_pkey primary key (dealership_id, id),
  constraint customer_history_customer_fkey foreign key (dealership_id, customer_id) references customers (dealership_id, id),
  constraint customer_history_user_fkey foreign key (dealership_id, user_id) references users (dealership_id, id),
  constraint customer_history_deal_fkey foreign key (dealership_id, deal_id) references deals (dealership_id, id),
  constraint customer_history_event_type_check check (event_type in (
    'visit', 'call', 'email', 'text_message', 'appointment', 'test_drive', 'deal', 'purchase', 'trade_in', 'service', 'other')),
  constraint customer_history_description_check check (btrim(description) <> ''),
  constraint customer_history_metadata_check check (jsonb_typeof(metadata) = 'object')
);

create table appointments (
  dealership_id    uuid        not null,
  id               uuid        not null,
  user_id          uuid        not null,          -- whose calendar it is in
  customer_id      uuid,
  vehicle_id       uuid,
  deal_id          uuid,
  appointment_type text        not null default 'visit',
  status           text        not null default 'scheduled',
  title            text        not null,
  notes            text,
  scheduled_at     timestamptz not null,
  duration_minutes integer     not null default 60,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now(),
  constraint appointments_pkey primary key (dealership_id, id),
  constraint appointments_user_fkey foreign key (dealership_id, user_id) references users (dealership_id, id),
  constraint appointments_customer_fkey foreign key (dealership_id, customer_id) references customers (dealership_id, id),
  constraint appointments_vehicle_fkey foreign key (dealership_id, vehicle_id) references vehicles (dealership_id, id),
  constraint appointments_deal_fkey foreign key (dealership_id, deal_id) references deals (dealership_id, id),
  constraint appointments_type_check check (appointment_type in (
    'visit', 'test_drive', 'appraisal', 'financing', 'delivery', 'service', 'follow_up', 'other')),
  constraint appointments_status_check check (status in ('scheduled', 'confirmed', 'completed', 'cancelled', 'no_show')),
  constraint appointments_title_check check (btrim(title) <> ''),
  constraint appointments_duration_check check (duration_minutes between 1 and 1440)
);

-- Logins, lock-outs, changes of passwords and rights. Rows are added and read, never changed; their time is the server's.
create table security_audit_log (
  dealership_id uuid        not null,
  id            uuid        not null,
  user_id       uuid,                             -- null: no user of the dealership
  event_type    text        not null,
  success       boolean     not null,
  ip_address    inet,
  user_agent    text,
  metadata      jsonb       not null default '{}',
  timestamp     timestamptz not null default clock_timestamp(),
  created_at    timestamptz not null default now(),
  constraint security_audit_log_pkey primary key (dealership_id, id),
  constraint security_audit_log_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint security_audit_log_user_fkey foreign key (dealership_id, user_id) references users (dealership_id, id),
  constraint security_audit_log_event_type_check check (event_type ~ '^[a-z][a-z_]*$'),
  constraint security_audit_log_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- Stock numbers, PREFIX-2026-000001: how a dealership's look, and the last one given. Like deal_number_sequences, the row
-- is updated by every vehicle. The two primary keys bear the names under which the report's indexes are looked for.
create table dealership_stock_settings (
  dealership_id   uuid        not null,
  prefix          text        not null default 'STK',
  use_year_prefix boolean     not null default true,
  padding_length  integer     not null default 6,
  current_counter bigint      not null default 0,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  constraint idx_stock_settings_dealership primary key (dealership_id),
  constraint dealership_stock_settings_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint dealership_stock_settings_prefix_check check (prefix ~ '^[A-Z0-9]{1,10}$'),
  constraint dealership_stock_settings_padding_check check (padding_length between 1 and 12),
  constraint dealership_stock_settings_counter_check check (current_counter >= 0)
) with (fillfactor = 50);

alter table deal_number_sequences rename constraint deal_number_sequences_pkey to idx_deal_number_seq_dealership;

-- Taxes and places: reference data -------------------------------------------------------------------------------------

-- Rates are fractions and add up. A jurisdiction without county or city is that of the rest of its state or county.
create table tax_jurisdictions (
  id                uuid         not null default gen_random_uuid(),
  state             text         not null,
  county            text,
  city              text,
  state_tax_rate    numeric(6,4) not null default 0,
  county_tax_rate   numeric(6,4) not null default 0,
  city_tax_rate     numeric(6,4) not null default 0,
  special_tax_rate  numeric(6,4) not null default 0,
  tax_on_trade_in   boolean      not null default false,  -- true: no credit for the trade-in
  effective_from    date         not null default '2000-01-01',
  effective_to      date,
  created_at        timestamptz  not null default now(),
  updated_at        timestamptz  not null default now(),
  constraint tax_jurisdictions_pkey primary key (id),
  constraint tax_jurisdictions_place_key unique nulls not distinct (city, county, state, effective_from),
  constraint tax_jurisdictions_state_check check (state ~ '^[A-Z]{2}$'),
  constraint tax_jurisdictions_rates_check check (
    state_tax_rate between 0 and 1 and county_tax_rate between 0 and 1 and city_tax_rate between 0 and 1
    and special_tax_rate between 0 and 1),
  constraint tax_jurisdictions_effective_check check (effective_to > effective_from)
);

-- A ZIP code may cover several places.
create table zip_code_lookup (
  id                  uuid        not null default gen_random_uuid(),
  zip_code            text        not null,
  city                text        not null,
  county              text        not null,
  state               text        not null,
  tax_jurisdiction_id uuid,
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now(),
  constraint zip_code_lookup_pkey primary key (id),
  constraint zip_code_lookup_place_key unique (state, county, city, zip_code),
  constraint zip_code_lookup_tax_jurisdiction_fkey foreign key (tax_jurisdiction_id) references tax_jurisdictions (id),
  constraint zip_code_lookup_zip_code_check check (zip_code ~ '^[0-9]{5}$'),
  constraint zip_code_lookup_state_check check (state ~ '^[A-Z]{2}$')
);

-- E-mail ---------------------------------------------------------------------------------------------------------------

create table email_messages (
  dealership_id       uuid        not null,
  id                  uuid        not null,
  user_id             uuid,                       -- whose mailbox; null: the dealership's
  customer_id         uuid,
  deal_id             uuid,
  folder              text        not null default 'inbox',
  status              text        not null default 'draft',
  is_read             boolean     not null default false,
  from_address        text        not null,
  to_addresses        text[]      not null,
  cc_addresses        text[]      not null default '{}',
  subject             text        not null default '',
  body_text           text        not null default '',
  body_html           text,
  provider_message_id text,
  error_message       text,
  sent_at             timestamptz,
  created_at          timestamptz not null default now(),
  updated_at          timestamptz not null default now(),
  constraint email_messages_pkey primary key (dealership_id, id),
  constraint email_messages_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint email_messages_user_fkey foreign key (dealership_id, user_id) references users (dealership_id, id),
  constraint email_messages_customer_fkey foreign key (dealership_id, customer_id) references customers (dealership_id, id),
  constraint email_messages_deal_fkey foreign key (dealership_id, deal_id) references deals (dealership_id, id),
  constraint email_messages_folder_check check (folder in ('inbox', 'sent', 'drafts', 'archive', 'spam', 'trash')),
  constraint email_messages_status_check check (status in (
    'draft', 'queued', 'sent', 'delivered', 'opened', 'bounced', 'failed', 'received')),
  constraint email_messages_from_check check (from_address ~ '^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$')
);

-- Lenders, their programs, and their answers ---------------------------------------------------------------------------

create table lenders (
  dealership_id uuid        not null,
  id            uuid        not null,
  name          text        not null,
  lender_type   text        not null default 'bank',
  dealer_code   text,                             -- the dealership's number at the lender
  phone         text,
  email         text,
  active        boolean     not null default true,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint lenders_pkey primary key (dealership_id, id),
  constraint lenders_name_key unique (dealership_id, name),
  constraint lenders_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint lenders_name_check check (btrim(name) <> ''),
  constraint lenders_type_check check (lender_type in ('bank', 'credit_union', 'captive', 'finance_company')),
  constraint lenders_email_check check (email ~ '^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$'),
  constraint lenders_phone_check check (phone ~ '^\([0-9]{3}\) [0-9]{3}-[0-9]{4}$')
);

create table lender_programs (
  dealership_id     uuid          not null,
  id                uuid          not null,
  lender_id         uuid          not null,
  name              text          not null,
  program_type      text          not null default 'FINANCE_DEAL',
  buy_rate          numeric(6,4)  not null,       -- per cent
  max_markup        numeric(6,4)  not null default 0,
  min_credit_score  integer       not null default 300,
  max_credit_score  integer       not null default 850,
  min_term          integer       not null default 1,
  max_term          integer       not null default 120,
  min_amount        numeric(12,2) not null default 0,
  max_amount        numeric(12,2),
  max_loan_to_value numeric(6,4),                 -- 1.25: up to 125 % of the vehicle's value
  active            boolean       not null default true,
  created_at        timestamptz   not null default now(),
  updated_at        timestamptz   not null default now(),
  constraint lender_programs_pkey primary key (dealership_id, id),
  constraint lender_programs_name_key unique (dealership_id, name, lender_id),
  constraint lender_programs_lender_fkey foreign key (dealership_id, lender_id) references lenders (dealership_id, id),
  constraint lender_programs_name_check check (btrim(name) <> ''),
  constraint lender_programs_type_check check (program_type in ('FINANCE_DEAL', 'LEASE_DEAL')),
  constraint lender_programs_rates_check check (buy_rate >= 0 and max_markup >= 0 and max_loan_to_value > 0),
  constraint lender_programs_credit_score_check check (
    min_credit_score >= 300 and max_credit_score <= 850 and min_credit_score <= max_credit_score),
  constraint lender_programs_term_check check (min_term >= 1 and max_term <= 120 and min_term <= max_term),
  constraint lender_programs_amounts_check check (min_amount >= 0 and max_amount >= min_amount)
);

create table rate_requests (
  dealership_id    uuid          not null,
  id               uuid          not null,
  deal_id          uuid          not null,
  scenario_id      uuid,
  requested_by     uuid          not null,
  status           text          not null default 'pending',
  requested_amount numeric(12,2) not null,
  down_payment     numeric(12,2) not null default 0,
  term             integer       not null,        -- months
  credit_score     integer,
  expires_at       timestamptz,
  created_at       timestamptz   not null default now(),
  updated_at       timestamptz   not null default now(),
  constraint rate_requests_pkey primary key (dealership_id, id),
  constraint rate_requests_deal_fkey foreign key (dealership_id, deal_id) references deals (dealership_id, id),
  -- One of the deal's own.
  constraint rate_requests_scenario_fkey
    foreign key (dealership_id, deal_id, scenario_id) references deal_scenarios (dealership_id, deal_id, id),
  constraint rate_requests_requested_by_fkey foreign key (dealership_id, requested_by) references users (dealership_id, id),
  constraint rate_requests_status_check check (status in ('pending', 'submitted', 'answered', 'expired', 'cancelled', 'failed')),
  constraint rate_requests_amounts_check check (requested_amount >= 0 and down_payment >= 0),
  constraint rate_requests_term_check check (term between 1 and 120),
  constraint rate_requests_credit_score_check check (credit_score between 300 and 850)
);

create table approved_lenders (
  dealership_id     uuid          not null,
  id                uuid          not null,
  rate_request_id   uuid          not null,
  lender_id         uuid          not null,
  lender_program_id uuid,
  approval_status   text          not null default 'pending',
  selected          boolean       not null default false,
  approved_amount   numeric(12,2),
  apr               numeric(6,4),                 -- per cent
  buy_rate          numeric(6,4),
  term              integer,
  monthly_payment   numeric(12,2),
  stipulations      jsonb         not null default '[]',
  expires_at        timestamptz,
  created_at        timestamptz   not null default now(),
  updated_at        timestamptz   not null default now(),
  constraint approved_lenders_pkey primary key (dealership_id, id),
  constraint approved_lenders_rate_request_fkey
    foreign key (dealership_id, rate_request_id) references rate_requests (dealership_id, id),
  constraint approved_lenders_lender_fkey foreign key (dealership_id, lender_id) references lenders (dealership_id, id),
  constraint approved_lenders_lender_program_fkey
    foreign key (dealership_id, lender_program_id) references lender_programs (dealership_id, id),
  constraint approved_lenders_status_check check (approval_status in ('approved', 'conditional', 'pending', 'declined')),
  constraint approved_lenders_selected_check check (not selected or approval_status in ('approved', 'conditional')),
  constraint approved_lenders_amounts_check check (approved_amount >= 0 and monthly_payment >= 0),
  constraint approved_lenders_rates_check check (apr >= 0 and buy_rate >= 0),
  constraint approved_lenders_term_check check (term between 1 and 120),
  constraint approved_lenders_stipulations_check check (jsonb_typeof(stipulations) = 'array')
);
create unique index approved_lenders_selected_key on approved_lenders (dealership_id, rate_request_id) where selected;

-- What crosses dealerships ---------------------------------------------------------------------------------------------

create schema system authorization moonpool_system;
revoke all on schema system from public;
grant usage on schema system to moonpool_app;
grant usage, create on schema system to moonpool_owner;

-- Whose login this is: a username, or an e-mail address, in any case. Before it, nobody's dealership is known.
create function system.find_login(login text, out dealership_id uuid, out user_id uuid) returns setof record
language sql stable strict security definer rows 1
set search_path = pg_catalog, pg_temp
as $$
  select l.dealership_id, l.user_id
    from public.user_logins l
   where l.kind = case when position('@' in login) > 0 then 'email' else 'username' end and l.value = lower(login)
$$;
revoke all on function system.find_login(text) from public;
grant execute on function system.find_login(text) to moonpool_app;
alter function system.find_login(text) owner to moonpool_system;
grant select on user_logins to moonpool_system;

-- Seals of the audit log -----------------------------------------------------------------------------------------------

-- A seal covers the entries that it lists, in this order, and the seal before it (prev_hash; 32 zero bytes in the first).
-- first_at and last_at are the earliest and latest `timestamp` of its entries: entries not sealed yet are looked for among
-- those that are no older than a transaction can be, less what the seals of that time list.
create table audit_seals (
  dealership_id uuid        not null,
  seq           bigint      not null,
  entry_count   integer     not null,
  entries       uuid[]      not null,
  first_at      timestamptz not null,
  last_at       timestamptz not null,
  prev_hash     bytea       not null,
  hash          bytea       not null,
  sealed_at     timestamptz not null default clock_timestamp(),
  created_at    timestamptz not null default now(),
  constraint audit_seals_pkey primary key (dealership_id, seq),
  constraint audit_seals_dealership_fkey foreign key (dealership_id) references dealership_settings (id),
  constraint audit_seals_seq_check check (seq >= 1),
  constraint audit_seals_entries_check check (entry_count >= 1 and cardinality(entries) = entry_count),
  constraint audit_seals_time_check check (first_at <= last_at),
  constraint audit_seals_hash_check check (octet_length(hash) = 32 and octet_length(prev_hash) = 32)
);
create index audit_seals_last_at on audit_seals (dealership_id, last_at);

-- The newest seal, where the application role can read it and nobody but a function of moonpool_system can move it: seals
-- cut off at the end show by it.
create table system.audit_heads (
  dealership_id uuid        not null,
  seq           bigint      not null,
  hash          bytea       not null,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint audit_heads_pkey primary key (dealership_id),
  constraint audit_heads_seq_check check (seq >= 0),
  constraint audit_heads_hash_check check (octet_length(hash) = 32)
) with (fillfactor = 50);

-- Entries lie in the table in the order of their time, all dealerships' together: a few bytes for each run of pages find
-- the newest ones, and writing an entry does not touch them.
create index audit_log_timestamp on audit_log using brin (timestamp) with (pages_per_range = 16, autosummarize = on);

-- Rights ---------------------------------------------------------------------------------------------------------------

do $$
declare
  name text;
  own  constant text := $own$dealership_id = nullif(current_setting('app.dealership_id', true), '')::uuid$own$;
begin
  foreach name in array array[
    'user_permissions', 'customer_notes', 'customer_vehicles', 'customer_history', 'appointments', 'security_audit_log',
    'dealership_stock_settings', 'email_messages', 'lenders', 'lender_programs', 'rate_requests', 'approved_lenders',
    'audit_seals', 'system.audit_heads'] loop
    execute format('alter table %s enable row level security', name);
    execute format('alter table %s force row level security', name);
    execute format('create policy tenant on %s using (%s) with check (%s)', name, own, own);
  end loop;
end
$$;

grant select on permissions, role_permissions, tax_jurisdictions, zip_code_lookup to moonpool_app;
grant select, insert, update
  on customer_notes, customer_vehicles, appointments, dealership_stock_settings, email_messages, lenders, lender_programs,
     rate_requests, approved_lenders
  to moonpool_app;
grant select, insert, delete on user_permissions to moonpool_app;
grant select, insert on customer_history, audit_seals to moonpool_app;
grant select on system.audit_heads to moonpool_app;

-- In the logs the times are the server's: whoever adds an entry cannot give one.
revoke insert on audit_log from moonpool_app;
grant insert (dealership_id, id, user_id, action, entity_type, entity_id, deal_id, scenario_id, field_name, old_value, new_value,
              metadata)
  on audit_log to moonpool_app;
grant select, insert (dealership_id, id, user_id, event_type, success, ip_address, user_agent, metadata)
  on security_audit_log to moonpool_app;

-- For functions of moonpool_system that seal.
grant select on dealership_settings, audit_log to moonpool_system;
grant select, insert on audit_seals to moonpool_system;
grant select, insert, update on system.audit_heads to moonpool_system;

-- migrate:down
drop table system.audit_heads;
drop table audit_seals;
drop index audit_log_timestamp;
drop function system.find_login(text);
drop schema system;
revoke select on user_logins, dealership_settings, audit_log from moonpool_system;
drop table approved_lenders;
drop table rate_requests;
drop table lender_programs;
drop table lenders;
drop table email_messages;
drop table zip_code_lookup;
drop table tax_jurisdictions;
alter table deal_number_sequences rename constraint idx_deal_number_seq_dealership to deal_number_sequences_pkey;
drop table dealership_stock_settings;
drop table security_audit_log;
drop table appointments;
drop table customer_history;
drop table customer_vehicles;
drop table customer_notes;
drop table user_permissions;
drop table role_permissions;
drop table permissions;
revoke insert (dealership_id, id, user_id, action, entity_type, entity_id, deal_id, scenario_id, field_name, old_value, new_value,
               metadata)
  on audit_log from moonpool_app;
grant insert on audit_log to moonpool_app;
alter table audit_log drop column created_at;
alter table vehicles drop constraint vehicles_vin_key;
alter table users
  drop constraint users_mfa_check,
  drop constraint users_password_hash_check,
  drop constraint users_username_shape_check,
  drop column password_changed_at;
alter table users rename column account_locked_until to locked_until;
alter table dealership_settings
  drop constraint dealership_settings_phone_check,
  drop constraint dealership_settings_email_check;
