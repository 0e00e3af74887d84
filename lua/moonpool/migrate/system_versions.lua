-- moonpool.migrate.system_versions: the statements that create the host's own tables, version by
-- version. A released version must not be edited. :definer is the role that owns the functions that
-- read the rows of all tenants. `grants` are the privileges that the role of the host needs: table
-- or function -> privileges.
return {
  -- 1: witnesses. A row proves that a transaction has committed, and has its result. The host
  -- chooses its id.
  {
    statements = {
      [[create table moonpool.witness (
          id         uuid        not null,
          operation  text        not null,
          tenant     text,
          input_hash text,
          result     text,
        void       boolean     not null default false,
          created_at timestamptz not null default now(),
          constraint witness_pkey primary key (id)
        )]],
      "create index witness_created_at_idx on moonpool.witness using brin (created_at)",
      "alter table moonpool.witness enable row level security, force row level security",
      "create policy witness_leave on moonpool.witness for insert with check (true)",
      -- Only the row whose id the host has set by SET LOCAL.
      [[create policy witness_read on moonpool.witness for select
          using (id = nullif(current_setting('moonpool.witness', true), '')::uuid)]],
      [[create policy witness_result on moonpool.witness for update
          using (id = nullif(current_setting('moonpool.witness', true), '')::uuid)]],
      "create policy witness_keep on moonpool.witness to :definer using (true)",
      "grant select, delete on moonpool.witness to :definer",
    },
    grants = { ["moonpool.witness"] = "select, insert, update (result)" },
  },

  -- 2: the outbox. A message is in `outbox` from the commit of the transaction that published it.
  -- A message is new to a subscriber unless it is below the subscriber's mark `low`, or has a row
  -- in `delivered`, which the subscriber's own transaction writes, or a row in `failure`. All
  -- transactions below `low` have ended, so that no message can appear there later. So no message
  -- is skipped when its transaction commits late, and the key of `delivered` makes the work of a
  -- delivery happen once. The relay sets moonpool.relay in its session to read all rows: other
  -- sessions can only insert.
  {
    statements = {
      [[create table moonpool.outbox (
          id           bigint      not null generated always as identity,
          xid          xid8        not null default pg_current_xact_id(),
          topic        text        not null,
          key          text,
          tenant       text,
          payload      jsonb       not null,
          published_at timestamptz not null default clock_timestamp(),
          constraint outbox_pkey primary key (id)
        )]],
      "create index outbox_topic_xid_idx on moonpool.outbox (topic, xid)",
      "create index outbox_published_at_idx on moonpool.outbox using brin (published_at)",
      [[create table moonpool.subscriber (
          name       text        not null,
          topic      text        not null,
          low        xid8        not null default '0',
          created_at timestamptz not null default now(),
          seen_at    timestamptz not null default now(),
          constraint subscriber_pkey primary key (name)
        )]],
      [[create table moonpool.delivered (
          subscriber   text        not null,
          message      bigint      not null,
          xid          xid8        not null,
          delivered_at timestamptz not null default now(),
          constraint delivered_pkey primary key (subscriber, message)
        )]],
      "create index delivered_xid_idx on moonpool.delivered (subscriber, xid)",
      [[create table moonpool.failure (
          subscriber text        not null,
          message    bigint      not null,
          key        text,
          tenant     text,
          deliveries integer     not null,
          next_at    timestamptz not null,
          dead       boolean     not null default false,
          error      text        not null,
          failed_at  timestamptz not null default now(),
          constraint failure_pkey primary key (subscriber, message)
        )]],
      "create index failure_message_idx on moonpool.failure (message)",
      "alter table moonpool.outbox enable row level security, force row level security",
      "alter table moonpool.subscriber enable row level security, force row level security",
      "alter table moonpool.delivered enable row level security, force row level security",
      "alter table moonpool.failure enable row level security, force row level security",
      "create policy outbox_publish on moonpool.outbox for insert with check (true)",
      "create policy delivered_note on moonpool.delivered for insert with check (true)",
      "create policy outbox_relay on moonpool.outbox using (current_setting('moonpool.relay', \z
        true) = 'on')",
      "create policy subscriber_relay on moonpool.subscriber using \z
        (current_setting('moonpool.relay', true) = 'on')",
      "create policy delivered_relay on moonpool.delivered using \z
        (current_setting('moonpool.relay', true) = 'on')",
      "create policy failure_relay on moonpool.failure using (current_setting('moonpool.relay', \z
        true) = 'on')",
      "create policy outbox_keep on moonpool.outbox to :definer using (true)",
      "create policy subscriber_keep on moonpool.subscriber to :definer using (true)",
      "create policy delivered_keep on moonpool.delivered to :definer using (true)",
      "create policy failure_keep on moonpool.failure to :definer using (true)",
      "grant select, update, delete on moonpool.outbox to :definer",
      "grant select, update on moonpool.subscriber to :definer",
      "grant select, insert, update on moonpool.delivered to :definer",
      "grant select on moonpool.failure to :definer",
      -- Deletes at most `most` rows of each kind, so that no call takes long. Keeps messages that
      -- are not below the mark of each subscriber, and messages with a row in `failure`: dead ones
      -- stay until `moonpool outbox` retries or drops them.
      [[create function moonpool.prune(keep interval, most integer, out witnesses bigint, out messages bigint)
        language sql volatile strict security definer set search_path = pg_catalog, pg_temp as $$
          with witness_gone as (
            delete from moonpool.witness
             where ctid = any(array(select ctid from moonpool.witness where created_at < now() - keep limit most))
            returning 1
          ), message_gone as (
            delete from moonpool.outbox
             where id = any(array(
               select o.id from moonpool.outbox o
                where o.published_at < now() - keep
                  and not exists (select from moonpool.subscriber s where s.topic = o.topic and s.low <= o.xid)
                  and not exists (select from moonpool.failure f where f.message = o.id)
                limit most))
            returning 1
          )
          select (select count(*) from witness_gone), (select count(*) from message_gone)
        $$]],
      "revoke all on function moonpool.prune(interval, integer) from public",
      "alter function moonpool.prune(interval, integer) owner to :definer",
      -- For a dump that was restored to another server, whose transaction numbers are lower.
      -- Numbers above the current ones become '3', which is below all of them. Before that, the
      -- messages below a mark are recorded as delivered.
      [[create function moonpool.renumber() returns void
        language sql volatile strict security definer set search_path = pg_catalog, pg_temp as $$
          insert into moonpool.delivered (subscriber, message, xid)
          select s.name, o.id, o.xid from moonpool.subscriber s join moonpool.outbox o on o.topic = s.topic and o.xid < s.low
           where s.low > pg_snapshot_xmax(pg_current_snapshot())
             and o.id <= (select max(id) from moonpool.outbox where xid > pg_snapshot_xmax(pg_current_snapshot()))
             and not exists (select from moonpool.failure f where f.subscriber = s.name and f.message = o.id)
          on conflict do nothing;
          update moonpool.subscriber set low = '3' where low > pg_snapshot_xmax(pg_current_snapshot());
          update moonpool.delivered set xid = '3' where xid > pg_snapshot_xmax(pg_current_snapshot());
          update moonpool.outbox set xid = '3' where xid > pg_snapshot_xmax(pg_current_snapshot())
        $$]],
      "revoke all on function moonpool.renumber() from public",
      "alter function moonpool.renumber() owner to :definer",
    },
    grants = {
      ["moonpool.outbox"]                   = "select, insert",
      ["moonpool.delivered"]                = "select, insert, delete",
      ["moonpool.subscriber"]               = "select, insert, update, delete",
      ["moonpool.failure"]                  = "select, insert, update, delete",
      ["moonpool.prune(interval, integer)"] = "execute",
      ["moonpool.renumber()"]               = "execute",
    },
  },

  -- 3: schedules: operations that run at a time. Of many hosts, the one that updates `due` runs the
  -- operation.
  {
    statements = {
      [[create table moonpool.schedule (
          operation   text        not null,
          due         timestamptz not null,
          host        text,
          started_at  timestamptz,
          held_until  timestamptz,
          finished_at timestamptz,
          runs        bigint      not null default 0,
          failures    bigint      not null default 0,
          missed      bigint      not null default 0,
          last_error  text,
          constraint schedule_pkey primary key (operation)
        )]],
    },
    grants = { ["moonpool.schedule"] = "select, insert, update" },
  },

  -- 4: tokens of the HTTP service. The host may read one token by its id, but never all of them.
  -- Only `moonpool token`, as the owner, creates and revokes tokens. The table has a hash of the
  -- secret, not the secret.
  {
    statements = {
      [[create table moonpool.token (
          id         text        not null,
          hash       text        not null,
          tenant     text,
          user_id    text,
          scopes     text[]      not null,
          label      text        not null default '',
          created_at timestamptz not null default now(),
          expires_at timestamptz,
          revoked_at timestamptz,
          constraint token_pkey primary key (id)
        )]],
      "grant select on moonpool.token to :definer",
      [[create function moonpool.token_by_id(wanted text, out hash text, out tenant text, out user_id text,
                                             out scopes text, out seconds double precision)
        language sql stable strict security definer set search_path = pg_catalog, pg_temp as $$
          select t.hash, t.tenant, t.user_id, array_to_string(t.scopes, ' '), extract(epoch from t.expires_at - now())
            from moonpool.token t
           where t.id = wanted and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
        $$]],
      [[create function moonpool.token_exists() returns boolean
        language sql stable security definer set search_path = pg_catalog, pg_temp as $$
          select exists (select from moonpool.token
                          where revoked_at is null and (expires_at is null or expires_at > now()))
        $$]],
      "revoke all on function moonpool.token_by_id(text), moonpool.token_exists() from public",
      "alter function moonpool.token_by_id(text) owner to :definer",
      "alter function moonpool.token_exists() owner to :definer",
    },
    grants = { ["moonpool.token_by_id(text)"] = "execute",
               ["moonpool.token_exists()"] = "execute" },
  },

  -- 5: schedules that run once for each tenant: one row for each tenant, and the number of failures
  -- in sequence. The tenants are read as the role that may read all of them, and only for a session
  -- of the host.
  {
    statements = {
      [[alter table moonpool.schedule
          add column tenant       text    not null default '',
          add column succeeded_at timestamptz,
          add column failing      integer not null default 0,
          drop constraint schedule_pkey,
          add constraint schedule_pkey primary key (operation, tenant)]],
      [[create function moonpool.tenants(query text) returns setof text
        language plpgsql stable strict security definer set search_path = pg_catalog, public, pg_temp as $$
        begin
          if current_setting('moonpool.relay', true) is distinct from 'on' then
            raise insufficient_privilege using message = 'moonpool.tenants is for the host''s own sessions';
          end if;
          return query execute 'select distinct t::text from (' || query || E'\n) as q(t) where t is not null limit 100000';
        end $$]],
      "revoke all on function moonpool.tenants(text) from public",
      "alter function moonpool.tenants(text) owner to :definer",
    },
    grants = { ["moonpool.schedule"] = "delete", ["moonpool.tenants(text)"] = "execute" },
  },

  -- 6: the objects that the project's migrations made. `migrate up` records them for
  -- `migrate verify`. Only the owner may read them.
  {
    statements = {
      [[create table moonpool.migration_object (
          kind       text not null,
          name       text not null,
          parent     text,
          definition text not null
        )]],
    },
    grants = {},
  },

  -- 7: functions that read the rows of all tenants are for the host's own sessions only. Each of
  -- them checks the setting moonpool.relay, which no statement of an operation can set. A negative
  -- `keep` is refused: it would delete rows that are still needed.
  {
    statements = {
      [[create function moonpool.host_only() returns void
        language plpgsql stable set search_path = pg_catalog, pg_temp as $$
        begin
          if current_setting('moonpool.relay', true) is distinct from 'on' then
            raise insufficient_privilege using message = 'this function of the schema moonpool is for the host''s own sessions';
          end if;
        end $$]],
      [[create or replace function moonpool.prune(keep interval, most integer, out witnesses bigint, out messages bigint)
        language plpgsql volatile strict security definer set search_path = pg_catalog, pg_temp as $$
        begin
          perform moonpool.host_only();
          if keep < interval '0' or most < 1 then
            raise invalid_parameter_value using message = 'moonpool.prune: keep is not negative, most is at least 1';
          end if;
          with gone as (
            delete from moonpool.witness
             where ctid = any(array(select ctid from moonpool.witness where created_at < now() - keep limit most))
            returning 1
          ) select count(*) into witnesses from gone;
          with gone as (
            delete from moonpool.outbox
             where id = any(array(
               select o.id from moonpool.outbox o
                where o.published_at < now() - keep
                  and not exists (select from moonpool.subscriber s where s.topic = o.topic and s.low <= o.xid)
                  and not exists (select from moonpool.failure f where f.message = o.id)
                limit most))
            returning 1
          ) select count(*) into messages from gone;
        end $$]],
      [[create or replace function moonpool.renumber() returns void
        language plpgsql volatile strict security definer set search_path = pg_catalog, pg_temp as $$
        declare
          above constant xid8 := pg_snapshot_xmax(pg_current_snapshot());
        begin
          perform moonpool.host_only();
          insert into moonpool.delivered (subscriber, message, xid)
          select s.name, o.id, o.xid from moonpool.subscriber s join moonpool.outbox o on o.topic = s.topic and o.xid < s.low
           where s.low > above and o.id <= (select max(id) from moonpool.outbox where xid > above)
             and not exists (select from moonpool.failure f where f.subscriber = s.name and f.message = o.id)
          on conflict do nothing;
          update moonpool.subscriber set low = '3' where low > above;
          update moonpool.delivered set xid = '3' where xid > above;
          update moonpool.outbox set xid = '3' where xid > above;
        end $$]],
      [[create or replace function moonpool.token_by_id(wanted text, out hash text, out tenant text, out user_id text,
                                                        out scopes text, out seconds double precision)
        language plpgsql stable strict security definer set search_path = pg_catalog, pg_temp as $$
        begin
          perform moonpool.host_only();
          select t.hash, t.tenant, t.user_id, array_to_string(t.scopes, ' '), extract(epoch from t.expires_at - now())
            into hash, tenant, user_id, scopes, seconds
            from moonpool.token t
           where t.id = wanted and t.revoked_at is null and (t.expires_at is null or t.expires_at > now());
        end $$]],
      [[create or replace function moonpool.token_exists() returns boolean
        language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
        begin
          perform moonpool.host_only();
          return exists (select from moonpool.token
                          where revoked_at is null and (expires_at is null or expires_at > now()));
        end $$]],
      "revoke all on function moonpool.host_only() from public",
      "grant execute on function moonpool.host_only() to :definer",
    },
    grants = {},
  },
}
