-- moonpool.migrate.system_versions: what makes the host's own tables, version by version; a released version is never
-- edited. :definer is the role that owns the functions that cross tenants, :application one that the host runs as.
-- `grants` are what the latter needs; they may be run again. `granted`: a query whether $1 has got them.
return {
  -- 1: witnesses: proof, under an id that the host chose, that a transaction has committed, with its result.
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
      -- The one that the host asks for, by SET LOCAL, and no other.
      [[create policy witness_read on moonpool.witness for select
          using (id = nullif(current_setting('moonpool.witness', true), '')::uuid)]],
      [[create policy witness_result on moonpool.witness for update
          using (id = nullif(current_setting('moonpool.witness', true), '')::uuid)]],
      "create policy witness_keep on moonpool.witness to :definer using (true)",
      "grant select, delete on moonpool.witness to :definer",
    },
    grants  = { "grant select, insert, update (result) on moonpool.witness to :application" },
    granted = [[select has_schema_privilege($1, 'moonpool', 'usage')
                   and has_table_privilege($1, 'moonpool.witness', 'select')
                   and has_table_privilege($1, 'moonpool.witness', 'insert')
                   and has_column_privilege($1, 'moonpool.witness', 'result', 'update')]],
  },
  -- 2: tokens of the HTTP service. The host may ask for one by its id, never for all; only `moonpool token`, as the owner,
  -- makes and revokes them. What is kept is a hash of the secret.
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
    grants  = { "grant execute on function moonpool.token_by_id(text), moonpool.token_exists() to :application" },
    granted = [[select has_function_privilege($1, 'moonpool.token_by_id(text)', 'execute')
                   and has_function_privilege($1, 'moonpool.token_exists()', 'execute')]],
  },
}
