/* copy.h: COPY on a connection. Pipeline mode does not know COPY (it would end the connection), so
 * the connection leaves the mode for it and enters it again afterwards; nothing else may be sent
 * meanwhile.
 *
 *   STARTING --> PUTTING --> ENDING --> (over)      PUTTING: the server takes data
 *        \   \-> GETTING ----^                      GETTING: the server sends data
 *         \------------------^                      ENDING: the answer to the whole is awaited
 *
 * Data travels only as fast as its other end is: whoever puts waits for on_ready, and the socket is
 * read when mp_conn_copy_get asks for more. Owner of struct mp_copy: the caller, until on_done. */
#ifndef MP_COPY_H
#define MP_COPY_H

#include "pg/conn.h"

enum mp_copy_state { MP_COPY_STARTING, MP_COPY_PUTTING, MP_COPY_GETTING, MP_COPY_ENDING };

struct mp_copy {
  enum mp_copy_state state; /* borrowed: which way the server wants it, once it has started */
  const char *sql;          /* may begin with SET LOCAL ...; */
  struct mp_result *result; /* private: the server's last result */
  /* The state has changed to PUTTING or GETTING; what was put is with the server; there may be data
   * to get. */
  void (*on_ready)(struct mp_copy *copy);
  /* Once, the last call. `result`: of the whole COPY, borrowed. The connection can be used again,
   * unless it was lost. */
  void (*on_done)(struct mp_copy *copy, struct mp_result *result, const struct mp_err *err);
};

/* Never calls back before it returns. MP_EBUSY: something is under way on the connection. */
int mp_conn_copy(struct mp_conn *conn, struct mp_copy *copy, struct mp_err *err) MP_MUST_CHECK;
/* PUTTING: takes a copy of the bytes. on_ready when there is room for more. */
void mp_conn_copy_put(struct mp_conn *conn, const char *data, size_t len);
/* PUTTING: all was put; with `failure` the server undoes it and reports an error that repeats the
 * text. */
void mp_conn_copy_end(struct mp_conn *conn, const char *failure);
/* GETTING: bytes of one row (free with PQfreemem), or NULL: on_ready or on_done follows. */
char *mp_conn_copy_get(struct mp_conn *conn, size_t *len);

#endif
