-- moonpool.test.retry_safety.keep: saves the contents of a database and restores them any number of
-- times. A restore is a hundred times faster than a new database for each call. Only rows and
-- sequences are saved: an operation can change nothing else.

-- keep(admin) -> restore(): `admin` is a connection to the database as a superuser.
return function(admin)
  local tables = admin.query [[
    select format('%I.%I', n.nspname, c.relname) as name,
      format('moonpool_kept.t%s', c.oid) as copy,
           (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
               and a.attgenerated = '') as columns
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('public', 'moonpool') and c.relkind = 'r' order by c.oid]]
  local sequences = admin.query [[
    select format('%I.%I', schemaname, sequencename) as name,
      coalesce(last_value, start_value) as value,
           last_value is not null as called
      from pg_sequences where schemaname in ('public', 'moonpool')]]
  admin.exec "create schema moonpool_kept"
  for _, t in ipairs(tables) do
    admin.exec(("create table %s as select * from %s"):format(t.copy, t.name))
  end

  return function()
    admin.transaction(function(tx)
      tx:exec "set local session_replication_role = replica" -- triggers and foreign keys are off
      for _, t in ipairs(tables) do
        tx:exec("delete from " .. t.name)
        tx:exec(("insert into %s (%s) overriding system value select %s from %s"):format(t.name,
          t.columns, t.columns, t.copy))
      end
      for _, s in ipairs(sequences) do
        tx:exec("select setval($1::regclass, $2, $3)", s.name, s.value, s.called)
      end
    end)
  end
end
