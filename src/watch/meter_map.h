/* meter_map.h: the list of the host's own metrics, for metrics.c. */
#ifndef MP_METER_MAP_H
#define MP_METER_MAP_H

/* The host's own metrics: field, name, kind, help, labels. scripts/monitoring/README.md explains
 * them. */
#define MP_METER_MAP(X)                                                                            \
  X(transactions, "moonpool_transactions_total", MP_COUNTER,                                       \
    "Transactions that have ended, retries not counted, by outcome.", "operation", "isolation",    \
    "outcome")                                                                                     \
  X(transaction_duration, "moonpool_transaction_duration_seconds", MP_HISTOGRAM,                   \
    "Time of a transaction over all its attempts and waits.", "operation", "isolation")            \
  X(transaction_failures, "moonpool_transaction_failures_total", MP_COUNTER,                       \
    "Transactions that failed for no decision of their script, by SQLSTATE class or host error.",  \
    "operation", "reason")                                                                         \
  X(retries, "moonpool_transaction_retries_total", MP_COUNTER,                                     \
    "Further attempts of transactions, by what called for them.", "operation", "reason")           \
  X(retries_refused, "moonpool_transaction_retries_refused_total", MP_COUNTER,                     \
    "Transactions that were not tried again, by whose budget for retries was used up.",            \
    "operation", "reason")                                                                         \
  X(round_trips, "moonpool_transaction_round_trips_total", MP_COUNTER,                             \
    "Round trips to the database, of last attempts.", "operation")                                 \
  X(group_size, "moonpool_group_size", MP_HISTOGRAM, "Calls that shared a database transaction.",  \
    NULL)                                                                                          \
  X(lane_wait, "moonpool_lane_wait_seconds", MP_HISTOGRAM,                                         \
    "Time that calls waited for their turn in a lane.", NULL)                                      \
  X(lanes_waiting, "moonpool_lane_waiters", MP_GAUGE, "Calls that wait in lanes now.", NULL)       \
  X(lanes_active, "moonpool_lanes_active", MP_GAUGE, "Lanes that a call is in now.", NULL)         \
  X(query_duration, "moonpool_query_duration_seconds", MP_HISTOGRAM,                               \
    "Time from sending a statement to its answer.", "operation")                                   \
  X(query_errors, "moonpool_query_errors_total", MP_COUNTER,                                       \
    "Statements that failed, by SQLSTATE class (none: no answer came).", "sqlstate_class")         \
  X(slow_queries, "moonpool_slow_queries_total", MP_COUNTER,                                       \
    "Statements slower than DB_SLOW_QUERY_THRESHOLD.", "operation")                                \
  X(failed_calls, "moonpool_calls_failed_total", MP_COUNTER,                                       \
    "Calls that failed, by operation, code and whose fault: caller, operator or transient.",       \
    "operation", "code", "fault")                                                                  \
  X(faults, "moonpool_faults_total", MP_COUNTER, "Calls that failed, by whose fault.", "fault")    \
  X(hook_errors, "moonpool_hook_errors_total", MP_COUNTER,                                         \
    "Errors in after_commit and on_rollback hooks.", NULL)                                         \
  X(database_up, "moonpool_database_up", MP_GAUGE,                                                 \
    "1 if the last health check of the database succeeded.", NULL)                                 \
  X(health_state, "moonpool_health_state", MP_GAUGE,                                               \
    "1 for the state that the host is in, 0 for the others.", "state")                             \
  X(health_seconds, "moonpool_health_state_seconds", MP_GAUGE,                                     \
    "For how long it has been in its state, 0 for the others.", "state")                           \
  X(health_failures, "moonpool_health_check_failures", MP_GAUGE,                                   \
    "Health checks of the database that failed in a row.", NULL)                                   \
  X(connections, "moonpool_pool_connections", MP_GAUGE, "Connections by state.", "state")          \
  X(connections_max, "moonpool_pool_connections_max", MP_GAUGE, "Most connections allowed.", NULL) \
  X(connections_min, "moonpool_pool_connections_min", MP_GAUGE, "Connections kept when idle.",     \
    NULL)                                                                                          \
  X(waiters, "moonpool_pool_waiters", MP_GAUGE, "Calls that wait for a connection now.", NULL)     \
  X(pool_wait, "moonpool_pool_wait_seconds", MP_HISTOGRAM, "Time until a connection was had.",     \
    NULL)                                                                                          \
  X(pool_use, "moonpool_pool_use_seconds", MP_HISTOGRAM, "Time for which a connection was held.",  \
    NULL)                                                                                          \
  X(pool_connect, "moonpool_pool_connect_seconds", MP_HISTOGRAM,                                   \
    "Time that opening a connection took.", NULL)                                                  \
  X(timeouts, "moonpool_pool_timeouts_total", MP_COUNTER,                                          \
    "Waits for a connection that ended at their deadline.", NULL)                                  \
  X(refused, "moonpool_pool_refused_total", MP_COUNTER,                                            \
    "Requests for a connection refused because the queue was full.", NULL)                         \
  X(connects, "moonpool_pool_connects_total", MP_COUNTER, "Connections that were opened.", NULL)   \
  X(connect_failures, "moonpool_pool_connect_failures_total", MP_COUNTER,                          \
    "Connections that could not be opened.", NULL)                                                 \
  X(lost, "moonpool_pool_connections_lost_total", MP_COUNTER, "Connections that broke.", NULL)     \
  X(leaks, "moonpool_pool_leaks_total", MP_COUNTER,                                                \
    "Connections held longer than MOONPOOL_LEAK_THRESHOLD.", NULL)                                 \
  X(webhook, "moonpool_alert_webhook_total", MP_COUNTER,                                           \
    "Changes of alerts for MOONPOOL_ALERT_WEBHOOK, by what became of them.", "result")             \
  X(traces, "moonpool_otlp_calls_total", MP_COUNTER,                                               \
    "Calls for MOONPOOL_OTLP_ENDPOINT, by what became of them.", "result")                         \
  X(loop_lag, "moonpool_loop_lag_seconds", MP_HISTOGRAM,                                           \
    "Time for which one turn of the event loop kept all others waiting.", NULL)                    \
  X(loop_longest, "moonpool_loop_lag_longest_seconds", MP_GAUGE,                                   \
    "The longest turn of the event loop in the last 15 to 30 seconds.", NULL)                      \
  X(live_work, "moonpool_live_work", MP_GAUGE, "Transactions and statements under way.", NULL)     \
  X(tasks, "moonpool_tasks", MP_GAUGE, "Tasks of the scheduler that have not ended.", NULL)        \
  X(lua_memory, "moonpool_lua_memory_bytes", MP_GAUGE, "Memory of all Lua values.", NULL)          \
  X(build_info, "moonpool_build_info", MP_GAUGE, "Always 1; the label is the version.", "version") \
  X(start_time, "process_start_time_seconds", MP_GAUGE,                                            \
    "When the host was opened, in seconds since 1970.", NULL)                                      \
  X(cpu, "process_cpu_seconds_total", MP_COUNTER, "CPU time, user and system.", NULL)              \
  X(memory, "process_resident_memory_bytes", MP_GAUGE, "Resident memory.", NULL)                   \
  X(fds, "process_open_fds", MP_GAUGE, "Open file descriptors.", NULL)

#endif
