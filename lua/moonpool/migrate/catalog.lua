-- moonpool.migrate.catalog: reads the objects of a database. Each has a kind, a name, the table or
-- the like that it belongs to, and its definition as PostgreSQL writes it. Objects of the system,
-- of extensions and of moonpool itself are left out.
local catalog = {}

-- The queries run with an empty search_path, so that all names include their schema.
local PARTS = {
  [[select 'schema' as kind, quote_ident(nspname) as name, null::text as parent,
           concat_ws('; ', 'owner ' || o.rolname, acl('n', nspacl, nspowner)) as definition
      from spaces join pg_roles o on o.oid = nspowner]],

  [[select kind, name, null,
    concat_ws('; ', 'owner ' || o.rolname, acl(case kind when 'sequence' then 's' else 'r' end,
                                                                       relacl, relowner),
             case when relrowsecurity then 'row level security' end,
             case when relforcerowsecurity then 'row level security forced' end,
             case relpersistence when 'u' then 'unlogged' end,
             'with (' || array_to_string(reloptions, ', ') || ')',
             'partition by ' || pg_get_partkeydef(c.oid),
             'inherits ' || (select string_agg(inhparent::regclass::text, ', ' order by inhseqno)
                               from pg_inherits where inhrelid = c.oid),
             pg_get_expr(relpartbound, c.oid),
             case when relkind in ('v', 'm') then pg_get_viewdef(c.oid) end,
             (select format('%s from %s by %s, %s to %s%s, cache %s', seqtypid::regtype, seqstart,
               seqincrement, seqmin, seqmax,
                            case when seqcycle then ', cycle' else '' end, seqcache)
                from pg_sequence where seqrelid = c.oid))
      from relations c join pg_roles o on o.oid = relowner]],

  [[select 'column', format('%s.%I', name, attname), name,
           concat_ws('; ', format_type(atttypid, atttypmod),
             'collate ' || (select collname from pg_collation l join pg_type t on t.oid = atttypid
                             where l.oid = attcollation and attcollation <> t.typcollation),
             case when attnotnull then 'not null' end,
             case attgenerated when '' then 'default '
               else 'generated ' end || pg_get_expr(adbin, adrelid),
             case attidentity when 'a' then 'identity always'
               when 'd' then 'identity by default' end,
             'grants ' || nullif(array_to_string(array(select a::text from unnest(attacl) a
               order by 1), ' '), ''))
      from relations c join pg_attribute a on attrelid = c.oid
      left join pg_attrdef d on adrelid = c.oid and adnum = attnum
     where attnum > 0 and not attisdropped and relkind in ('r', 'p', 'f', 'c')]],

  [[select 'constraint', format('%I on %s', conname, coalesce(name, contypid::regtype::text)),
           coalesce(name, contypid::regtype::text), pg_get_constraintdef(k.oid)
      from pg_constraint k left join relations c on c.oid = conrelid
     where contype not in ('t', 'n') and conparentid = 0 -- n: from 18 on also told by its column
       and (c.oid is not null or contypid in (select oid from types))]],

  [[select 'index', format('%I.%I', space, i.relname), c.name,
           pg_get_indexdef(i.oid) || case when indisvalid then '' else '; INVALID' end
      from pg_index x join relations c on c.oid = indrelid join pg_class i on i.oid = indexrelid
     where not exists (select from pg_constraint where conindid = i.oid
       and contype in ('p', 'u', 'x'))]],

  [[select 'policy', format('%I on %s', polname, name), name,
           concat_ws(' ', case when polpermissive then 'permissive'
             else 'restrictive' end, 'for', polcmd::text, 'to',
             array_to_string(array(select case r when 0 then 'public' else r::regrole::text end
                                     from unnest(polroles) r order by 1), ', '),
             'using (' || pg_get_expr(polqual, polrelid) || ')',
               'with check (' || pg_get_expr(polwithcheck, polrelid) || ')')
      from pg_policy join relations c on c.oid = polrelid]],

  [[select 'trigger', format('%I on %s', tgname, name), name,
           pg_get_triggerdef(t.oid) || case tgenabled when 'O' then '' when 'D' then '; disabled'
             when 'A' then '; always' else '; replica' end
      from pg_trigger t join relations c on c.oid = tgrelid where not tgisinternal]],

  [[select 'rule', format('%I on %s', rulename, name), name, pg_get_ruledef(r.oid)
      from pg_rewrite r join relations c on c.oid = ev_class where rulename <> '_RETURN']],

  [[select case prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end,
           format('%I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid)), null,
           concat_ws('; ', 'owner ' || o.rolname, acl('f', proacl, proowner),
             case prokind when 'a' then (select aggtransfn::text || ' ' || aggfinalfn::text
               from pg_aggregate
                                          where aggfnoid = p.oid)
               else pg_get_functiondef(p.oid) end)
      from pg_proc p join spaces n on n.oid = pronamespace join pg_roles o on o.oid = proowner
     where not exists (select from members m where m.classid = 'pg_proc'::regclass
       and m.objid = p.oid)]],

  [[select case typtype when 'e' then 'enum' when 'd' then 'domain'
    else 'range' end, t.oid::regtype::text, null,
           concat_ws('; ', 'owner ' || o.rolname, acl('T', typacl, typowner),
             (select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder) from pg_enum
               where enumtypid = t.oid),
             case typtype when 'd' then format_type(typbasetype, typtypmod) end,
             case when typnotnull then 'not null' end, 'default ' || typdefault,
             (select rngsubtype::regtype::text from pg_range where rngtypid = t.oid))
      from types t join pg_roles o on o.oid = typowner]],

  [[select 'statistics', format('%I.%I', nspname, stxname), null, pg_get_statisticsobjdef(s.oid)
      from pg_statistic_ext s join spaces n on n.oid = stxnamespace]],

  [[select 'default privileges', format('of %s in %s for %s', defaclrole::regrole,
                                        coalesce(nspname, 'all schemas'), defaclobjtype),
           null, array_to_string(array(select a::text from unnest(defaclacl) a order by 1), ' ')
      from pg_default_acl left join pg_namespace n on n.oid = defaclnamespace]],

  [[select 'extension', quote_ident(extname), null, 'schema ' || extnamespace::regnamespace::text
      from pg_extension where extname <> 'plpgsql']],
}

local HEAD = [[
  with members as (select classid, objid from pg_depend where deptype = 'e'),
  spaces as (
    select oid, nspname, nspowner, nspacl from pg_namespace n
     where nspname !~ '^pg_' and nspname not in ('information_schema', 'moonpool')
       and not exists (select from members m where m.classid = 'pg_namespace'::regclass
         and m.objid = n.oid)),
  relations as (
    select c.*, nspname as space, format('%I.%I', nspname, relname) as name,
           case relkind when 'r' then 'table' when 'p' then 'table' when 'v' then 'view'
             when 'm' then 'materialized view'
             when 'S' then 'sequence' when 'f' then 'foreign table' else 'type' end as kind
      from pg_class c join spaces n on n.oid = relnamespace
     where relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c') and relpersistence <> 't'
       and not (nspname = 'public'
         and relname in ('moonpool_migrations', 'moonpool_migration_steps'))
       and not exists (select from members m where m.classid = 'pg_class'::regclass
         and m.objid = c.oid)),
  types as (
    select t.* from pg_type t join spaces n on n.oid = typnamespace
     where typtype in ('e', 'd', 'r')
       and not exists (select from members m where m.classid = 'pg_type'::regclass
         and m.objid = t.oid))
]]

-- Replaces acl(letter, column of the grants, owner) by SQL for the grants in a fixed order. Where
-- the column is NULL, these are PostgreSQL's default privileges.
local function fill(sql)
  return (sql:gsub("acl(%b())", function(arguments)
    local letter, list, owner = arguments:match "^%((.*),%s*(%w+),%s*(%w+)%)$"
    return ("'grants ' || array_to_string(array(select a::text from unnest(coalesce(%s, " ..
            "acldefault((%s)::\"char\", %s))) a order by 1), ' ')"):format(list, letter, owner)
  end))
end

local QUERY = fill(HEAD .. table.concat(PARTS, "\n union all\n"))

---@class moonpool.migrate.object
---@field kind string
---@field name string
---@field parent? string       the table, or the like, that the object belongs to
---@field definition string

--- Returns all objects, by kind and name. Must be called in a transaction; its search_path is empty
--- afterwards.
---@return table<string, moonpool.migrate.object>
function catalog.read(conn)
  conn.exec "set local search_path = ''"
  local all = {}
  for _, row in ipairs(conn.query(QUERY)) do
    all[row.kind .. " " .. row.name] = { kind = row.kind, name = row.name, parent = row.parent,
                                         definition = row.definition or "" }
  end
  return all
end

return catalog
