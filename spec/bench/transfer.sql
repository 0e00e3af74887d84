-- A transfer for pgbench as one PL/pgSQL call.
\if :zipf > 1
\set a random_zipfian(1, 100000, :zipf)
\set b random_zipfian(1, 99999, :zipf)
\else
\set a random(1, 100000)
\set b random(1, 99999)
\endif
\set b case when :b >= :a then :b + 1 else :b end
select transfer(:a, :b, 1);
