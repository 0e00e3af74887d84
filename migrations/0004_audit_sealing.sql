-- Sealing: entries of the audit log that are committed are covered by seals, each of which covers the seal before it too.
--
-- A seal holds, of every entry that it covers: its id and time; `digests`, SHA-256 of the whole entry; and `marks`, two
-- bytes of each column's own hash, by which one can tell which column was altered. Its `hash` is SHA-256 over all of that
-- and over prev_hash. What is hashed is text made of fields in a fixed order, separated by commas: `-` for NULL, else the
-- length in bytes, a colon and the bytes. Times are microseconds since 1970 in UTC, jsonb is PostgreSQL's own text of it.
-- A further column of audit_log needs a new version of the encoding: what is sealed was sealed without it.
--
-- An entry becomes visible at its COMMIT, later than its `timestamp`, and maybe after later ones were sealed. So a seal
-- lists what it covers, and what is not covered yet is looked for from the dealership's horizon on. Before the horizon
-- everything is sealed: all transactions that could have written there had ended when sealing last looked. Hence an
-- entry from before the horizon that no seal covers was not written by an operation.

alter table audit_seals
  add column times   timestamptz[] not null,
  add column digests bytea[]       not null,
  add column marks   bytea[]       not null,
  add column horizon timestamptz   not null,      -- the head's, when this seal was made
  add constraint audit_seals_lists_check check (
    cardinality(times) = entry_count and cardinality(digests) = entry_count and cardinality(marks) = entry_count);

-- A transaction numbered `marked_xid` or higher writes its entries after `marked_at`. Once all with lower numbers have
-- ended, marked_at is the next horizon.
alter table system.audit_heads
  add column horizon    timestamptz not null default '-infinity',
  add column marked_at  timestamptz,
  add column marked_xid xid8,
  add constraint audit_heads_mark_check check ((marked_at is null) = (marked_xid is null));

-- Seals are made by the function alone.
revoke insert on audit_seals from moonpool_app;

create function system.audit_field(value text) returns text
language sql immutable parallel safe
as $$
  select case when value is null then '-' else octet_length(value)::text || ':' || value end
$$;

create function system.audit_time(value timestamptz) returns text
language sql stable parallel safe
as $$
  select trim_scale(extract(epoch from value) * 1000000)::text
$$;

create function system.audit_hash(value text) returns bytea
language sql stable parallel safe
as $$
  select sha256(convert_to(value, 'UTF8'))
$$;

-- The dealerships that sealing and verification go through. A transaction of one dealership sees no other.
create function system.dealerships() returns setof uuid
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select d.id from (select id from public.dealership_settings union select dealership_id from system.audit_heads) as d
   where d.id = coalesce(nullif(current_setting('app.dealership_id', true), '')::uuid, d.id)
   order by d.id
$$;

-- Seals the dealership's oldest entries that are not sealed, `most` at most. Gives the new seal's number and how many
-- entries it covers; null and 0 when there are none. Of two who seal one dealership, the second waits for the first.
-- Entries are only read, so nobody who writes one waits.
create function system.seal_audit_log(dealership uuid, most integer, out seal bigint, out sealed integer)
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- An entry gets its time a moment before its transaction gets a number, and clocks are set back now and then.
  margin  constant interval := interval '1 minute';
  tenant  constant uuid := nullif(current_setting('app.dealership_id', true), '')::uuid;
  own_xid xid8;
  since   timestamptz;                  -- before it, everything is sealed
  head    system.audit_heads;
  made    public.audit_seals;
begin
  if tenant <> dealership then
    raise insufficient_privilege using message = 'the audit log of another dealership cannot be sealed';
  elsif most < 1 or most > 10000 then
    raise invalid_parameter_value using message = 'a seal covers from 1 to 10000 entries';
  end if;
  sealed := 0;

  -- Where nothing happens, nothing is written, but now and then a horizon.
  if exists (select from system.audit_heads h
              where h.dealership_id = dealership and h.marked_at > now() - interval '10 minutes'
                and not exists (
                      select from public.audit_log a
                       where a.dealership_id = dealership and a.timestamp >= h.horizon
                         and not exists (select
                                           from (select unnest(s.entries) as id from public.audit_seals s
                                                  where s.dealership_id = dealership and s.last_at >= h.horizon) as covered
                                          where covered.id = a.id))) then
    return;
  end if;

  own_xid := pg_current_xact_id();
  select * into head from system.audit_heads h where h.dealership_id = dealership for update;
  if not found then
    insert into system.audit_heads (dealership_id, seq, hash)
      select d.id, 0, decode(repeat('00', 32), 'hex') from public.dealership_settings d where d.id = dealership
      on conflict do nothing;
    select * into head from system.audit_heads h where h.dealership_id = dealership for update;
    if not found then
      return;                           -- no such dealership
    end if;
  end if;

  since := head.horizon;

  -- A mark that is not below this transaction's own number is of another server's life: the database was restored.
  if head.marked_xid is null or head.marked_xid >= own_xid then
    head.marked_at := null;
  elsif pg_snapshot_xmin(pg_current_snapshot()) >= head.marked_xid then
    head.horizon := greatest(head.horizon, head.marked_at - margin);
    head.marked_at := null;
  end if;

  with entry as (
    select a.id, a.timestamp as at, f.fields
      from public.audit_log a
     cross join lateral (values (array[
             a.dealership_id::text, a.id::text, a.user_id::text, a.action, a.entity_type, a.entity_id::text, a.deal_id::text,
             a.scenario_id::text, a.field_name, a.old_value, a.new_value, a.metadata::text, system.audit_time(a.timestamp),
             system.audit_time(a.created_at)])) as f (fields)
     where a.dealership_id = dealership
       and a.timestamp >= since
       and not exists (select
                         from (select unnest(s.entries) as id from public.audit_seals s
                                where s.dealership_id = dealership and s.last_at >= since) as covered
                        where covered.id = a.id)
     order by a.timestamp, a.id
     limit most
  ), hashed as (
    select e.id, e.at, system.audit_hash('moonpool audit entry 1,' || h.text) as digest, h.marks
      from entry e
     cross join lateral (
           select string_agg(system.audit_field(v.value), ',' order by v.n) as text,
                  string_agg(substr(system.audit_hash(system.audit_field(v.value)), 1, 2), '' order by v.n) as marks
             from unnest(e.fields) with ordinality as v (value, n)) as h
  )
  select count(*), array_agg(id order by at, id), array_agg(at order by at, id), array_agg(digest order by at, id),
         array_agg(hashed.marks order by at, id), min(at), max(at)
    into made.entry_count, made.entries, made.times, made.digests, made.marks, made.first_at, made.last_at
    from hashed;

  -- After a full seal's last entry there may be more that is not sealed.
  if made.entry_count = most then
    head.horizon := greatest(since, least(head.horizon, made.last_at));
  end if;

  if made.entry_count > 0 then
    made.seq := head.seq + 1;
    made.prev_hash := head.hash;
    made.sealed_at := clock_timestamp();
    select system.audit_hash('moonpool audit seal 1,' || concat_ws(',',
             system.audit_field(dealership::text), system.audit_field(made.seq::text),
             system.audit_field(encode(made.prev_hash, 'hex')), system.audit_field(system.audit_time(made.sealed_at)),
             system.audit_field(system.audit_time(head.horizon)), system.audit_field(made.entry_count::text),
             string_agg(concat_ws(',', system.audit_field(e.id::text), system.audit_field(system.audit_time(e.at)),
                                  system.audit_field(encode(e.digest, 'hex')), system.audit_field(encode(e.marks, 'hex'))),
                        ',' order by e.n)))
      into made.hash
      from unnest(made.entries, made.times, made.digests, made.marks) with ordinality as e (id, at, digest, marks, n);
    insert into public.audit_seals (dealership_id, seq, entry_count, entries, times, digests, marks, first_at, last_at,
                                    prev_hash, hash, sealed_at, horizon, created_at)
      values (dealership, made.seq, made.entry_count, made.entries, made.times, made.digests, made.marks, made.first_at,
              made.last_at, made.prev_hash, made.hash, made.sealed_at, head.horizon, made.sealed_at);
    head.seq := made.seq;
    head.hash := made.hash;
    seal := made.seq;
    sealed := made.entry_count;
  end if;

  if head.marked_at is null then
    head.marked_at := transaction_timestamp();
    head.marked_xid := own_xid;
  end if;
  update system.audit_heads h
     set seq = head.seq, hash = head.hash, horizon = head.horizon, marked_at = head.marked_at, marked_xid = head.marked_xid,
         updated_at = now()
   where h.dealership_id = dealership;
end
$$;

do $$
declare
  function regprocedure;
begin
  foreach function in array array['system.audit_field(text)', 'system.audit_time(timestamptz)', 'system.audit_hash(text)',
                                  'system.dealerships()', 'system.seal_audit_log(uuid, integer)']::regprocedure[] loop
    execute format('revoke all on function %s from public', function);
    execute format('alter function %s owner to moonpool_system', function);
  end loop;
end
$$;
grant execute on function system.dealerships(), system.seal_audit_log(uuid, integer) to moonpool_app;

-- migrate:down
drop function system.seal_audit_log(uuid, integer);
drop function system.dealerships();
drop function system.audit_hash(text);
drop function system.audit_time(timestamptz);
drop function system.audit_field(text);
grant insert on audit_seals to moonpool_app;
alter table system.audit_heads
  drop constraint audit_heads_mark_check,
  drop column marked_xid,
  drop column marked_at,
  drop column horizon;
alter table audit_seals
  drop constraint audit_seals_lists_check,
  drop column horizon,
  drop column marks,
  drop column digests,
  drop column times;
