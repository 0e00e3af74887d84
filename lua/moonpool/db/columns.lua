-- moonpool.db.columns: the columns of the application's tables and views, as the catalog has them.
local db = require "moonpool.db"

local COLUMNS = [[
  select c.oid::regclass::text as relation, a.attname as name, a.attnotnull as required,
         a.atthasdef or a.attidentity <> '' as has_default,
         a.attgenerated <> '' or a.attidentity = 'a' as generated,
         coalesce(b.typcategory, t.typcategory) as category,
         (case when coalesce(b.typcategory, t.typcategory) = 'A' then e.typname
               else coalesce(b.typname, t.typname) end) as type,
         array(select enumlabel::text from pg_enum
               where enumtypid in (t.oid, b.oid, e.oid) order by enumsortorder) as labels,
         col_description(c.oid, a.attnum) as about
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       join pg_type t on t.oid = a.atttypid
       left join pg_type b on b.oid = t.typbasetype and t.typtype = 'd'
       left join pg_type e on e.oid = coalesce(b.typelem, t.typelem)
             and coalesce(b.typcategory, t.typcategory) = 'A'
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    and c.relname <> 'moonpool_migrations'
    and c.relnamespace not in (select oid from pg_namespace
      where nspname in ('information_schema', 'moonpool') or nspname like 'pg\_%')
  order by relation, a.attnum]]

--- Waits for the database. -> the columns of each relation by its name, and the names in order
return function()
  local by_name, order = {}, {}
  for _, column in ipairs(db.query(COLUMNS)) do
    if not by_name[column.relation] then
      by_name[column.relation] = {}
      order[#order + 1] = column.relation
    end
    table.insert(by_name[column.relation], column)
  end
  return by_name, order
end
