-- The host's own table of witnesses, as `moonpool migrate` makes it, but without row level security: the bench works as a
-- superuser, whom no policy binds.
create schema moonpool;
create table moonpool.witness (
  id         uuid        not null,
  operation  text        not null,
  tenant     text,
  input_hash text,
  result     text,
  void       boolean     not null default false,
  created_at timestamptz not null default now(),
  constraint witness_pkey primary key (id)
);
create index witness_created_at_idx on moonpool.witness using brin (created_at);
