-- What the role of the host may do is a list: what the server offers, less what is taken from the
-- role, less what operations are refused, is what somebody has looked at and found harmless. A
-- newer server cannot add to it unseen.
local db       = require "moonpool.db"
local host     = require "moonpool.host"
local inline   = require "spec.support.data.inline"
local role     = require "moonpool.serve.role"
local test     = require "moonpool.test"

-- Functions whose work is more than to compute: they are volatile, or not safe in parallel workers.
local REACHING = [==[
  select distinct p.proname as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
   where n.nspname in ('pg_catalog', 'information_schema') and p.prokind in ('f', 'p')
     and has_function_privilege(current_user, p.oid, 'execute')
     and (p.provolatile = 'v' or p.proparallel <> 's')
     and p.prorettype <> all (array['trigger', 'event_trigger', 'internal', 'index_am_handler',
       'table_am_handler',
                                    'fdw_handler', 'language_handler', 'tsm_handler']::regtype[])
     and not p.proargtypes::oid[] && array['internal'::regtype::oid, 'cstring'::regtype::oid]]==]

-- Looked at: they tell of time, of this transaction, of counters, sizes and locks (no rows, no
-- texts); wait, within the timeout; ask for rights of their own (owner, superuser, replication), or
-- work only in an upgrade or an event trigger.
local harmless = {}
for name in ([[
  _pg_index_position
  age amvalidate brin_desummarize_range brin_summarize_new_values brin_summarize_range
    clock_timestamp current_query
  current_schema current_schemas currtid2 currval gen_random_uuid gin_clean_pending_list
    inet_client_addr inet_client_port
  inet_server_addr inet_server_port lastval nextval pg_backend_pid pg_blocking_pids
    pg_collation_actual_version
  pg_conf_load_time pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system
    pg_current_wal_flush_lsn
  pg_current_wal_insert_lsn pg_current_wal_lsn pg_current_xact_id pg_current_xact_id_if_assigned
    pg_cursor
  pg_database_collation_actual_version pg_database_size pg_extension_config_dump
    pg_get_multixact_members pg_get_viewdef
  pg_get_wal_replay_pause_state pg_get_wal_resource_managers pg_import_system_collations
    pg_indexes_size pg_is_in_recovery
  pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_jit_available
    pg_last_committed_xact
  pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_listening_channels
    pg_lock_status
  pg_my_temp_schema pg_nextoid pg_notification_queue_usage pg_partition_ancestors pg_partition_tree
    pg_prepared_xact
  pg_relation_size pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_sleep pg_sleep_for
    pg_sleep_until
  pg_stat_clear_snapshot pg_stat_force_next_flush pg_stop_making_pinned_objects pg_table_size
    pg_tablespace_size
  pg_total_relation_size pg_trigger_depth pg_xact_commit_timestamp pg_xact_commit_timestamp_origin
    pg_xact_status
  plpgsql_validator random timeofday txid_current txid_current_if_assigned txid_status
  pg_is_in_backup pg_log_backend_memory_contexts timezone
  array_sample array_shuffle random_normal uuidv4 uuidv7 pg_get_loaded_modules pg_get_sequence_data
    pg_get_wait_events
  pg_clear_attribute_stats pg_clear_relation_stats pg_restore_attribute_stats
    pg_restore_relation_stats]]):gmatch
    "%S+" do
  harmless[name] = true
end
local counters = { "^binary_upgrade_", "^pg_event_trigger_", "^pg_stat_get_[^b]",
                   "^pg_stat_get_b[^a]", "^pg_stat_get_xact_" }

local function is_harmless(name)
  for _, pattern in ipairs(counters) do
    if name:find(pattern) then return true end
  end
  return harmless[name]
end

local function power_of(name)
  for _, power in ipairs(host.powers()) do
    if name == power.name or (power.prefix and name:sub(1, #power.name) == power.name) then
      return power
    end
  end
end

describe("what the application's role may do", function()
  it(
    "is a list: each function of the server is taken from it, refused to operations, or known as \z
      harmless", function()
    local unseen, left = {}, {}
    for _, row in ipairs(db.query(REACHING)) do
      local power = power_of(row.name)
      if power and not power.kept and row.name ~= "ts_rewrite" then left[#left + 1] = row.name end
      if not power and not is_harmless(row.name) then unseen[#unseen + 1] = row.name end
    end
    assert.are.same({}, left)
    assert.are.equal("", table.concat(unseen, " "))
  end)

  -- Looked at: they show definitions, settings of the server and what is of this session alone.
  local harmless_views = {}
  for name in ([[pg_available_extension_versions pg_available_extensions pg_cursors pg_group
    pg_indexes pg_matviews pg_policies pg_publication_tables pg_roles pg_rules pg_seclabels
    pg_sequences pg_tables pg_timezone_abbrevs pg_timezone_names pg_user pg_user_mappings
    pg_views pg_wait_events]]):gmatch "%S+" do
    harmless_views[name] = true
  end

  it("is a list: each view of the server is refused to operations, or known as harmless", function()
    local unseen = {}
    for _, row in ipairs(db.query [[
        select relname as name from pg_class
         where relnamespace = 'pg_catalog'::regnamespace and relkind = 'v'
           and has_table_privilege(oid, 'select') order by 1]]) do
      if not power_of(row.name) and not harmless_views[row.name] then
        unseen[#unseen + 1] = row.name
      end
    end
    assert.are.equal("", table.concat(unseen, " "))
  end)

  -- What formats and joins in those views.
  local helpers = {}
  for name in ([[abs age array_agg array_length array_lower array_ndims array_position array_upper
    btrim coalesce count date_part float8 format format_type generate_series generate_subscripts
    has_column_privilege has_table_privilege has_schema_privilege int4 int8 json_build_object length
    max min now numeric pg_encoding_to_char pg_get_expr pg_get_statisticsobjdef_expressions
    pg_get_userbyid pg_has_role pg_indexam_progress_phasename pg_mcv_list_items row_security_active
    set_masklen substr sum text
    to_char unnest upper lower]]):gmatch "%S+" do
    helpers[name] = true
  end

  it("is a list: no function behind a view that is refused shows the same", function()
    local unseen = {}
    for _, row in ipairs(db.query [[
        select distinct c.relname as view, m[1] as name
          from pg_class c, regexp_matches(pg_get_viewdef(c.oid), '([a-z_][a-z_0-9]*)\(', 'g') m
         where c.relnamespace = 'pg_catalog'::regnamespace and c.relkind = 'v'
           and has_table_privilege(c.oid, 'select')
           and exists (select from pg_proc p where p.proname = m[1]
                          and p.pronamespace = 'pg_catalog'::regnamespace
                          and has_function_privilege(p.oid, 'execute'))
         order by 1, 2]]) do
      if power_of(row.view) and not power_of(row.name) and not helpers[row.name] then
        unseen[#unseen + 1] = row.view .. ": " .. row.name
      end
    end
    assert.are.equal("", table.concat(unseen, " "))
  end)

  it("is told of at the start when a role still may more", function()
    -- the functions of a database are open until it is prepared
    local database = test.database { empty = true }
    local ok, fault = pcall(test.on, database, role.fault)
    database.drop()
    assert(ok, fault)
    assert.matches(
      "moonpool_app may run functions that reach beyond its tenant's rows: .*query_to_xml, \z
        .*ts_stat$", fault)
    assert.is_nil(role.fault())
  end)
end)

describe("an operation cannot", function()
  local texts = {
    "select query_to_xml('select * from moonpool.prune(interval ''-1 day'', 1000000)', true, \z
      false, '')",
    "select pg_catalog.query_to_xml('select 1', true, false, '')",
    [[select "query_to_xml"('select 1', true, false, '')]],
    [[select U&"query\005fto\005fxml"('select 1', true, false, '')]],
    "select QUERY_TO_XMLSCHEMA('select 1', true, false, '')",
    "select database_to_xml(true, false, '')", "select schema_to_xml('public', true, false, '')",
    "select table_to_xml('deals', true, false, '')",
    "select cursor_to_xml('x', 1, true, false, '')",
    "select * from ts_stat('select to_tsvector(hash) from moonpool.token')",
    "select ts_rewrite('a'::tsquery, 'select ''a''::tsquery, ''b''::tsquery')",
    "select 1 where exists (select from ts_stat('select 1'))",
    "values (query_to_xml('select 1', true, false, ''))",
    "select (1).pg_cancel_backend", "select pg_cancel_backend(pid) from x",
    "select pg_terminate_backend(1)",
    "with a as (select pg_terminate_backend(pid) from pg_stat_activity) select count(*) from a",
    "select query from pg_stat_activity", "table pg_stat_activity",
    "select * from pg_stat_get_activity(null)",
    "select * from pg_locks", "select * from pg_lock_status()", "table pg_prepared_xacts",
    "select n_live_tup from pg_stat_user_tables", "select * from pg_catalog.pg_stat_database",
    "select * from pg_statio_user_tables", "select most_common_vals from pg_stats",
    "select pg_stat_get_live_tuples('deals'::regclass)",
    "select pg_stat_get_backend_activity(1)", "select statement from pg_prepared_statements",
    "select pg_advisory_lock(1)", "select pg_try_advisory_xact_lock(1, 2)",
    "select pg_advisory_unlock_all()",
    "lock table deals", "lock table deals in access exclusive mode", "lock deals in row share mode",
    "select pg_logical_emit_message(true, 'x', 'y')", "select pg_notify('moonpool_cache', '[]')",
    "notify moonpool_cache",
    "select pg_create_logical_replication_slot('a', 'b')",
    "select set_config('app.dealership_id', '', true)",
    "update pg_settings set setting = 'x' where name = 'app.a'",
    "select * from pg_show_all_settings()", "select pg_get_replication_slots()",
    "select pg_export_snapshot()", "select lo_from_bytea(0, 'x')", "select lo_get(1)",
    "select setval('a', 1)",
    "select pg_read_file('x')", "select pg_ls_dir('.')", "select dblink_exec('host=x', 'select 1')",
    "select * from crosstab('select 1') as t(a int)",
    "insert into a select lo_import('/etc/passwd')",
    "update a set b = 1 from pg_stat_activity", "delete from a using pg_stat_activity",
    "select 1 order by pg_notify('a', 'b')",
    "insert into a values (1) on conflict (a) do update set a = pg_notify('a', 'b')",
    "insert into a values (1) returning pg_notify('a', 'b')",
  }
  for _, text in ipairs(texts) do
    it(text, function()
      local seen = {}
      local e = inline.refusal(function(tx)
        local ok, first = pcall(tx.query, tx, text)
        seen.ok, seen.e = ok, first
        error(first, 0)
      end)
      assert.is_false(seen.ok)
      assert.are.equal("INVALID_ARGUMENT", e.code, e.message)
      inline.contains(e.message, "the SQL text")
    end)
  end

  it("is not in the way of texts and columns that only look alike", function()
    assert.are.equal("select pg_notify('a', 'b')", inline.call(function(tx)
      return tx:value(
        [[select 'select pg_notify(''a'', ''b'')'::text as lo_price, 1 as pg_notify
          where $1 = 'setval']], "setval")
    end))
  end)
end)
