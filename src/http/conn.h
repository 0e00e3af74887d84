/* conn.h: one client's connection, for the files of http/ only.
 *
 *   READING <--> CALLED --> STREAMING       READING: between or within requests
 *     |  ^         |  |       |  |          CALLED: the handler has the request
 *     |  |_________|__|_______|  |          STREAMING: ... and has started to answer it
 *     |            v             |          LAST: the last answer is on its way, then ours is shut
 *     |--------> LAST <----------|          down and what still comes is thrown away
 *     |            v             |          CLOSING: the socket is being closed
 *     '-------> CLOSING <--------'          CLOSED: ... has been; the handler may own a request
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
  uv_read_cb on_read;                       /* read.c */
  void (*go_on)(struct mp_http_conn *conn); /* read.c: with what was read ahead */
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
  uint64_t pump_ms, pump_ns; /* when connections last began to go on with what is ahead */
  struct mp_buf out;         /* an answer's head is put together here */
  char date[40];             /* the header, of the second `date_s` */
  uint64_t date_s;
  char scratch[64 * 1024]; /* bytes just read, before they are parsed or kept */
};

/* ---- conn.c ---- */

static inline bool mp_http_conn_lost(const struct mp_http_conn *conn) {
  return conn->state == MP_HTTP_CLOSING || conn->state == MP_HTTP_CLOSED;
}
/* False: the move was forbidden, or left the connection unsound; it is being closed. */
bool mp_http_conn_move(struct mp_http_conn *conn, enum mp_http_conn_state to);
void mp_http_conn_close(struct mp_http_conn *conn);
/* CLOSED, and the handler does not own its request. */
void mp_http_conn_free(struct mp_http_conn *conn);
/* Tells the handler that the client is gone. The connection may be freed by it. */
void mp_http_conn_tell_gone(struct mp_http_conn *conn);
/* LAST, and all is written: shuts our side down and waits a little for the client's end. */
void mp_http_conn_shut_down(struct mp_http_conn *conn);
void mp_http_conn_set_deadline(struct mp_http_conn *conn, uint64_t delay_ms);
void mp_http_conn_set_reading(struct mp_http_conn *conn, bool on);
/* What the client is waited for, or what is kept for it, may have changed (crowd.h). */
void mp_http_conn_see(struct mp_http_conn *conn);

/* ---- answer.c ---- */

/* Sends the pieces, in order; what the socket does not take at once is copied. */
void mp_http_conn_write(struct mp_http_conn *conn, const uv_buf_t *pieces, unsigned n);
/* Answers for the server itself, with an error's JSON; the connection ends with it. */
void mp_http_conn_refuse(struct mp_http_conn *conn, int status, const char *why);

/* ---- read.c ---- */

void mp_http_conn_accept(struct mp_http_server *server);
/* The server drains: an idle connection ends, at once or when a request that may be on its way had
 * its time. */
void mp_http_conn_drain(struct mp_http_conn *conn);
/* The crowd's: closes the connection, or refuses what its client is sending. */
void mp_http_conn_dismiss(struct mp_http_seat *seat, bool for_memory);

#endif
