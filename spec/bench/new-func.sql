-- The deal workload for pgbench as one PL/pgSQL call: one round trip, no client work between the statements.
\set d random(1, :dealerships)
\set dealership_no 1000000 + :d
\set seller_no 2000000 + (:d - 1) * 5 + random(1, 5)
select * from create_deal(lpad(:dealership_no::text, 32, '0')::uuid, lpad(:seller_no::text, 32, '0')::uuid);
