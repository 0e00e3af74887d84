-- Seeds the project's own schema for real.lua, as a superuser: the same ids and as many rows as in schema.sql.
create function pg_temp.seed_id(n bigint) returns uuid language sql immutable
  return lpad(n::text, 32, '0')::uuid;

insert into dealership_settings (id, dealership_name, city, state)
select pg_temp.seed_id(1000000 + d), 'Dealership ' || d, 'Austin', 'TX'
  from generate_series(1, 100) as d;

insert into users (dealership_id, id, username, full_name, email)
select pg_temp.seed_id(1000000 + d), pg_temp.seed_id(2000000 + (d - 1) * 5 + i), format('seller-%s-%s', d, i), 'Seller ' || i,
       format('seller%s.%s@example.org', d, i)
  from generate_series(1, 100) as d, generate_series(1, 5) as i;

insert into customers (dealership_id, id, first_name, last_name, email, phone, city, state)
select pg_temp.seed_id(1000000 + d), pg_temp.seed_id(3000000 + (d - 1) * 200 + i), 'First' || i, 'Last' || d,
       format('customer%s.%s@example.org', d, i), '(512) 555-0100', 'Austin', 'TX'
  from generate_series(1, 100) as d, generate_series(1, 200) as i;

insert into deal_number_sequences (dealership_id, current_sequence) select id, 20 from dealership_settings;

insert into deals (dealership_id, id, deal_number, customer_id, salesperson_id, customer_attached_at)
select pg_temp.seed_id(1000000 + d), pg_temp.seed_id(5000000 + (d - 1) * 20 + i), '2000-0101-' || lpad(i::text, 4, '0'),
       pg_temp.seed_id(3000000 + (d - 1) * 200 + i), pg_temp.seed_id(2000000 + (d - 1) * 5 + 1 + i % 5), now()
  from generate_series(1, 100) as d, generate_series(1, 20) as i;

insert into deal_scenarios (dealership_id, id, deal_id)
select dealership_id, gen_random_uuid(), id from deals;

update deals d set active_scenario_id = s.id from deal_scenarios s where s.dealership_id = d.dealership_id and s.deal_id = d.id;

insert into audit_log (dealership_id, id, user_id, action, entity_type, entity_id, deal_id)
select dealership_id, gen_random_uuid(), salesperson_id, 'create', 'deal', id, id from deals;
