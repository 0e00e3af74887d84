/* conn.h: one client's connection, for the files of http/ only.
 *
 *   READING <--> CALLED --> STREAMING       READING: between or within requests
 *     |  ^         |  |       |  |          CALLED: the handler has the request
 *     |  |_________|__|_______|  |          STREAMING: ... and has started to answer it
 *     |            v             |          LAST: the last answer is on its way, then ours is shut
 *     |--------> LAST <----------|          down and what still comes is thrown away
 *     |            v             |          CLOSING: the socket is being closed
 *     '-------> CLOSING <--------'          CLOSED: ... has been; the handler may still own a request
 *                  v
 *               CLOSED
 *
 * Owner: the server's list, until the socket is closed and no handler owns the request. */
#ifndef MP_HTTP_CONN_H
#define MP_HTTP_CONN_H

#include <uv.h>

#include "http/crowd.h"
#include "http/server.h"
#include "util/list.h"
#include "util/sm.h"

#define MP_HTTP_CONN_STATE_MAP(X)                                                     \
  X(READING, MP_TO(MP_HTTP_CALLED) | MP_TO(MP_HTTP_LAST) | MP_TO(MP_HTTP_CLOSING))    \
  X(CALLED, MP_TO(MP_HTTP_READING) | MP_TO(MP_HTTP_STREAMING) | MP_TO(MP_HTTP_LAST) | \
                MP_TO(MP_HTTP_CLOSING))                                               \
  X(STREAMING, MP_TO(MP_HTTP_READING) | MP_TO(MP_HTTP_LAST) | MP_TO(MP_HTTP_CLOSING)) \
  X(LAST, MP_TO(MP_HTTP_CLOSING))                                                     \
  X(CLOSING, MP_TO(MP_HTTP_CLOSED))                                                   \
  X(CLOSED, 0u)

enum mp_http_conn_state {
#define X(name, to) MP_HTTP_##name,
  MP_HTTP_CONN_STATE_MAP(X)
#undef X
};

struct mp_http_conn {
  struct mp_http_server *server;
  struct mp_list node; /* in server->conns */
  uv_tcp_t tcp;
  uv_shutdown_t shutdown;
  enum mp_http_conn_state state;
  struct mp_http_parser parser;
  struct mp_http_request request; /* the handler's while `owned` */
  struct mp_http_seat seat;
  bool owned;
  bool served;      /* a whole request has come */
  bool extra;       /* beyond the limit of connections */
  bool in_request;  /* its first byte has been read */
  bool last_answer; /* the connection ends with the answer under way */
  bool framed;      /* a stream's pieces are chunks */
  bool silent;      /* the answer's body is not sent: HEAD */
  bool reading;     /* from the socket */
  bool ended;       /* the client will send nothing more */
  bool shut;        /* our side has been shut down, or is being */

  struct mp_buf ahead; /* read, and not yet given to the parser */
  size_t ahead_at;
  struct mp_timer pump;  /* goes on with what is ahead, on the next turn */
  struct mp_timer timer; /* runs at or before `deadline_ms`; moved only when it must fire earlier */
  uint64_t deadline_ms;
  uint64_t active_ms;     /* last byte in or answer out */
  uint64_t body_start_ms; /* 0: not in the body */
  uint64_t body_seen;     /* bytes of the body, as they came */

  unsigned writes; /* under way */
  size_t unsent;   /* bytes of them */
  size_t unsent_seen;
};

struct mp_http_server {
  struct mp_loop *loop;
  struct mp_http_options options;
  struct mp_http_events events;
  void *data;
  uv_tcp_t tcp;
  bool draining, closed; /* closed: the listening socket's handle is gone */
  int port;
  struct mp_list conns;
  struct mp_http_crowd crowd;
  struct mp_http_stats stats;
  struct mp_timer timer; /* of the drain: first the end of listening, then the deadline */
  uint64_t grace_end_ms;
  struct mp_buf out; /* an answer's head is put together here */
  char date[40];     /* the header, of the second `date_s` */
  uint64_t date_s;
  char scratch[64 * 1024]; /* what is read, before anybody keeps it */
};

/* server.c */
void mp_http_server_settle(
    struct mp_http_server *server); /* a connection is gone: perhaps it was the last */

/* conn.c */
static inline bool mp_http_conn_lost(const struct mp_http_conn *conn) {
  return conn->state == MP_HTTP_CLOSING || conn->state == MP_HTTP_CLOSED;
}
void mp_http_conn_move(struct mp_http_conn *conn, enum mp_http_conn_state to);
void mp_http_conn_accept(struct mp_http_server *server);
void mp_http_conn_close(struct mp_http_conn *conn);
/* The server drains: an idle connection ends, at once or when a request that may be on its way had
 * its time. */
void mp_http_conn_drain(struct mp_http_conn *conn);
/* The answer has been handed to the socket: on to the next request, or to the end. */
void mp_http_conn_answered(struct mp_http_conn *conn);
/* The socket took all that was written. */
void mp_http_conn_written(struct mp_http_conn *conn);
void mp_http_conn_set_deadline(struct mp_http_conn *conn, uint64_t delay_ms);

/* answer.c */
/* Sends the pieces, in order; what the socket does not take at once is copied. */
void mp_http_conn_write(struct mp_http_conn *conn, const uv_buf_t *pieces, unsigned n);
/* Answers for the server itself, with an error's JSON; the connection ends with it. */
void mp_http_conn_refuse(struct mp_http_conn *conn, int status, const char *why);

#endif
