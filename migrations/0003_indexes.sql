-- The 37 indexes, each built CONCURRENTLY: outside a transaction, and without stopping those who write.
--
-- The application role names its dealership in every statement, and row level security names it again. Indexes that begin
-- with an id need no dealership before it: an id is of one dealership, so the condition on the dealership removes nothing.
--
-- Five are not what their names once stood for, but serve the same queries of the application role better:
--   idx_deal_number_seq_dealership, idx_stock_settings_dealership
--                              unique (dealership_id): since 0002 the names of the two tables' primary keys. A second
--                              index on the same column could serve nothing more.
--   idx_vehicles_stock_lookup  (dealership_id, stock_number) is also what vehicles_stock_number_key has. This one carries
--                              what a look-up by stock number asks for, so that it need not visit the table.
--   idx_deal_scenarios_deal_id (deal_id): any deal's scenarios are also found by deal_scenarios_deal_key (dealership_id,
--                              deal_id, id), which was chosen instead. This one gives them in the order of their making.
--   idx_audit_log_user_id      (user_id, timestamp desc): of a user with many entries, the planner takes the dealership for
--                              one more condition that removes most, and adds a scan of all entries of the dealership to
--                              avoid reading them. Beginning with the dealership, the index leaves nothing to be removed.

-- Customers: by name, e-mail address, telephone number
create index concurrently idx_customers_search on customers (dealership_id, last_name, first_name);
create index concurrently idx_customers_email on customers (dealership_id, email) where email is not null;
create index concurrently idx_customers_phone on customers (dealership_id, phone) where phone is not null;

-- The stock
create index concurrently idx_vehicles_status on vehicles (dealership_id, status) where status in ('available', 'pending');
create index concurrently idx_vehicles_stock_lookup on vehicles (dealership_id, stock_number) include (id, status);
create index concurrently idx_vehicles_pending on vehicles (dealership_id, stock_number) where status = 'pending';

-- Deals and their scenarios
create index concurrently idx_deals_state on deals (dealership_id, deal_state);
create index concurrently idx_deals_salesperson on deals (dealership_id, salesperson_id);
create index concurrently idx_deals_customer on deals (dealership_id, customer_id) where customer_id is not null;
create index concurrently idx_deals_created_at on deals (dealership_id, created_at desc);
create index concurrently idx_deals_active on deals (dealership_id, created_at desc)
  where deal_state not in ('CANCELLED', 'DELIVERED');
create index concurrently idx_deals_active_scenario on deals (active_scenario_id) where active_scenario_id is not null;
create index concurrently idx_deal_scenarios_deal_id on deal_scenarios (dealership_id, deal_id, created_at);

-- Customers' files
create index concurrently idx_customer_notes_customer_id on customer_notes (customer_id, created_at desc);
create index concurrently idx_customer_vehicles_customer_id on customer_vehicles (customer_id);
create index concurrently idx_customer_history_customer_id on customer_history (customer_id, timestamp desc);

-- Calendars
create index concurrently idx_appointments_dealership_date on appointments (dealership_id, scheduled_at);
create index concurrently idx_appointments_user on appointments (dealership_id, user_id, scheduled_at);
create index concurrently idx_appointments_customer on appointments (dealership_id, customer_id, scheduled_at);

-- The audit log: of a deal, of a user, of any thing
create index concurrently idx_audit_log_deal_id on audit_log (deal_id, timestamp desc) where deal_id is not null;
create index concurrently idx_audit_log_user_id on audit_log (dealership_id, user_id, timestamp desc);
create index concurrently idx_audit_log_entity on audit_log (entity_type, entity_id, timestamp desc);

-- Taxes and places
create index concurrently idx_tax_jurisdictions_state on tax_jurisdictions (state);
create index concurrently idx_tax_jurisdictions_lookup on tax_jurisdictions (state, county, city);
create index concurrently idx_zip_code_lookup_zip on zip_code_lookup (zip_code);

-- Mailboxes
create index concurrently idx_email_messages_dealership_folder on email_messages (dealership_id, folder, created_at desc);
create index concurrently idx_email_messages_unread on email_messages (dealership_id, is_read, created_at desc)
  where is_read = false;

-- Lenders and their answers
create index concurrently idx_lender_programs_lender on lender_programs (lender_id) where active = true;
create index concurrently idx_rate_requests_deal on rate_requests (deal_id, created_at desc);
create index concurrently idx_approved_lenders_request on approved_lenders (rate_request_id, selected desc, approval_status);

-- New users who have not answered the e-mail yet
create index concurrently idx_users_unverified on users (dealership_id, created_at) where email_verified = false;

-- Everything of a dealership, counted and listed. Behind the others of their tables: of indexes that cost the same the
-- planner takes the newest, and these are the smallest, if by little.
create index concurrently idx_users_dealership_id on users (dealership_id) where is_active = true;
create index concurrently idx_customers_dealership_id on customers (dealership_id);
create index concurrently idx_vehicles_dealership_id on vehicles (dealership_id);
create index concurrently idx_deals_dealership_id on deals (dealership_id);

-- migrate:down
drop index concurrently idx_deals_dealership_id;
drop index concurrently idx_vehicles_dealership_id;
drop index concurrently idx_customers_dealership_id;
drop index concurrently idx_users_dealership_id;
drop index concurrently idx_users_unverified;
drop index concurrently idx_approved_lenders_request;
drop index concurrently idx_rate_requests_deal;
drop index concurrently idx_lender_programs_lender;
drop index concurrently idx_email_messages_unread;
drop index concurrently idx_email_messages_dealership_folder;
drop index concurrently idx_zip_code_lookup_zip;
drop index concurrently idx_tax_jurisdictions_lookup;
drop index concurrently idx_tax_jurisdictions_state;
drop index concurrently idx_audit_log_entity;
drop index concurrently idx_audit_log_user_id;
drop index concurrently idx_audit_log_deal_id;
drop index concurrently idx_appointments_customer;
drop index concurrently idx_appointments_user;
drop index concurrently idx_appointments_dealership_date;
drop index concurrently idx_customer_history_customer_id;
drop index concurrently idx_customer_vehicles_customer_id;
drop index concurrently idx_customer_notes_customer_id;
drop index concurrently idx_deal_scenarios_deal_id;
drop index concurrently idx_deals_active_scenario;
drop index concurrently idx_deals_active;
drop index concurrently idx_deals_created_at;
drop index concurrently idx_deals_customer;
drop index concurrently idx_deals_salesperson;
drop index concurrently idx_deals_state;
drop index concurrently idx_vehicles_pending;
drop index concurrently idx_vehicles_stock_lookup;
drop index concurrently idx_vehicles_status;
drop index concurrently idx_customers_phone;
drop index concurrently idx_customers_email;
drop index concurrently idx_customers_search;
