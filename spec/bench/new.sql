-- The deal workload for pgbench, statement by statement: ten statements, ten round trips. The isolation level is the
-- session's (PGOPTIONS), and :dealerships comes from -D. pgbench asks the server for ids, and compares no rows.
\set d random(1, :dealerships)
\set dealership_no 1000000 + :d
\set seller_no 2000000 + (:d - 1) * 5 + random(1, 5)
begin;
select id from dealership_settings where id = lpad(:dealership_no::text, 32, '0')::uuid \gset dealership_
select id, dealership_id, role from users where id = lpad(:seller_no::text, 32, '0')::uuid \gset seller_
insert into customers (dealership_id, first_name, last_name, email, phone, address, city, state, zip_code, county)
  values (:dealership_id, 'Jane', 'Doe', 'jane@example.org', '(512) 555-0199', '1 Main St', 'Austin', 'TX', '78701',
          'Travis')
  returning * \gset customer_
insert into deal_number_sequences as s (dealership_id, current_sequence)
  values (:dealership_id, 1)
  on conflict (dealership_id) do update set current_sequence = s.current_sequence + 1, updated_at = now()
  returning to_char(now(), 'YYYY-MMDD-')
            || lpad(current_sequence::text, greatest(4, length(current_sequence::text)), '0') as text \gset number_
insert into deals (dealership_id, deal_number, customer_id, vehicle_id, trade_vehicle_id, salesperson_id, deal_state,
                   customer_attached_at)
  values (:dealership_id, :number_text, :customer_id, null, null, :seller_id, 'DRAFT', now())
  returning * \gset deal_
insert into deal_scenarios (deal_id, name, scenario_type, vehicle_id, vehicle_price, down_payment, trade_allowance,
                            trade_payoff, term, apr, total_tax, total_fees, monthly_payment, aftermarket_products)
  values (:deal_id, 'Scenario 1', 'FINANCE_DEAL', null, 0, 0, 0, 0, 60, 8.9, 0, 0, 0, '[]')
  returning * \gset scenario_
update deals set active_scenario_id = :scenario_id, updated_at = now() where id = :deal_id;
insert into audit_log (deal_id, user_id, action, entity_type, entity_id, metadata)
  values (:deal_id, :seller_id, 'create', 'deal', :deal_id,
          jsonb_build_object('dealNumber', :number_text::text, 'hasCustomer', true, 'hasVehicle', false));
commit;
