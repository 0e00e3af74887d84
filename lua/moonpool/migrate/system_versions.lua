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
}
