/* server.h: an HTTP/1.1 server for machines behind a proxy and for people on the same machine. No
 * TLS, no HTTP/2, no files: whole requests in, answers out, in one piece or as a stream.
 *
 * Requests of one connection are handed out one after the other, so pipelined ones are answered in
 * order. Every size and every wait has a limit. Malformed requests never reach the handler.
 *
 *   LISTENING --> DRAINING --> CLOSED
 *
 * Owner of the server: whoever opened it; if open succeeds it must be closed; close is legal in
 * every state and any number of times; the memory is gone after on_closed has returned. Owner of a
 * request: the handler, from on_request to mp_http_respond or mp_http_stream_end, exactly one of
 * which must be called, whatever becomes of the client. Until then its views stay valid, and the
 * server stays. No function calls back before it returns. Thread: the loop's. */
#ifndef MP_HTTP_SERVER_H
#define MP_HTTP_SERVER_H

#include <stdint.h>

#include "http/parser.h"
#include "loop/loop.h"

struct mp_http_server;

struct mp_http_options {
  const char *host; /* an address, "127.0.0.1" or "::1"; not a name */
  int port;         /* 0: any free one, see mp_http_server_port */
  bool reuse_port;  /* several servers share the port, the system spreads connections */
  struct mp_http_limits limits;
  size_t connections;  /* with more, one that waits for its client is closed (crowd.h) */
  size_t per_address;  /* of one address that is not this machine's own */
  size_t per_loopback; /* of one that is, which may be a proxy's; 0: no limit */
  size_t memory_bytes; /* kept for clients: what is read, what they do not take */
  size_t unsent_bytes; /* of a stream whose client does not read: more and it is closed */
  uint64_t idle_ms;    /* between requests */
  uint64_t head_ms;    /* from a request's first byte to the end of its head */
  uint64_t body_ms;    /* for the body ... */
  uint64_t body_rate;  /* ... plus the time that so many bytes a second take */
  uint64_t unsent_ms;  /* an answer of which the client takes nothing */
  uint64_t linger_ms;  /* after the last answer, until the client closes too */
};
/* All fields but host and port: 16 KiB head, 8 KiB target, 100 headers, 1 MiB body, 10,000
 * connections, 1,000 of one address, 256 MiB. */
struct mp_http_options mp_http_defaults(void);

struct mp_http_request {
  struct mp_http_message message; /* borrowed, until the answer */
  void *data;                     /* the handler's; NULL at first */
  /* All connections of the limit are being worked for. This one is let in so that the host can say
   * how it is: anything else is to be refused. The connection ends with the answer. */
  bool extra;
  /* The handler's, NULL at first. The client closed its sending side or the connection broke: at
   * most once; the answer is still due. */
  void (*on_gone)(struct mp_http_request *request);
  /* A stream's client has taken all that was written. */
  void (*on_written)(struct mp_http_request *request);
};

struct mp_http_events {
  void (*on_request)(struct mp_http_server *server, void *data, struct mp_http_request *request);
  void (*on_closed)(void *data); /* the last word; the server's memory is gone afterwards */
};

int mp_http_server_open(struct mp_http_server **out, struct mp_loop *loop,
                        const struct mp_http_options *options, const struct mp_http_events *events,
                        void *data, struct mp_err *err) MP_MUST_CHECK;
int mp_http_server_port(const struct mp_http_server *server);

/* Stops listening; what is under way, and what a client sent before it could know, has `grace_ms`
 * to be answered, with "Connection: close". Called again it can only shorten the time. Requests not
 * answered by then lose their client but are still owed an answer. */
void mp_http_server_close(struct mp_http_server *server, uint64_t grace_ms);

/* The whole answer; the texts may go away after the call. The request is gone. */
void mp_http_respond(struct mp_http_request *request, const struct mp_http_answer *answer);

/* An answer in pieces: start (its body, if any, is the first piece), any number of writes, end.
 * Write gives the number of bytes that the client has not taken yet: wait for on_written when it
 * grows. Writing to a client that is gone is harmless. */
void mp_http_stream_start(struct mp_http_request *request, const struct mp_http_answer *answer);
size_t mp_http_stream_write(struct mp_http_request *request, const char *bytes, size_t n);
void mp_http_stream_end(struct mp_http_request *request);

/* The client's address ("" if it is gone); "10.0.0.7" or "::1", without port. */
const char *mp_http_peer(struct mp_http_request *request, char *out, size_t size);

struct mp_http_stats {
  size_t connections, requests; /* open, under way */
  uint64_t accepted, refused_connections, answered, malformed, timed_out, lost;
  uint64_t dismissed; /* to make room for others */
};
void mp_http_server_stats(const struct mp_http_server *server, struct mp_http_stats *stats);

#endif
