-- One row by its key, for pgbench.
\set id random(1, 100000)
select * from items where id = :id;
