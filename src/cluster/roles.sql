-- Roles and rights that moonpool expects. Safe to run again at any time.
--
-- The embedded database is prepared with this file by itself. On a server of your own:
--   1. as a superuser, make the database:     createdb moonpool
--   2. as a superuser, run this file in it:   psql -d moonpool -f roles.sql
--   3. give the two login roles passwords:    psql -d moonpool
--        \password moonpool_owner
--        \password moonpool_app
--      (\password sends only a hash, so that no password reaches a log)
--   4. allow both in pg_hba.conf with scram-sha-256, and point moonpool at them:
--        DATABASE_URL=postgresql://moonpool_app@HOST/moonpool         what the host runs with
--        MOONPOOL_OWNER_URL=postgresql://moonpool_owner@HOST/moonpool what migrations run with
--      with the passwords in ~/.pgpass or in the URLs.
--
-- moonpool_owner   owns the tables, runs migrations, sees the rows of all tenants
-- moonpool_app     runs operations; row level security binds it
-- moonpool_system  nobody logs in as it; owns the few functions that must cross tenants

do $$
declare
  name text;
begin
  foreach name in array array['moonpool_owner', 'moonpool_app', 'moonpool_system'] loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I nologin', name);
    end if;
  end loop;
end
$$;

alter role moonpool_owner  nosuperuser nocreatedb nocreaterole noreplication login   inherit bypassrls;
alter role moonpool_app    nosuperuser nocreatedb nocreaterole noreplication login   inherit nobypassrls;
alter role moonpool_system nosuperuser nocreatedb nocreaterole noreplication nologin inherit bypassrls;

-- The owner may hand functions over to moonpool_system. The application must be a member of neither.
grant moonpool_system to moonpool_owner;
do $$
declare
  name text;
begin
  foreach name in array array['moonpool_owner', 'moonpool_system'] loop
    if pg_has_role('moonpool_app', name, 'member') then
      execute format('revoke %I from moonpool_app', name);
    end if;
  end loop;
end
$$;

-- In a database nobody may do anything that was not granted; above all no temporary tables, which
-- could shadow real ones.
do $$
begin
  execute format('alter database %I owner to moonpool_owner', current_database());
  execute format('revoke all on database %I from public', current_database());
  execute format('revoke all on database %I from moonpool_app', current_database());
  execute format('grant connect on database %I to moonpool_app', current_database());
end
$$;

alter schema public owner to moonpool_owner;
revoke all on schema public from public;
grant usage on schema public to moonpool_app;
-- moonpool_system can own functions in the schema, which takes the right to create there.
grant usage, create on schema public to moonpool_system;

-- What is created later is closed too, until it is granted: functions would otherwise be everybody's.
alter default privileges for role moonpool_owner, moonpool_system revoke execute on functions from public;

-- No code of the application's own (do blocks), and no large objects: rows of one role that no policy keeps apart.
revoke usage on language plpgsql, sql from public;
grant usage on language plpgsql, sql to moonpool_owner, moonpool_system;
do $$
declare
  large_object regprocedure;
begin
  for large_object in
    select oid from pg_proc where pronamespace = 'pg_catalog'::regnamespace and proname ~ '^(lo_[a-z0-9_]+|loread|lowrite)$'
  loop
    execute format('revoke execute on function %s from public', large_object);
    execute format('grant execute on function %s to moonpool_owner', large_object);
  end loop;
end
$$;

-- Nothing that runs SQL given as text, which nobody can look into; that meets other sessions; that writes the server's log,
-- keeps it, or reads its files. (What the host itself works with, it refuses to operations.) Roles for monitoring and
-- replication keep theirs.
do $$
declare
  power regprocedure;
  keeper text;
begin
  for power in
    select oid from pg_proc
     where pronamespace = 'pg_catalog'::regnamespace
       and (proname ~ '^(query|cursor|table|schema|database)_to_xml' or proname ~ '^(ts_stat|pg_cancel_backend|pg_export_snapshot)$'
            or proname ~ '^pg_(logical_|replication_|(create|copy|drop)_.*replication_slot|rotate_logfile|read_|ls_)'
            or proname ~ '^pg_(sync_replication_slots|available_wal_summaries|wal_summary_contents|get_wal_summarizer_state)$'
            or (proname = 'ts_rewrite' and 'text'::regtype = any (proargtypes::oid[])))
  loop
    execute format('revoke execute on function %s from public', power);
    execute format('grant execute on function %s to moonpool_owner', power);
  end loop;
  -- The session's own, for who looks into it.
  grant execute on function pg_catalog.pg_prepared_statement() to moonpool_app;
  foreach keeper in array array['pg_signal_backend', 'pg_monitor'] loop
    execute format('grant execute on function pg_catalog.pg_cancel_backend(integer) to %I', keeper);
  end loop;
end
$$;

-- The tenant is a setting: a script's SQL must not be able to change it.
revoke execute on function pg_catalog.set_config(text, text, boolean) from public;
grant execute on function pg_catalog.set_config(text, text, boolean) to moonpool_owner;
