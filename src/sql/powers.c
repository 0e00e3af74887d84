#include "sql/powers.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "util/attr.h"

static const char text[] = "it runs SQL given as text, which cannot be checked";
static const char sessions[] = "it reaches other sessions";
static const char tenants[] = "it tells of the work or the rows of all tenants";
static const char locks[] = "use a lane, or lock rows (select ... for update)";
static const char wal[] = "it reaches the server's log or replication";
static const char channels[] = "use tx:publish, or db.notify in tx:after_commit";
static const char settings[] = "it reaches the session's settings";
static const char snapshots[] = "it exports the transaction's snapshot";
static const char objects[] = "row level security does not protect large objects";
static const char files[] = "it reaches the server's files";
static const char sequences[] = "a sequence serves all tenants: use nextval";

/* Functions, and relations that show the results of such functions. A name that ends in a star is a
 * prefix. `kept`: the role keeps the privilege because the host needs it; all others are revoked
 * from the role (roles.sql). */
static const struct power {
  const char *name, *why;
  bool kept;
} powers[] = {
    {"query_to_xml*", text, false},
    {"cursor_to_xml*", text, false},
    {"table_to_xml*", text, false},
    {"schema_to_xml*", text, false},
    {"database_to_xml*", text, false},
    {"ts_stat", text, false},
    {"ts_rewrite", text, false},
    {"dblink*", text, false},
    {"crosstab*", text, false},
    {"connectby", text, false},
    {"xpath_table", text, false},
    {"pg_cancel_backend", sessions, false},
    {"pg_terminate_backend", sessions, true},
    {"pg_stat_activity", sessions, true},
    {"pg_stat_get_activity", sessions, true},
    {"pg_stat_get_backend_*", sessions, true},
    {"pg_stat_replication", sessions, true},
    {"pg_stat_get_wal_senders", sessions, true},
    {"pg_stat_ssl", sessions, true},
    {"pg_stat_gssapi", sessions, true},
    {"pg_stat_statements*", sessions, false},
    {"pg_prepared_statement*", sessions, true},
    {"pg_locks", sessions, true},
    {"pg_lock_status", sessions, true},
    {"pg_prepared_xact*", sessions, true},
    {"pg_stat_*", tenants, true},
    {"pg_statio_*", tenants, true},
    {"pg_stats*", tenants, true},
    {"pg_statistic*", tenants, true},
    {"pg_advisory_*", locks, true},
    {"pg_try_advisory_*", locks, true},
    {"pg_logical_*", wal, false},
    {"pg_create_logical_replication_slot", wal, false},
    {"pg_create_physical_replication_slot", wal, false},
    {"pg_copy_logical_replication_slot", wal, false},
    {"pg_copy_physical_replication_slot", wal, false},
    {"pg_drop_replication_slot", wal, false},
    {"pg_replication_*", wal, false},
    {"pg_get_replication_slots", wal, true},
    {"pg_sync_replication_slots", wal, false},
    {"pg_switch_wal", wal, false},
    {"pg_wal_summary_contents", wal, false},
    {"pg_available_wal_summaries", wal, false},
    {"pg_get_wal_summarizer_state", wal, false},
    {"pg_create_restore_point", wal, false},
    {"pg_notify", channels, true},
    {"set_config", settings, false},
    {"setseed", settings, true},
    {"pg_settings", settings, true},
    {"pg_show_all_settings", settings, true},
    {"pg_reload_conf", settings, false},
    {"pg_export_snapshot", snapshots, false},
    {"lo_close", objects, false},
    {"lo_creat", objects, false},
    {"lo_create", objects, false},
    {"lo_export", objects, false},
    {"lo_from_bytea", objects, false},
    {"lo_get", objects, false},
    {"lo_import", objects, false},
    {"lo_lseek", objects, false},
    {"lo_lseek64", objects, false},
    {"lo_manage", objects, false},
    {"lo_open", objects, false},
    {"lo_put", objects, false},
    {"lo_tell", objects, false},
    {"lo_tell64", objects, false},
    {"lo_truncate", objects, false},
    {"lo_truncate64", objects, false},
    {"lo_unlink", objects, false},
    {"loread", objects, false},
    {"lowrite", objects, false},
    {"pg_largeobject*", objects, false},
    {"pg_read_*", files, false},
    {"pg_ls_*", files, false},
    {"pg_stat_file", files, false},
    {"pg_file_*", files, false},
    {"pg_rotate_logfile*", files, false},
    {"setval", sequences, true},
};

const char *mp_power_refused(const char *name, size_t len) {
  for (size_t i = 0; i < MP_ARRAY_LEN(powers); i++) {
    const char *known = powers[i].name;
    size_t n = strcspn(known, "*");
    if (known[n] ? len >= n && !strncmp(name, known, n) : len == n && !strncmp(name, known, n))
      return powers[i].why;
  }
  return NULL;
}

/* In the tree, names have nodes of their own and relations have a field, so string constants are
 * not mistaken for names. */
const char *mp_powers_in(const char *tree, char out[64]) {
  static const char *const marks[] = {"{\"String\":{\"sval\":\"", "\"relname\":\""};
  for (size_t i = 0; i < MP_ARRAY_LEN(marks); i++) {
    for (const char *at = tree; (at = strstr(at, marks[i]));) {
      at += strlen(marks[i]);
      size_t len = strcspn(at, "\"");
      const char *why = mp_power_refused(at, len);
      if (!why) continue;
      snprintf(out, 64, "%.*s", len < 63 ? (int)len : 63, at);
      return why;
    }
  }
  return NULL;
}

int mp_powers_list(lua_State *L) {
  lua_createtable(L, (int)MP_ARRAY_LEN(powers), 0);
  for (size_t i = 0; i < MP_ARRAY_LEN(powers); i++) {
    size_t n = strcspn(powers[i].name, "*");
    lua_createtable(L, 0, 4);
    lua_pushlstring(L, powers[i].name, n);
    lua_setfield(L, -2, "name");
    lua_pushboolean(L, powers[i].name[n] != '\0');
    lua_setfield(L, -2, "prefix");
    lua_pushstring(L, powers[i].why);
    lua_setfield(L, -2, "why");
    lua_pushboolean(L, powers[i].kept);
    lua_setfield(L, -2, "kept");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}
