/* conn.h: one asynchronous PostgreSQL connection, always in pipeline mode, on one loop.
 *
 *   OPENING --> READY --> LOST --> CLOSING --> CLOSED     OPENING: names resolved, libpq connects
 *      \________\______________/                          READY: requests may be sent
 *                                                         LOST: requests fail; it must be closed
 *
 * Requests are sent in segments: any number of mp_conn_send, then one mp_conn_sync, which the
 * server answers as one unit (PostgreSQL manual, 34.5 "Pipeline Mode"): after a failed request the
 * rest of its segment is skipped. Several segments may be under way; nothing waits here.
 *
 * A connection never retries and knows no pool and no transaction.
 * Owner: whoever called mp_conn_open. If open succeeds it must be closed; close is legal in every
 * state and any number of times; the memory is gone after on_closed has returned. No function calls
 * back before it returns, except mp_conn_close on its pending requests, which happens on the next
 * turn of the loop. Thread: the loop's. */
#ifndef MP_CONN_H
#define MP_CONN_H

#include <stdint.h>

#include "loop/loop.h"
#include "pg/result.h"
#include "util/err.h"
#include "util/list.h"

struct mp_conn;
struct mp_servers;

struct mp_conn_options {
  const char *url;      /* anything PQconninfoParse accepts */
  const char *purpose;  /* NULL, or a word behind the application_name: "moonpool listen" */
  const char *settings; /* server settings for the session, as "-c name=value ...", or NULL */
  uint64_t connect_timeout_ms; /* for the whole of resolving and connecting, over all servers */
  struct mp_servers
      *servers; /* the servers that were silent lately; outlives the connection; may be NULL */
  /* Bytes of one answer; one that is longer ends the connection, because libpq keeps all of it. 0:
   * any number. */
  uint64_t answer_limit;
  unsigned statement_cache; /* prepared statements kept per connection; 0: prepare nothing */
};

struct mp_conn_events {
  /* Ready (err NULL), or it could not connect (err set): then it is LOST and the owner closes
   * it. */
  void (*on_open)(struct mp_conn *conn, void *data, const struct mp_err *err);
  /* It broke after it was ready and is LOST; its requests have ended with the error. The owner
   * closes it, at once or when its user has released it. */
  void (*on_lost)(struct mp_conn *conn, void *data, const struct mp_err *err);
  void (*on_closed)(void *data); /* the last callback; the connection's memory is freed */
  /* LISTEN's notification; may be NULL. The strings are borrowed. */
  void (*on_notify)(struct mp_conn *conn, void *data, const char *channel, const char *payload);
};

int mp_conn_open(struct mp_conn **out, struct mp_loop *loop, const struct mp_conn_options *options,
                 const struct mp_conn_events *events, void *data, struct mp_err *err) MP_MUST_CHECK;
/* Pending requests end with MP_ECLOSED. `reason` goes to the log. */
void mp_conn_close(struct mp_conn *conn, const char *reason);

/* Gives the connection up: requests under way and later ones fail with `why` from the next turn on.
 * It is LOST; the owner still has to close it. */
void mp_conn_break(struct mp_conn *conn, const struct mp_err *why);

enum {
  MP_REQ_ONCE = 1u << 0,     /* do not prepare: the text will hardly be used again */
  MP_REQ_DESCRIBE = 1u << 1, /* do not execute: the result tells parameter and column types */
};

/* The connection's: in its list of what is told of its end without having been sent. */
struct mp_unsent {
  struct mp_list node;
  void (*tell)(struct mp_unsent *unsent, const struct mp_err *err);
};

/* One statement. Values are in text format; NULL is SQL NULL; `types` (or an entry 0) lets the
 * server infer. The memory, and all it points at, is the caller's and stays until on_done. */
struct mp_req {
  const char *sql;
  int nparams;
  const char *const *values;
  const Oid *types; /* may be NULL */
  unsigned flags;
  /* Once for each request sent. `result`: the server's answer, NULL if there is none; borrowed
   * (take a reference to keep it). `err`: NULL on success; MP_ESQL with `result` for what the
   * server reported; MP_ECANCELED when an earlier request of the segment failed and this one was
   * skipped. */
  void (*on_done)(struct mp_req *req, struct mp_result *result, const struct mp_err *err);
  struct mp_unsent unsent;
};

/* The end of a segment. */
struct mp_sync {
  /* All requests of the segment have been answered. err: the connection was lost or closed; or
   * MP_ESQL with `result`: the segment was a transaction of its own (no BEGIN) and its end failed,
   * as a deferred constraint does, although each request succeeded. */
  void (*on_done)(struct mp_sync *sync, struct mp_result *result, const struct mp_err *err);
  struct mp_unsent unsent;
};

/* Queues a request or the end of a segment. Never fails and never calls back at once: on a
 * connection that is lost or closing the callbacks come on the next turn, with the error.
 * mp_conn_sync also sends what is queued. */
void mp_conn_send(struct mp_conn *conn, struct mp_req *req);
void mp_conn_sync(struct mp_conn *conn, struct mp_sync *sync);

/* Asks the server to cancel what has been sent, on a thread of its own because libpq's call blocks.
 * Repeats the request until the statement is answered: a backend that has not started the statement
 * ignores it. Until then the connection is not reusable, or the cancel could hit the next
 * statement. One at a time. */
int mp_conn_cancel(struct mp_conn *conn, struct mp_err *err);

/* Whether a cancel could still hit what is sent now: a request is under way or will be repeated. */
bool mp_conn_cancel_pending(const struct mp_conn *conn);

/* Ready and, as far as we know, not lost: what is sent now can reach the server. */
bool mp_conn_alive(const struct mp_conn *conn);
/* Nothing under way, no cancel in flight, no transaction open, not lost. */
bool mp_conn_reusable(const struct mp_conn *conn);
PGTransactionStatusType mp_conn_tx_status(const struct mp_conn *conn);
int mp_conn_backend_pid(const struct mp_conn *conn);
uint64_t mp_conn_opened_ms(const struct mp_conn *conn); /* loop time */
/* Has the server said that it takes no writes: a standby, or default_transaction_read_only? */
bool mp_conn_read_only(const struct mp_conn *conn);
/* Whether a statement failed only because the server takes no writes (and not because this
 * transaction is READ ONLY). Then `err` says so and is marked retryable: another server may take
 * it. Ask when the segment has ended: by then the server has reported its changed settings. */
bool mp_conn_took_no_write(const struct mp_conn *conn, struct mp_err *err);
const char *mp_conn_server(
    const struct mp_conn *conn); /* "127.0.0.1:5432": the address that was connected to */
/* Text of the oldest statement under way, or NULL; for reports. */
const char *mp_conn_running_sql(const struct mp_conn *conn);

#endif
