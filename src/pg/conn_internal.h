/* conn_internal.h: struct mp_conn, for the files of pg/ only.
 *
 * conn.c is the ground: it knows the others by `parts` only. copy.c and conn_io.c stand on it,
 * conn_open.c on both. */
#ifndef MP_CONN_INTERNAL_H
#define MP_CONN_INTERNAL_H

#include <uv.h>

#include "pg/conn.h"
#include "pg/servers.h"
#include "pg/stmt_cache.h"
#include "util/sm.h"

#define MP_CONN_STATE_MAP(X)                                                      \
  X(OPENING, MP_TO(MP_CONN_READY) | MP_TO(MP_CONN_LOST) | MP_TO(MP_CONN_CLOSING)) \
  X(READY, MP_TO(MP_CONN_LOST) | MP_TO(MP_CONN_CLOSING))                          \
  X(LOST, MP_TO(MP_CONN_CLOSING))                                                 \
  X(CLOSING, MP_TO(MP_CONN_CLOSED))                                               \
  X(CLOSED, 0u)

enum mp_conn_state {
#define X(name, to) MP_CONN_##name,
  MP_CONN_STATE_MAP(X)
#undef X
};

/* The messages that the server must still answer, in the order sent. */
enum mp_op_kind { MP_OP_PARSE, MP_OP_EXEC, MP_OP_SYNC, MP_OP_DEALLOCATE, MP_OP_OWN_SYNC };

struct mp_op {
  enum mp_op_kind kind;
  bool failed_parse; /* EXEC: its Parse failed and has told the request already */
  union {
    struct mp_req *req;   /* EXEC, and PARSE: the request that it was made for */
    struct mp_sync *sync; /* SYNC */
  };
};

struct mp_op_ring { /* a growing ring */
  struct mp_op *at;
  size_t head, len, cap;
};

/* The files above conn.c, as conn.c calls them. */
struct mp_conn_parts {
  uv_poll_cb on_io;                                             /* the socket is ready */
  void (*fail)(struct mp_conn *conn, const struct mp_err *err); /* all that waits for an answer */
  void (*stop_opening)(struct mp_conn *conn);
};

struct mp_conn {
  struct mp_loop *loop;
  struct mp_conn_events events;
  void *data;
  const struct mp_conn_parts *parts;
  enum mp_conn_state state;
  PGconn *pg;
  uv_poll_t *poll; /* a new one for each socket that libpq may have opened */
  int poll_mask;
  struct mp_timer connect_timer;
  struct mp_timer end_timer; /* brings the end, and failures after it, to the next turn */
  struct mp_err end;         /* why it ends; set once */
  bool ending;               /* `end` is set: nothing is sent any more */
  int pins;                  /* callbacks under way that still point here */
  uint64_t opened_ms;
  struct mp_err last_fatal; /* the server's last FATAL, which libpq reports as a notice only */

  struct mp_op_ring ops;
  struct mp_list unsent;          /* struct mp_unsent: came while it was ending */
  struct mp_result *result;       /* of the op at the head, until libpq says that it is complete */
  bool aborted_result;            /* ... which was "pipeline aborted" */
  uint64_t arrived, answer_limit; /* bytes since the last answer was complete; as in the options */
  struct mp_stmt_cache stmts;

  struct mp_copy *copy; /* under way; pipeline mode is left */

  struct mp_cancel *cancel;       /* in flight */
  uint64_t answered, cancel_upto; /* count of ops; cancel until it reaches this */
  struct mp_timer cancel_timer;   /* to the next try */
  uint64_t cancel_pause_ms;

  struct mp_opening *opening; /* until it is connected (opening.h) */
  struct mp_servers *servers; /* NULL: nothing is remembered */
  char server[MP_SERVER_KEY]; /* that it is connected to */
};

/* conn.c */
/* Of a zeroed connection whose events, data and parts are set. */
void mp_conn_init(struct mp_conn *conn, struct mp_loop *loop);
/* False: the move was forbidden, or left the connection unsound; the connection ends. */
bool mp_conn_move(struct mp_conn *conn, enum mp_conn_state to);
/* Ends the connection with the reason in `err`; owner and requests are told on the next turn. */
void mp_conn_end(struct mp_conn *conn, const struct mp_err *err);
void mp_conn_watch(struct mp_conn *conn, int mask, uv_poll_cb cb);
void mp_conn_unwatch(struct mp_conn *conn);
void mp_conn_unpin(struct mp_conn *conn);
bool mp_conn_canceling(const struct mp_conn *conn); /* is a request to cancel on its way? */
bool mp_conn_tls_pending(struct mp_conn *conn);

/* copy.c */
void mp_conn_copy_io(struct mp_conn *conn);
void mp_conn_copy_fail(struct mp_conn *conn, const struct mp_err *err);

/* conn_io.c */
void mp_conn_on_io(uv_poll_t *poll, int status, int events);
void mp_conn_fail_ops(struct mp_conn *conn, const struct mp_err *err);

#endif
